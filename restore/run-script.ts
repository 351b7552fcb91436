import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { PassThrough } from "node:stream";
import type Docker from "dockerode";

/** A script of this folder, and the container that it runs in. */
export interface Script {
  /** The script's file name; of several, each goes on where the one before it ended. */
  script: string | string[];
  args: string[];
  /** Name of the container. One that has it is left of a run that was cut off, and is removed. */
  name: string;
  /** Id or name of the image. */
  image: string;
  /** PostgreSQL major version of the data. */
  version: number;
  /** Volumes, as `NAME:PATH` or `NAME:PATH:ro`. */
  binds: string[];
  /** Is told how far the script is, about every ten seconds. */
  tell?: (progress: string) => void;
  /** Name of the network that it is in. Default: none. */
  network?: string;
  /** Hard limit of memory in bytes, without swap. Default: none. */
  memory?: number;
  /** Weight where processors are short; the engine's default is 1024. */
  cpuShares?: number;
}

/** A day, in seconds: what a script may take. */
const limit = 86_400;

/** What runs in a container of a restore has no right, and nothing to write to but its volumes. */
const confined = {
  ReadonlyRootfs: true,
  Tmpfs: { "/tmp": "", "/var/run/postgresql": "mode=1777" },
  CapDrop: ["ALL"],
  SecurityOpt: ["no-new-privileges:true"],
};

/**
 * Runs a script to its end in a container of its own, and removes that.
 * @returns what the script wrote to standard output
 * @throws ScriptError with what it wrote to standard error when it failed
 */
export async function runScript(docker: Docker, script: Script): Promise<string> {
  await removeContainer(docker, script.name);
  const container = await docker.createContainer({
    name: script.name,
    Image: script.image,
    Entrypoint: ["bash", "-c", [script.script].flat().map(scriptText).join("\n"), "bash"],
    Cmd: script.args,
    User: "999:999",
    Env: [`PGDATA=/var/lib/postgresql/${script.version}/docker`],
    HostConfig: {
      ...confined,
      NetworkMode: script.network ?? "none",
      Binds: script.binds,
      ...(script.memory && { Memory: script.memory, MemorySwap: script.memory }),
      ...(script.cpuShares && { CpuShares: script.cpuShares }),
    },
  });
  try {
    await container.start();
    if (script.tell) await follow(container, script.tell);
    const code = await ended(container);
    if (code === 0) return await said(container, "stdout");
    throw new ScriptError((await said(container, "stderr")).trim() || "it ended without a word", code);
  } finally {
    await removeContainer(docker, container.id);
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

/** Removes a container with the volumes that its image made; one that is gone is no error. */
async function removeContainer(docker: Docker, name: string): Promise<void> {
  await unlessGone(docker.getContainer(name).remove({ force: true, v: true }));
}

/** Waits for the removal of what may be gone already. */
export async function unlessGone(removal: Promise<unknown>): Promise<void> {
  await removal.catch((error: { statusCode?: number }) => {
    if (error.statusCode !== 404) throw error;
  });
}

async function ended(container: Docker.Container): Promise<number> {
  const timer = setTimeout(() => void container.kill().catch(() => {}), limit * 1000);
  try {
    return (await container.wait()).StatusCode;
  } finally {
    clearTimeout(timer);
  }
}

/** Hands on what progress.sh tells, as long as the container runs. */
async function follow(container: Docker.Container, tell: (progress: string) => void): Promise<void> {
  const log = await container.logs({ follow: true, stderr: true });
  const lines = new PassThrough();
  container.modem.demuxStream(log, lines, lines);
  // Where the connection is lost, it is the script's end that tells.
  log.on("end", () => lines.end()).on("error", () => lines.end());
  createInterface(lines).on("line", (line) => {
    const [, progress] = /^progress: (.*)/.exec(line) ?? [];
    if (progress) tell(progress);
  });
}

/** Of standard output all, of standard error the end. */
async function said(container: Docker.Container, stream: "stdout" | "stderr"): Promise<string> {
  const which = { stdout: stream === "stdout", stderr: stream === "stderr" };
  const log = (await container.logs({ ...which, tail: stream === "stderr" ? 10 : 1000 })) as Buffer;
  // Each frame has a head of eight bytes, the last four of which are its length.
  const lines: string[] = [];
  for (let at = 0; at + 8 <= log.length; at += 8 + log.readUInt32BE(at + 4)) {
    lines.push(log.toString("utf8", at + 8, at + 8 + log.readUInt32BE(at + 4)));
  }
  return lines.join("").replace(/^progress: .*\n?/gm, "");
}
