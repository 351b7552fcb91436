import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { isAbsolute, normalize, resolve } from "node:path";
import {
  gunzipHead,
  headBytes,
  isArchive,
  isGzip,
  isPlainDump,
  leavesDatabase,
  withoutCreate,
} from "./dump-file";
import { show } from "./problems";

/** Bytes that a packed script may have when it is unpacked: it is held in memory. */
export const largestUnpacked = 256 * 2 ** 20;

/** What is wrong with an init script, in words for the operator. */
export function initProblem(folder: string, path: string): string | undefined {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what no path may have
  if (path === "" || /[\u0000-\u001f\u007f]/.test(path))
    return `expected the path of an SQL script, got ${show(path)}`;
  if (isAbsolute(path) || /^\.\.(\/|$)/.test(normalize(path))) {
    return `${show(path)} is outside the folder of the file; write a relative path inside it, such as init/acme.sql`;
  }
  if (/\.sh$/.test(path)) {
    return `${show(path)} is a shell script, and there is no place to run it: init is run by psql. Write what it does as SQL, or run it yourself once the tenant is there, with its connection string (./pgs url)`;
  }
  const absolute = resolve(folder, path);
  try {
    // One that is no file, such as a pipe, must not hold up the reader.
    const file = openSync(absolute, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      if (!fstatSync(file).isFile()) return `${show(path)} is no file; expected an SQL script`;
      return contentProblem(file, path);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === "ENOENT"
      ? `${show(path)} does not exist (looked for ${absolute})`
      : `${show(path)} cannot be read (${code})`;
  }
}

/** What psql would fail at, or do elsewhere than in the tenant's database. */
function contentProblem(file: number, path: string): string | undefined {
  const start = bytesOf(file, 0, 4096);
  let head = start;
  if (isGzip(start)) {
    const { size } = fstatSync(file);
    // The last four bytes of a gzip file are its unpacked size, modulo 2^32.
    const unpacked = size < 18 ? 0 : bytesOf(file, size - 4, 4).readUInt32LE();
    if (unpacked > largestUnpacked) return tooLarge(path);
    try {
      head = gunzipHead(bytesOf(file, 0, headBytes / 16));
    } catch {
      return `${show(path)} is damaged: it begins as a gzip file, and cannot be unpacked`;
    }
  } else if (/\.gz$/.test(path)) {
    return `${show(path)} is no gzip file, as its name has it`;
  }
  if (isArchive(head)) {
    return `${show(path)} is a dump in a format of pg_restore's, and init is run by psql: load it once the tenant is there (./pgs load ID < ${path})`;
  }
  if (head === start && isPlainDump(start)) head = bytesOf(file, 0, headBytes);
  const left = leavesDatabase(head);
  return (
    left && `${path}:${left.line}: ${left.what} in a dump would leave the tenant's database: ${withoutCreate}`
  );
}

export function tooLarge(path: string): string {
  return `${show(path)} has more than ${largestUnpacked / 2 ** 20} MiB unpacked: load it once the tenant is there (./pgs load ID < ${path})`;
}

function bytesOf(file: number, position: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  return buffer.subarray(0, readSync(file, buffer, 0, length, position));
}
