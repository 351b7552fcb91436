import type Docker from "dockerode";

export interface ExecResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface ExecOptions {
  /** Whatever is secret belongs here: `docker inspect` and the process list show arguments and environment. */
  stdin?: string;
  /** `NAME=VALUE` */
  env?: string[];
  user?: string;
  /** How long the command may take, in seconds; then it is ended. Default: 60. */
  seconds?: number;
  /** How many bytes it may print on both streams together. Default: 1 MiB. */
  outputLimit?: number;
}

/** The command took longer than it may. */
export class ExecTimeoutError extends Error {
  constructor(readonly seconds: number) {
    super(`no answer from the container in ${seconds} s`);
  }
}

/** The command, or another process that writes to its streams, printed more than it may. */
export class OutputLimitError extends Error {
  constructor(readonly bytes: number) {
    super(`the container answered with more than ${bytes} bytes`);
  }
}

/** Seconds that a command has to end after its deadline. */
const grace = 5;

/**
 * Runs `command` in a running container: the one way to do so. A tenant's code runs there too, so the time and the
 * output are limited from outside, and a command past its deadline is ended inside. The container needs `timeout`
 * (coreutils or BusyBox).
 * @throws ExecTimeoutError, OutputLimitError, and the engine's own errors
 */
export async function exec(
  container: Docker.Container,
  command: string[],
  { stdin, env, user, seconds = 60, outputLimit = 1 << 20 }: ExecOptions = {},
): Promise<ExecResult> {
  const process = await container.exec({
    Cmd: ["timeout", "-k", String(grace), String(seconds), ...command],
    Env: env,
    User: user,
    AttachStdin: stdin !== undefined,
    AttachStdout: true,
    AttachStderr: true,
  });
  const started = performance.now();
  const stream = await process.start({ hijack: true, stdin: stdin !== undefined });
  const ended = new Promise<void>((resolve, reject) => {
    stream.on("end", resolve);
    stream.on("close", resolve);
    stream.on("error", reject);
  });
  let length = 0;
  const collect = (chunks: Buffer[]) => ({
    write: (chunk: Buffer) => {
      length += chunk.length;
      if (length > outputLimit) stream.destroy(new OutputLimitError(outputLimit));
      else chunks.push(Buffer.from(chunk));
    },
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  type Sink = NodeJS.WritableStream;
  container.modem.demuxStream(stream, collect(stdout) as Sink, collect(stderr) as Sink);
  // A command that ends before it has read all its input closes the stream: its exit code tells more.
  if (stdin !== undefined) stream.end(stdin);
  // In the container the tenant could stop what keeps the time.
  const last = setTimeout(() => stream.destroy(new ExecTimeoutError(seconds)), (seconds + grace + 5) * 1000);
  await ended.finally(() => clearTimeout(last));
  const { ExitCode } = await process.inspect();
  if (ExitCode === null) throw new Error("the connection to the Docker engine was cut while a command ran");
  if ((ExitCode === 124 || ExitCode === 137) && performance.now() - started >= seconds * 1000) {
    throw new ExecTimeoutError(seconds);
  }
  const text = (chunks: Buffer[]) => Buffer.concat(chunks).toString("utf8");
  return { code: ExitCode, stdout: text(stdout), stderr: text(stderr) };
}

/** Starts a command that runs on whatever becomes of this process. Nothing of what it prints is kept. */
export async function execDetached(container: Docker.Container, command: string[]): Promise<void> {
  const process = await container.exec({ Cmd: command });
  await process.start({ Detach: true });
}

/**
 * Text that a tenant's code may have written, for a terminal or a log: what steers a terminal is escaped, line ends and
 * tabs become spaces, and it ends after `most` characters.
 */
export function printable(text: string, most = 2000): string {
  const shown = escapeSteering(text.trim().replace(/[\t\r\n]+/g, " "));
  return shown.length > most ? `${shown.slice(0, most)}…` : shown;
}

/** What steers a terminal, as `\uXXXX`: in JSON it means the same as before. */
export function escapeSteering(text: string): string {
  return text.replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    /[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    escaped,
  );
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
