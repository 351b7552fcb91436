import { spawn, spawnSync } from "node:child_process";
import { dirname } from "node:path";
import { text } from "node:stream/consumers";

/** The checkout: Pulumi finds its project here, wherever the command was called. */
export const projectFolder = dirname(dirname(__dirname));

/** A mistake of the operator's, or a failure that has been told already: the message is all there is to say. */
export class CommandError extends Error {
  constructor(
    message: string,
    readonly exitCode = 1,
  ) {
    super(message);
  }
}

/**
 * Runs Pulumi on this terminal.
 * @param env beside this process's own
 * @throws CommandError with Pulumi's exit code
 */
export async function runPulumi(args: string[], env: Record<string, string> = {}): Promise<void> {
  const code = await runOnTerminal("pulumi", args, { ...process.env, ...env });
  if (code !== 0) throw new CommandError("", code);
}

/** Runs a program on this terminal to its end. @returns its exit code */
export async function runOnTerminal(
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<number> {
  const child = spawn(command, args, {
    cwd: command === "pulumi" ? projectFolder : process.env.PGS_CALLED_FROM,
    env,
    stdio: "inherit",
  });
  // Ctrl-C reaches the program as well, which ends in its own good time; this process waits for it.
  const wait = () => {};
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  process.on("SIGINT", wait);
  process.on("SIGTERM", pass);
  process.on("SIGHUP", pass);
  try {
    return await new Promise<number>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (status) => resolve(status ?? 1));
    });
  } finally {
    process.off("SIGINT", wait);
    process.off("SIGTERM", pass);
    process.off("SIGHUP", pass);
  }
}

/** Runs Pulumi silently, feeding it `stdin`. @throws CommandError with what it said */
export async function feedPulumi(args: string[], stdin: string): Promise<void> {
  const { code, stderr } = await quietly(args, stdin);
  if (code !== 0) throw new CommandError(stderr.trim(), code);
}

/** What Pulumi prints, parsed. @throws CommandError with what it said */
export async function askPulumi<T>(args: string[]): Promise<T> {
  const { code, stdout, stderr } = await quietly(args);
  if (code !== 0) throw new CommandError(stderr.trim(), code);
  return JSON.parse(stdout) as T;
}

/** Runs Pulumi silently to its end, whatever its exit code. */
export async function quietly(args: string[], stdin = "") {
  const child = spawn("pulumi", [...args, "--non-interactive"], { cwd: projectFolder });
  const ended = new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => resolve(status ?? 1));
  });
  child.stdin.on("error", () => {});
  child.stdin.end(stdin);
  const [code, stdout, stderr] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
  return { code, stdout, stderr };
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
