import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

/** More than a tenants.yaml of a thousand tenants has, or a chain of certificates. YAML that fits is read in a second. */
const usualLimit = 256 * 2 ** 10;

/**
 * The text of a file that an operator named. A device or a pipe might never end, or block.
 * @param limit in bytes
 * @throws Error when it is no plain file, or has more than the limit
 */
export function readPlainFile(path: string, limit = usualLimit): string {
  const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(file);
    if (stat.isDirectory()) throw Object.assign(new Error("this is a folder"), { code: "EISDIR" });
    if (!stat.isFile()) throw new Error("this is no plain file");
    const content = Buffer.allocUnsafe(limit + 1);
    let length = 0;
    for (let read = -1; read !== 0 && length <= limit; length += read) {
      read = readSync(file, content, length, limit + 1 - length, null);
    }
    if (length > limit) throw new Error(`it has more than ${limit / 1024} KiB`);
    return content.toString("utf8", 0, length);
  } finally {
    closeSync(file);
  }
}
