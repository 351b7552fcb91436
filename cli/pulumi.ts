import { spawn, spawnSync } from "node:child_process";
import { dirname } from "node:path";

/** The checkout: Pulumi finds its project here, wherever the command was called. */
export const projectFolder = dirname(__dirname);

/** A mistake of the operator's, or a failure that has been told already: the message is all there is to say. */
export class CommandError extends Error {
  constructor(
    message: string,
    readonly exitCode = 1,
  ) {
    super(message);
  }
}

/** Runs Pulumi on this terminal. @throws CommandError with Pulumi's exit code */
export async function runPulumi(args: string[]): Promise<void> {
  const child = spawn("pulumi", args, { cwd: projectFolder, stdio: "inherit" });
  // Ctrl-C reaches Pulumi as well, which ends in its own good time; this process waits for it.
  const wait = () => {};
  process.on("SIGINT", wait);
  const code = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => resolve(status ?? 1));
  });
  process.off("SIGINT", wait);
  if (code !== 0) throw new CommandError("", code);
}

/** Runs Pulumi silently, feeding it `stdin`. @throws CommandError with what it said */
export function feedPulumi(args: string[], stdin: string): void {
  const result = spawnSync("pulumi", args, { cwd: projectFolder, encoding: "utf8", input: stdin });
  if (result.error) throw result.error;
  if (result.status !== 0) throw new CommandError(result.stderr.trim(), result.status ?? 1);
}

/** What Pulumi prints, parsed. */
export function askPulumi<T>(args: string[]): T {
  const result = spawnSync("pulumi", args, { cwd: projectFolder, encoding: "utf8" });
  if (result.error) throw result.error;
  if (result.status !== 0) throw new CommandError(result.stderr.trim(), result.status ?? 1);
  return JSON.parse(result.stdout) as T;
}

/** Selects the stack `dev`, making it, where none was ever selected: as `pulumi stack select` does it. */
export function ensureStack(): void {
  if (process.env.PULUMI_STACK) return;
  const selected = spawnSync("pulumi", ["stack", "--show-name", "--non-interactive"], {
    cwd: projectFolder,
    encoding: "utf8",
  });
  if (selected.status === 0) return;
  const made = spawnSync("pulumi", ["stack", "select", "--create", "dev", "--non-interactive"], {
    cwd: projectFolder,
    encoding: "utf8",
  });
  if (made.status !== 0) throw new CommandError(made.stderr.trim(), made.status ?? 1);
  process.stderr.write("Using the stack dev (pulumi stack select NAME takes another).\n");
}
