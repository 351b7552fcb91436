import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type Docker from "dockerode";
import { ifPresent, isMissing } from "../docker/client";
import { printable } from "../docker/exec";
import { hardened, postgresUser } from "../docker/hardening";
import { stackLabel } from "../docker/labels";

/** On containers and volumes that a restore needs for a while: which step they are of. */
export const taskLabel = "pgs.task";

/** What a container of a restore may use. What runs in it is data of a tenant, and may be code of the tenant. */
export interface Limits {
  /** Bytes, without swap. */
  memory: number;
  /** Weight where processors are short; the engine's default is 1024. */
  cpuShares: number;
}

export const restoreLimits: Limits = { memory: 1024 ** 3, cpuShares: 512 };

/** A command and the container that it runs in. */
export interface Task {
  /** Program and arguments. */
  command: string[];
  /** Name of the container. */
  name: string;
  /** Value of the stack's label. */
  stack: string;
  /** Id or name of the image. */
  image: string;
  env?: string[];
  /** Volumes, as `NAME:PATH` or `NAME:PATH:ro`. */
  binds: string[];
  /** Name of the network that it is in. Default: none. */
  network?: string;
  limits?: Limits;
  /** Called with what the command reports of its progress. */
  onProgress?: (progress: string) => void;
}

/** A script of this folder. */
export interface Script extends Omit<Task, "command" | "env"> {
  /** The script's file name; of several, each continues where the one before it ended. */
  script: string | string[];
  args: string[];
  /** PostgreSQL major version of the data. */
  version: number;
}

/** Seconds that a command may take. */
const deadline = 86_400;

/** Bytes of standard output that are read; of standard error, so many of its end. */
const outputLimit = 4 << 20;
const errorLimit = 64 << 10;

/**
 * Runs a script to its end in a container of its own.
 * @returns what it wrote to standard output
 * @throws ScriptError with the end of what it wrote to standard error when it failed
 */
export function runScript(docker: Docker, { script, args, version, ...task }: Script): Promise<string> {
  const text = [script].flat().map(scriptText).join("\n");
  return runTask(docker, {
    ...task,
    command: ["bash", "-c", text, "bash", ...args],
    env: [`PGDATA=/var/lib/postgresql/${version}/docker`],
  });
}

/** The same of a command of the image. */
export async function runTask(docker: Docker, task: Task): Promise<string> {
  const { command, name, stack, image, env, binds, network = "none", limits = restoreLimits } = task;
  await removeTask(docker, name, stack);
  const container = await docker.createContainer({
    name,
    Image: image,
    // It ends with whoever started it: the connection is its standard input.
    Entrypoint: ["bash", "-c", endWithInput, "bash", String(deadline)],
    Cmd: command,
    User: `${postgresUser}:${postgresUser}`,
    Env: env,
    Labels: { [stackLabel]: stack, [taskLabel]: "restore" },
    AttachStdin: true,
    OpenStdin: true,
    StdinOnce: true,
    HostConfig: {
      ...hardened,
      AutoRemove: true,
      Init: true,
      // What it prints is read as it comes.
      LogConfig: { Type: "none", Config: {} },
      NetworkMode: network,
      Tmpfs: { "/tmp": "size=64m,mode=1777", "/var/run/postgresql": "size=1m,mode=1777" },
      Binds: binds,
      Memory: limits.memory,
      MemorySwap: limits.memory,
      CpuShares: limits.cpuShares,
      CpuPeriod: 100_000,
      CpuQuota: 200_000,
      PidsLimit: 256,
    },
  });
  try {
    const { code, stdout, stderr } = await attached(container, task.onProgress);
    if (code === 0) return stdout;
    throw new ScriptError(printable(stderr) || reasonOf(code), code);
  } finally {
    await removeContainer(container);
  }
}

export class ScriptError extends Error {
  constructor(
    message: string,
    readonly code: number,
  ) {
    super(message);
  }
}

/** The text of a script of this folder. */
export function scriptText(name: string): string {
  return readFileSync(join(__dirname, name), "utf8");
}

/** Of an earlier run. @throws Error when the name is taken by something else */
async function removeTask(docker: Docker, name: string, stack: string): Promise<void> {
  const container = docker.getContainer(name);
  const info = await ifPresent(container.inspect());
  if (!info) return;
  if (info.Config.Labels?.[stackLabel] !== stack) {
    throw new Error(
      `the container ${name} is not of this stack: remove it, or give one of the two another name`,
    );
  }
  await removeContainer(container);
}

async function removeContainer(container: Docker.Container): Promise<void> {
  try {
    await ifPresent(container.remove({ force: true, v: true }));
  } catch (error) {
    // The engine is removing it already.
    if ((error as { statusCode?: number }).statusCode !== 409) throw error;
    await container.wait({ condition: "removed" }).catch((gone) => {
      if (!isMissing(gone)) throw gone;
    });
  }
}

/** The engine closes standard input when the connection is lost, also that of a process which was killed. */
const endWithInput = `
  exec 3<&0 </dev/null
  timeout -k 10 "$@" 3<&- &
  command=$!
  { cat <&3 >/dev/null; kill -KILL $$; } &
  wait "$command"
  exit $?`;

function reasonOf(code: number): string {
  if (code === 124) return `it took more than ${deadline / 3600} hours`;
  if (code === 137) return "it was killed: it may need more memory than it may have";
  return `it ended with code ${code}`;
}

async function attached(
  container: Docker.Container,
  onProgress: ((progress: string) => void) | undefined,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const stream = (await container.attach({
    stream: true,
    stdin: true,
    stdout: true,
    stderr: true,
    hijack: true,
  })) as Duplex;
  const chunks: Buffer[] = [];
  let length = 0;
  let stderr = "";
  const progress = progressReader(onProgress);
  const sink = (write: (chunk: Buffer) => void) => ({ write }) as unknown as NodeJS.WritableStream;
  container.modem.demuxStream(
    stream,
    sink((chunk) => {
      length += chunk.length;
      if (length > outputLimit) stream.destroy(new Error(`it printed more than ${outputLimit} bytes`));
      else chunks.push(Buffer.from(chunk));
    }),
    sink((chunk) => {
      stderr = (stderr + progress(chunk.toString("utf8"))).slice(-errorLimit);
    }),
  );
  const ended = new Promise<void>((resolve, reject) => {
    stream.on("end", resolve).on("close", resolve).on("error", reject);
  });
  const exit = container.wait({ condition: "next-exit" });
  await container.start();
  const timer = setTimeout(() => stream.destroy(new Error(reasonOf(124))), (deadline + 60) * 1000);
  try {
    await ended;
    return { code: (await exit).StatusCode, stdout: Buffer.concat(chunks).toString("utf8"), stderr };
  } finally {
    clearTimeout(timer);
    exit.catch(() => {});
    stream.destroy();
  }
}

/** @returns takes the lines `progress: …` out of what is written to standard error */
function progressReader(onProgress: ((progress: string) => void) | undefined): (text: string) => string {
  let started = "";
  return (text) => {
    const lines = (started + text).split("\n");
    started = lines.pop() ?? "";
    let rest = "";
    if (started.length > 4096) {
      rest = started;
      started = "";
    }
    for (const line of lines) {
      const [, progress] = /^progress: (.*)/.exec(line) ?? [];
      if (progress === undefined) rest = `${rest}${line}\n`;
      else onProgress?.(printable(progress, 200));
    }
    return rest;
  };
}
