import { constants, gunzipSync } from "node:zlib";

/** How far into a file the head of a dump may reach, in bytes. */
export const headBytes = 1 << 20;

/** What kind of dump a file is, by its first bytes, unpacked. */
export function isArchive(head: Buffer): boolean {
  // Custom format, and the first file of a tar.
  return (
    head.subarray(0, 5).equals(Buffer.from("PGDMP")) || head.subarray(0, 8).equals(Buffer.from("toc.dat\0"))
  );
}

export function isGzip(head: Buffer): boolean {
  return head[0] === 0x1f && head[1] === 0x8b;
}

/** @returns as much as the first bytes of a gzip file hold. @throws Error when it is none */
export function gunzipHead(head: Buffer): Buffer {
  return gunzipSync(head, { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: 2000 * headBytes });
}

/** Whether it begins as pg_dump or pg_dumpall write SQL. */
export function isPlainDump(head: Buffer): boolean {
  return /^--\r?\n-- PostgreSQL database (cluster )?dump\r?$/m.test(
    head.subarray(0, 4096).toString("latin1"),
  );
}

/** What pg_dump and pg_dumpall write last; behind it is at most \unrestrict. */
export function isWhole(tail: Buffer): boolean {
  return /^-- PostgreSQL database (cluster )?dump complete\r?$/m.test(tail.toString("latin1"));
}

/**
 * Where a dump leaves the database that it is loaded into: those of `pg_dump --create` and of pg_dumpall do, before
 * any data. In a script that is no dump, that is its author's affair.
 */
export function leavesDatabase(head: Buffer): { line: number; what: string } | undefined {
  if (!isPlainDump(head)) return undefined;
  const lines = head.toString("latin1").split("\n");
  const data = lines.findIndex((line) => /^COPY .* FROM stdin;\r?$/.test(line));
  const schema = data < 0 ? lines : lines.slice(0, data);
  const index = schema.findIndex((line) => /^(CREATE DATABASE|\\connect) /.test(line));
  return index < 0
    ? undefined
    : { line: index + 1, what: schema[index]?.startsWith("\\") ? "\\connect" : "CREATE DATABASE" };
}

/** What to do about a dump that does. */
export const withoutCreate =
  "dump the one database without --create (pg_dump DATABASE, not pg_dumpall), or take these lines out: sed -e '/^CREATE DATABASE /d' -e '/^ALTER DATABASE /d' -e '/^\\\\connect /d'";
