import { posix } from "node:path";
import type Docker from "dockerode";
import { isMissing } from "./client";
import { exec } from "./exec";
import { type FileToPut, putFiles } from "./files";

/** One file of a running container. */
interface Change {
  path: string;
  /** Undefined: it is removed. */
  content: string | undefined;
  mode?: number;
  owner?: number;
}

interface Waiting extends Change {
  resolve: () => void;
  reject: (reason: unknown) => void;
}

/** By container and folder: what waits until the changes that are under way there are made. */
const queues = new Map<string, Waiting[]>();

/**
 * Replaces a file of a running container in one step: who reads it must never see half of it.
 * @param rights by default root alone reads it
 */
export function replaceFile(
  container: Docker.Container,
  path: string,
  content: string,
  rights: { mode?: number; owner?: number } = {},
): Promise<void> {
  return change(container, { path, content, ...rights });
}

/** Removes a file of a running container; one that is gone is no error. */
export function removeFile(container: Docker.Container, path: string): Promise<void> {
  return change(container, { path, content: undefined });
}

/**
 * A process in a container costs a twentieth of a second, so all changes that wait while one is made are made
 * together: of fifty tenants that are removed at once, Traefik reads its folder a few times.
 */
function change(container: Docker.Container, one: Change): Promise<void> {
  const folder = posix.dirname(one.path);
  const key = `${container.id} ${folder}`;
  return new Promise((resolve, reject) => {
    const waiting = { ...one, resolve, reject };
    const queue = queues.get(key);
    if (queue) {
      queue.push(waiting);
      return;
    }
    queues.set(key, [waiting]);
    void makeAll(container, folder, key);
  });
}

async function makeAll(container: Docker.Container, folder: string, key: string): Promise<void> {
  for (let batch = nextOf(key); batch.length > 0; batch = nextOf(key)) {
    try {
      await make(container, folder, batch);
      for (const { resolve } of batch) resolve();
    } catch (error) {
      // What one of them fails for says nothing of the others.
      if (batch.length === 1) batch[0]?.reject(error);
      else for (const one of batch) await make(container, folder, [one]).then(one.resolve, one.reject);
    }
  }
  queues.delete(key);
}

/** Takes what waits out of the queue, up to the second change of a file. */
function nextOf(key: string): Waiting[] {
  const queue = queues.get(key) ?? [];
  const second = queue.findIndex(({ path }, index) => queue.slice(0, index).some((one) => one.path === path));
  return queue.splice(0, second === -1 ? queue.length : second);
}

const renameOrRemove = `
  set -e
  cd "$1"; shift
  while [ $# -gt 0 ]; do
    case $1 in
    rename) mv -f ".new/$2.new" "$2" ;;
    remove) rm -f "$2" ;;
    esac
    shift 2
  done`;

async function make(container: Docker.Container, folder: string, changes: Change[]): Promise<void> {
  const nameOf = ({ path }: Change) => posix.basename(path);
  // A name that neither Traefik nor Barman reads, also when it is left there.
  const files = changes.flatMap((one) =>
    one.content === undefined
      ? []
      : [{ name: `${nameOf(one)}.new`, content: one.content, owner: one.owner ?? 0, mode: one.mode }],
  );
  if (files.length > 0) await putAside(container, posix.join(folder, ".new"), files);
  const steps = changes.flatMap((one) => [one.content === undefined ? "remove" : "rename", nameOf(one)]);
  const { code, stderr } = await exec(container, ["sh", "-c", renameOrRemove, "sh", folder, ...steps]);
  if (code === 0) return;
  throw new Error(`cannot change ${changes.map(({ path }) => path).join(", ")}: ${stderr.trim()}`);
}

/** Into a folder of the same volume that nobody watches: Traefik reads all routes anew for each step of a file's making. */
async function putAside(container: Docker.Container, folder: string, files: FileToPut[]): Promise<void> {
  try {
    await putFiles(container, folder, files);
  } catch (error) {
    if (!isMissing(error)) throw error;
    await exec(container, ["mkdir", "-p", folder]);
    await putFiles(container, folder, files);
  }
}
