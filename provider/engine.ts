import { posix } from "node:path";
import { PassThrough } from "node:stream";
import { buffer } from "node:stream/consumers";
import Docker from "dockerode";
import * as tar from "tar-stream";

const engines = new Map<string, Docker>();

/**
 * The Docker engine at `host` (unix://, tcp:// or ssh://, as in DOCKER_HOST). Without one: DOCKER_HOST, or
 * the local socket. DOCKER_TLS_VERIFY and DOCKER_CERT_PATH count as they do for the docker command.
 */
export function engine(host: string | undefined): Docker {
  const key = host ?? "";
  let found = engines.get(key);
  if (!found) {
    // dockerode knows these addresses from its environment only.
    const inherited = process.env.DOCKER_HOST;
    if (host) process.env.DOCKER_HOST = host;
    found = new Docker();
    if (inherited === undefined) delete process.env.DOCKER_HOST;
    else process.env.DOCKER_HOST = inherited;
    engines.set(key, found);
  }
  return found;
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

/** Stops a container cleanly; one that is gone is no error. */
export async function stopCleanly(container: Docker.Container): Promise<void> {
  await ifPresent(container.stop({ t: stopSeconds }));
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

export interface ExecResult {
  code: number;
  stdout: string;
  stderr: string;
}

/**
 * Runs `command` in a running container, feeding it `stdin`. Whatever is secret belongs there: arguments and
 * environment can be read by `docker inspect`. It may take `seconds`; without them, as long as it likes.
 */
export async function exec(
  container: Docker.Container,
  command: string[],
  options: { stdin?: string; env?: string[]; user?: string; seconds?: number } = {},
): Promise<ExecResult> {
  const process = await container.exec({
    Cmd: command,
    Env: options.env,
    User: options.user,
    AttachStdin: options.stdin !== undefined,
    AttachStdout: true,
    AttachStderr: true,
  });
  const stream = await process.start({ hijack: true, stdin: options.stdin !== undefined });
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  container.modem.demuxStream(stream, stdout, stderr);
  const ended = new Promise<void>((resolve, reject) => {
    stream.on("end", resolve);
    stream.on("close", resolve);
    stream.on("error", reject);
  });
  const output = Promise.all([buffer(stdout), buffer(stderr)]);
  // A command that ends before it has read all its input closes the stream: its exit code tells more.
  if (options.stdin !== undefined) stream.end(options.stdin);
  const { seconds } = options;
  const timer =
    seconds &&
    setTimeout(
      () => stream.destroy(new Error(`no answer from the container in ${seconds} s`)),
      seconds * 1000,
    );
  await ended.finally(() => clearTimeout(timer));
  stdout.end();
  stderr.end();
  const [out, err] = await output;
  const { ExitCode } = await process.inspect();
  if (ExitCode === null) throw new Error("the connection to the Docker engine was cut while a command ran");
  return { code: ExitCode, stdout: out.toString("utf8"), stderr: err.toString("utf8") };
}

/** Id of the user postgres in the images. */
export const postgresUser = 999;

/** Puts one file into a folder of a container, running or not. Its owner, by default root, alone reads it. */
export function putFile(
  container: Docker.Container,
  folder: string,
  name: string,
  content: string,
  owner = 0,
): Promise<void> {
  return putFiles(container, folder, [{ name, content, owner }]);
}

/** The same of several. */
export async function putFiles(
  container: Docker.Container,
  folder: string,
  files: { name: string; content: string; owner: number }[],
): Promise<void> {
  const archive = tar.pack();
  for (const { name, content, owner } of files) {
    archive.entry({ name, mode: 0o600, uid: owner, gid: owner }, content);
  }
  archive.finalize();
  await container.putArchive(await buffer(archive), { path: folder });
}

/** One file of a container that runs or not; undefined when either is not there. */
export async function getFile(container: Docker.Container, path: string): Promise<string | undefined> {
  return (await getFiles(container, path))?.get(posix.basename(path));
}

/** The same of all files of a folder, by name, without those of folders in it. */
export function getFolder(
  container: Docker.Container,
  path: string,
): Promise<Map<string, string> | undefined> {
  return getFiles(container, posix.join(path, "/"));
}

async function getFiles(container: Docker.Container, path: string): Promise<Map<string, string> | undefined> {
  const archive = await ifPresent(container.getArchive({ path }));
  if (!archive) return undefined;
  const files = new Map<string, string>();
  const extract = tar.extract();
  archive.pipe(extract);
  for await (const entry of extract) {
    const content = (await buffer(entry)).toString("utf8");
    // FILE, or FOLDER/FILE.
    const [, name = "", deeper] = /^(?:[^/]*\/)?([^/]+)(\/.*)?$/.exec(entry.header.name) ?? [];
    if (entry.header.type === "file" && deeper === undefined) files.set(name, content);
  }
  return files;
}

const answers = new Map<string, Promise<unknown>>();

/**
 * One answer for all resources that are looked at in one plan, which asks the same of the engine for each of them. It
 * holds for three seconds, and no longer than until this provider changes something.
 */
export function askedOnce<T>(question: string, ask: () => Promise<T>): Promise<T> {
  const known = answers.get(question);
  if (known) return known as Promise<T>;
  const answer = ask();
  answers.set(question, answer);
  const forget = () => setTimeout(() => answers.delete(question), 3000).unref();
  answer.then(forget, forget);
  return answer;
}

/** The engine's networks by name, without the containers in them: its list has none. */
export function networksOf(host: string | undefined): Promise<Map<string, Docker.NetworkInspectInfo>> {
  return askedOnce(`networks ${host}`, async () => {
    const list = await engine(host).listNetworks();
    return new Map(list.map((network) => [network.Name, network]));
  });
}

/** A container that many resources have to do with; undefined when it is gone. */
export function sharedContainer(
  host: string | undefined,
  id: string,
): Promise<Docker.ContainerInspectInfo | undefined> {
  return askedOnce(`container ${host} ${id}`, () => ifPresent(engine(host).getContainer(id).inspect()));
}

/** Before and after a change. */
export function forgetAnswers(): void {
  answers.clear();
}
