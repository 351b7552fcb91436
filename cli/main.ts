import { CommanderError } from "commander";
import { program } from "./lib/program";
import { CommandError } from "./lib/pulumi";

async function main(): Promise<void> {
  try {
    await program.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
    else if (error instanceof CommandError) {
      if (error.message) console.error(error.message);
      process.exitCode = error.exitCode;
    } else throw error;
  }
}

void main();
