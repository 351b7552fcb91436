import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import type { EngineEvent } from "./engine-events";
import { explainError } from "./explain-error";

/** The checkout: Pulumi finds its project here, wherever the command was called. */
export const projectFolder = dirname(dirname(__dirname));

/** A mistake of the operator's, or a failure that was reported already: only its message is printed. */
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

/**
 * Runs Pulumi on this terminal, and reads its events when it has ended.
 * @returns its exit code
 */
export async function watchPulumi(
  args: string[],
  env: Record<string, string>,
  onEvent: (event: EngineEvent) => void,
): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "pgs-events-"));
  try {
    const log = join(folder, "events");
    // The option is there for programs that run Pulumi, and hidden otherwise.
    const options = { ...process.env, ...env, PULUMI_DEBUG_COMMANDS: "true" };
    const code = await runOnTerminal("pulumi", [...args, "--event-log", log], options);
    const lines = existsSync(log) ? readFileSync(log, "utf8").split("\n") : [];
    for (const line of lines) if (line) onEvent(JSON.parse(line));
    return code;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
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
  return ended(child);
}

let interrupted = false;

/** Whether a signal came while a child ran: nothing else is to be begun. */
export function wasInterrupted(): boolean {
  return interrupted;
}

/** Waits for a child process, which gets the signals of this one. @returns its exit code */
async function ended(child: ChildProcess): Promise<number> {
  // Ctrl-C reaches the child as well, which ends by itself; this process waits for it.
  const wait = () => {
    interrupted = true;
  };
  const pass = (signal: NodeJS.Signals) => {
    wait();
    child.kill(signal);
  };
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

/**
 * Runs Pulumi with its events as JSON, one a line.
 * @returns its exit code, and whatever it printed that is no event: errors from before the engine starts
 */
export async function streamPulumi(
  args: string[],
  env: Record<string, string>,
  onEvent: (event: EngineEvent) => void,
): Promise<{ code: number; output: string }> {
  const child = spawn("pulumi", [...args, "--json", "--non-interactive"], {
    cwd: projectFolder,
    // Without it, a preview prints one text at its end.
    env: { ...process.env, ...env, PULUMI_ENABLE_STREAMING_JSON_PREVIEW: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => {
    if (line.startsWith("{")) onEvent(JSON.parse(line));
    else output += `${line}\n`;
  });
  child.stderr.on("data", (chunk) => {
    output += chunk;
  });
  const [code] = await Promise.all([ended(child), once(lines, "close")]);
  return { code, output };
}

/** Runs Pulumi silently, feeding it `stdin`. @throws CommandError with its error */
export async function feedPulumi(args: string[], stdin: string): Promise<void> {
  const { code, stderr } = await quietly(args, stdin);
  if (code !== 0) throw pulumiError(stderr, code);
}

/** What Pulumi prints, parsed. @throws CommandError with its error */
export async function askPulumi<T>(args: string[]): Promise<T> {
  const { code, stdout, stderr } = await quietly(args);
  if (code !== 0) throw pulumiError(stderr, code);
  return JSON.parse(stdout) as T;
}

function pulumiError(output: string, code: number): CommandError {
  return new CommandError(explainError(output) ?? output.trim(), code);
}

/** Runs Pulumi silently to its end, whatever its exit code. */
export async function quietly(args: string[], stdin = "") {
  const child = spawn("pulumi", [...args, "--non-interactive"], { cwd: projectFolder });
  child.stdin.on("error", () => {});
  child.stdin.end(stdin);
  const [code, stdout, stderr] = await Promise.all([ended(child), text(child.stdout), text(child.stderr)]);
  return { code, stdout, stderr };
}

/**
 * Selects the stack `dev`, making it, where none was ever selected.
 * @param reason why a command failed; it is thrown again where it is not that
 */
export function ensureStack(reason?: unknown): void {
  if (process.env.PULUMI_STACK) {
    if (reason) throw reason;
    return;
  }
  const inProject = { cwd: projectFolder, encoding: "utf8" } as const;
  const selected = spawnSync("pulumi", ["stack", "--show-name", "--non-interactive"], inProject);
  if (selected.status === 0) {
    if (reason) throw reason;
    return;
  }
  const made = spawnSync("pulumi", ["stack", "select", "--create", "dev", "--non-interactive"], inProject);
  if (made.status !== 0) throw pulumiError(made.stderr, made.status ?? 1);
  process.stderr.write("Using the stack dev (pulumi stack select NAME takes another).\n");
}
