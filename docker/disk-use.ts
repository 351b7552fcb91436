/** What a server's watch-disk.sh has found; the tenant may have written anything there. */
export interface DiskUse {
  /** Bytes that the tenant's volume takes. */
  used: number;
  /** Its budget in bytes; null: it has none. */
  limit: number | null;
  /** Of the file system that the volume is in. */
  host: { free: number; size: number };
  /** Why its sessions are read-only by default: its budget or the host's disk runs short; null: they are not. */
  readOnly: "budget" | "host" | null;
}

/** In the server's container: a file in memory, rewritten at each look. */
export const diskUseFile = "/var/run/postgresql/.pgs-disk";

/** SQL for its text; null where it is not there. */
export const diskUseText = `pg_read_file('${diskUseFile}', 0, 200, true)`;

/** Undefined for anything else. */
export function parseDiskUse(text: string | null | undefined): DiskUse | undefined {
  const match = /^(\d{1,16}) (\d{1,16}) (\d{1,16}) (\d{1,16}) (?:writable|read-only:(budget|host))$/.exec(
    text?.trim() ?? "",
  );
  if (!match) return undefined;
  const [used = 0, limit = 0, free = 0, size = 0] = match.slice(1, 5).map(Number);
  return { used, limit: limit || null, host: { free, size }, readOnly: (match[5] as "budget") ?? null };
}
