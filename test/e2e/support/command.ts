import { spawn } from "node:child_process";
import { setTimeout } from "node:timers/promises";

export interface Result {
  code: number;
  stdout: string;
  stderr: string;
  /** Both, as they came. */
  output: string;
  seconds: number;
}

export interface Options {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  stdin?: string;
  /** Seconds after which it is killed; default 240. */
  timeout?: number;
}

/** Runs a command to its end, whatever its exit code. */
export async function run(command: string, args: string[], options: Options = {}): Promise<Result> {
  const started = performance.now();
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    timeout: (options.timeout ?? 240) * 1000,
    killSignal: "SIGKILL",
  });
  const result: Result = { code: -1, stdout: "", stderr: "", output: "", seconds: 0 };
  const collect = (stream: "stdout" | "stderr") => (chunk: Buffer) => {
    result[stream] += chunk;
    result.output += chunk;
  };
  child.stdout.on("data", collect("stdout"));
  child.stderr.on("data", collect("stderr"));
  child.stdin.on("error", () => {});
  child.stdin.end(options.stdin ?? "");
  result.code = await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve(code ?? (signal ? 128 : -1)));
  });
  result.seconds = (performance.now() - started) / 1000;
  return result;
}

/** Runs a command that must succeed. @returns its standard output */
export async function succeed(command: string, args: string[], options: Options = {}): Promise<string> {
  const result = await run(command, args, options);
  if (result.code !== 0) {
    throw new Error(`${command} ${args.join(" ")} ended with ${result.code}:\n${result.output}`);
  }
  return result.stdout;
}

/**
 * Polls until `check` holds. It pauses about as long as a check takes: other files need the processors too.
 * @throws after `seconds` with the last failure
 */
export async function eventually<T>(seconds: number, check: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    const begun = performance.now();
    try {
      return await check();
    } catch (error) {
      const ended = performance.now();
      if (ended > deadline) throw error;
      await setTimeout(Math.min(500, Math.max(50, ended - begun)));
    }
  }
}
