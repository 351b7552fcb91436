import { posix } from "node:path";
import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import type Docker from "dockerode";
import * as tar from "tar-stream";
import { ifPresent } from "./client";

/** One file to be put into a container. */
export interface FileToPut {
  name: string;
  content: string;
  /** User and group id; alone reads it, unless `mode` says more. */
  owner: number;
  mode?: number;
}

/** One file as it is in a container. */
export interface StoredFile {
  content: string;
  /** Its permissions alone. */
  mode: number;
}

/** Bytes and files that are read of one answer; what the product keeps in containers is far less. */
const most = 64 << 20;
const mostFiles = 10_000;
/** Seconds that one answer may take. */
const readSeconds = 30;

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
  files: FileToPut[],
): Promise<void> {
  const archive = tar.pack();
  for (const { name, content, owner, mode = 0o600 } of files) {
    archive.entry({ name, mode, uid: owner, gid: owner }, content);
  }
  archive.finalize();
  await container.putArchive(await buffer(archive), { path: folder });
}

/** One file of a container that runs or not; undefined when either is not there. */
export async function getFile(container: Docker.Container, path: string): Promise<string | undefined> {
  return (await getFiles(container, path))?.get(posix.basename(path))?.content;
}

/** All files of a folder by name, without those of folders in it; undefined when it is not there. */
export function getFolder(
  container: Docker.Container,
  path: string,
): Promise<Map<string, StoredFile> | undefined> {
  return getFiles(container, posix.join(path, "/"));
}

async function getFiles(
  container: Docker.Container,
  path: string,
): Promise<Map<string, StoredFile> | undefined> {
  const archive = await ifPresent(container.getArchive({ path }));
  if (!archive) return undefined;
  const extract = tar.extract();
  archive.pipe(extract);
  const late = setTimeout(
    () => extract.destroy(new Error(`${path} in the container cannot be read in time`)),
    readSeconds * 1000,
  );
  try {
    return await filesOf(extract, path);
  } finally {
    clearTimeout(late);
    extract.destroy();
    // The engine answers nothing else about the container until this is read, or closed.
    (archive as Readable).destroy();
  }
}

async function filesOf(extract: tar.Extract, path: string): Promise<Map<string, StoredFile>> {
  const files = new Map<string, StoredFile>();
  let read = 0;
  let entries = 0;
  for await (const entry of extract) {
    read += entry.header.size ?? 0;
    if (read > most) throw new Error(`${path} in the container has more than ${most} bytes`);
    if (++entries > mostFiles) throw new Error(`${path} in the container has more than ${mostFiles} files`);
    const content = (await buffer(entry)).toString("utf8");
    // FILE, or FOLDER/FILE.
    const [, name = "", deeper] = /^(?:[^/]*\/)?([^/]+)(\/.*)?$/.exec(entry.header.name) ?? [];
    if (entry.header.type === "file" && deeper === undefined)
      files.set(name, { content, mode: (entry.header.mode ?? 0) & 0o7777 });
  }
  return files;
}
