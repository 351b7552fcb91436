import { readFileSync } from "node:fs";
import { join } from "node:path";
import type Docker from "dockerode";

const clients = new Map<string, Docker>();

/**
 * The client of the Docker engine at `host`: unix://, npipe://, tcp:// or ssh://, as in DOCKER_HOST. Without one:
 * DOCKER_HOST, or the local socket. DOCKER_TLS_VERIFY and DOCKER_CERT_PATH count as they do for the docker command.
 * @throws Error when `host` is no such address
 */
export function dockerClient(host: string | undefined): Docker {
  const key = host ?? "";
  let client = clients.get(key);
  if (!client) {
    // Takes a tenth of a second to load: only for the commands that need it.
    const Client = require("dockerode") as typeof Docker;
    client = new Client(host === undefined ? undefined : connectionOptions(host, process.env));
    clients.set(key, client);
  }
  return client;
}

/** The engine's address for messages. */
export function engineName(host: string | undefined): string {
  return host || process.env.DOCKER_HOST || "unix:///var/run/docker.sock";
}

/**
 * What dockerode needs to know of an address. It reads DOCKER_HOST from the environment alone, which is the process's
 * own and stays as it is; so every option that it would take from there is given here.
 */
export function connectionOptions(
  host: string,
  env: Record<string, string | undefined>,
): Docker.DockerOptions & { pathPrefix?: string } {
  const none = { host: undefined, port: undefined, socketPath: undefined };
  const [, socket] = /^(?:unix|npipe):\/\/(.+)$/.exec(host) ?? [];
  if (socket) return { ...none, protocol: "http", socketPath: socket };
  let url: URL;
  try {
    url = new URL(host.includes("://") ? host : `tcp://${host}`);
  } catch {
    throw new Error(`${host} is no address of a Docker engine: expected unix://, tcp:// or ssh://`);
  }
  const at = { ...none, host: url.hostname, port: url.port || undefined };
  switch (url.protocol) {
    case "ssh:":
      return { ...at, protocol: "ssh", username: url.username, sshOptions: { agent: env.SSH_AUTH_SOCK } };
    case "tcp:":
    case "http:":
    case "https:": {
      const verified = env.DOCKER_TLS_VERIFY === "1" || url.protocol === "https:" || url.port === "2376";
      const folder = env.DOCKER_CERT_PATH;
      const pem = (file: string) => readFileSync(join(folder ?? "", file));
      const pair = folder ? { ca: pem("ca.pem"), cert: pem("cert.pem"), key: pem("key.pem") } : {};
      return { ...at, pathPrefix: "/", protocol: verified ? "https" : "http", ...pair };
    }
    default:
      throw new Error(`${host} is no address of a Docker engine: expected unix://, tcp:// or ssh://`);
  }
}

/** Whether the engine answered that there is no such thing. */
export function isMissing(error: unknown): boolean {
  return (error as { statusCode?: number }).statusCode === 404;
}

/** Waits for `answer`; undefined when the engine says that there is no such thing. */
export async function ifPresent<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Seconds that PostgreSQL's fast shutdown may take, to write what is in memory, before the engine kills it. */
export const stopSeconds = 120;

/** Stops a container; one that is stopped or gone is no error. */
export async function stopCleanly(container: Docker.Container, seconds = stopSeconds): Promise<void> {
  try {
    await ifPresent(container.stop({ t: seconds }));
  } catch (error) {
    // Not modified: it was stopped already.
    if ((error as { statusCode?: number }).statusCode !== 304) throw error;
  }
}

/** Starts a container that somebody stopped or paused. */
export async function ensureRunning(
  container: Docker.Container,
  { State }: Docker.ContainerInspectInfo,
): Promise<void> {
  if (State.Paused) await container.unpause();
  // What kept it from starting may be gone, and the engine waits up to a minute between its tries.
  else if (State.Restarting) await container.restart({ t: stopSeconds });
  else if (!State.Running) await container.start();
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
