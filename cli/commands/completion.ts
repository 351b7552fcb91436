import type { Command } from "commander";
import { command } from "../lib/command";
import { completionScript, shells } from "../lib/completion";
import { CommandError } from "../lib/pulumi";
import { stackConfig } from "../lib/stack";

export const completion = command(
  "completion",
  "completion of commands, options and tenants for a shell",
  "source <(./pgs completion bash)            for this shell; in ~/.bashrc for every one",
  "source <(./pgs completion zsh)             after compinit",
  "./pgs completion fish | source",
)
  .argument("<shell>", "bash, zsh or fish")
  .action(async (shell: string, _options: unknown, self: Command) => {
    if (!(shell in shells)) throw new CommandError(`completion is for bash, zsh or fish, got ${shell}`, 2);
    const commands = self.parent?.commands ?? [];
    console.log(completionScript(shell, commands, (await stackConfig("any")).tenantsFile));
  });
