import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import type Docker from "dockerode";
import { CommandError } from "./pulumi";

/**
 * The Docker engine at `host` (unix://, tcp:// or ssh://, as in DOCKER_HOST); without one, the local one.
 * DOCKER_TLS_VERIFY and DOCKER_CERT_PATH count as they do for the docker command.
 */
export function engine(host: string | undefined): Docker {
  // dockerode, and the docker command that `connect` may start, know it from the environment.
  if (host) process.env.DOCKER_HOST = host;
  // Takes a tenth of a second to load: only for the commands that need it.
  const Client = require("dockerode") as typeof Docker;
  return new Client();
}

export function engineName(host: string | undefined): string {
  return host || "unix:///var/run/docker.sock";
}

/** The containers of this prefix, running or not, by name: one request. @throws CommandError */
export async function containersOf(
  docker: Docker,
  prefix: string,
  host: string | undefined,
): Promise<Map<string, Docker.ContainerInfo>> {
  try {
    const all = await docker.listContainers({ all: true, filters: { label: ["pgs.stack"] } });
    return new Map(
      all.flatMap((info) =>
        info.Names.filter((name) => name.startsWith(`/${prefix}-`)).map((name) => [name.slice(1), info]),
      ),
    );
  } catch (error) {
    throw new CommandError(
      `the Docker engine at ${engineName(host)} does not answer (${(error as Error).message}): ./pgs setup --check`,
    );
  }
}

/** What a command in a running container prints; undefined when it gives no answer in `seconds`. */
export async function outputOf(
  container: Docker.Container,
  command: string[],
  env: string[],
  seconds: number,
): Promise<string | undefined> {
  const process = await container.exec({ Cmd: command, Env: env, AttachStdout: true, AttachStderr: true });
  const stream = await process.start({});
  const stdout = new PassThrough();
  container.modem.demuxStream(stream, stdout, new PassThrough().resume());
  const timer = setTimeout(() => stream.destroy(), seconds * 1000);
  stream.on("close", () => stdout.end());
  stream.on("end", () => stdout.end());
  stream.on("error", () => stdout.end());
  return text(stdout).finally(() => clearTimeout(timer));
}

/** Does `work` for each item, `atOnce` of them at a time. @returns the results in the items' order */
export async function forEach<Item, Result>(
  items: Item[],
  atOnce: number,
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index] as Item);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  return results;
}
