const kib = 1024;
const mib = 1024 * kib;

/**
 * Settings that follow from a tenant's memory limit, for those that tenants.yaml does not set itself.
 * The shares are those that PostgreSQL's documentation starts from:
 * https://www.postgresql.org/docs/18/runtime-config-resource.html
 * @param memory the limit in bytes
 */
export function sizedSettings(memory: number): Record<string, string> {
  return {
    // A quarter. The kernel's cache, which the limit counts as well, holds the rest of what is hot.
    shared_buffers: megabytes(memory / 4),
    // Only tells the planner what it may expect to find in memory.
    effective_cache_size: megabytes((memory / 4) * 3),
    // Three autovacuum workers may each take as much.
    maintenance_work_mem: megabytes(Math.min(memory / 16, 1024 * mib)),
    // A session takes some megabytes when it works.
    max_connections: String(Math.min(500, Math.max(25, Math.floor(memory / (5 * mib))))),
  };
}

/**
 * Settings of every server. A client takes a connection before it has said who it is, and without a password it takes
 * one from those who have it.
 */
export const guardSettings = { authentication_timeout: "10s" };

/**
 * How many connections one client address may have, where tenants.yaml does not say it: an application behind one
 * address can use nearly all, and no single address can lock out the others.
 *
 * Of TLS that it passes through, Traefik 3.7 never frees a connection whose server goes away before its first answer: at
 * a restart, those of clients that come back at that moment. A limit near what an application needs would shut it out in
 * time; this one only keeps a hostile server from filling the proxy with them.
 */
export function connectionsPerClient(maxConnections: number, tls: "terminate" | "passthrough"): number {
  // Whatever it is made from: an amount that Traefik cannot read would keep it from all its routes.
  const nearlyAll = Math.max(1, Math.round(maxConnections) - 5 || 1);
  return Math.min(mostPerClient, tls === "passthrough" ? Math.max(1000, 2 * nearlyAll) : nearlyAll);
}

/** The same of a pooler, which is there for more clients than the server takes. */
export const pooledConnectionsPerClient = 1000;

/** Settings of a server with a pooler: when that is taken away, what its clients were running is ended in time. */
export const poolerSettings = { client_connection_check_interval: "1s" };

export const mostPerClient = 1_000_000;

/** In postgresql.auto.conf: the tenant's disk budget in bytes, as provider/server/watch-disk.sh reads it. */
export const budgetSetting = "pgs.disk";

/**
 * Settings that follow from a tenant's disk budget. WAL that a replication slot holds, that of its backups too, is kept
 * up to a size and no further: a receiver that stands still must not fill the disk.
 * https://www.postgresql.org/docs/18/runtime-config-replication.html
 * @param budget in bytes; without one, the host's disk is the only limit
 */
export function diskSettings(budget: number | undefined): Record<string, string> {
  if (budget === undefined) return { max_slot_wal_keep_size: "2GB" };
  const share = budget / 8;
  return {
    [budgetSetting]: String(budget),
    // Between two checkpoints; PostgreSQL's own default is the most.
    max_wal_size: megabytes(Math.min(share, 1024 * mib)),
    max_slot_wal_keep_size: megabytes(Math.min(share, 2048 * mib)),
    // Of one session's sorts and hashes. https://www.postgresql.org/docs/18/runtime-config-resource.html
    temp_file_limit: megabytes(budget / 4),
  };
}

/** The most of a budget that a setting of tenants.yaml may promise to what is not the tenant's data. */
export const largestDiskShare: Readonly<Record<string, number>> = {
  max_wal_size: 0.5,
  max_slot_wal_keep_size: 0.5,
  wal_keep_size: 0.5,
  temp_file_limit: 0.9,
};

/** Settings that a server with a backup has. */
export function backupSettings(version: number): Record<string, string> {
  // Incremental base backups are made by it. https://www.postgresql.org/docs/18/runtime-config-wal.html
  const summaries: Record<string, string> = version >= 17 ? { summarize_wal: "on" } : {};
  // Whole pages, most of the WAL after each checkpoint, take a quarter of the room, on the way and in the backups.
  return { ...summaries, wal_compression: "lz4" };
}

/** The most of its memory that a tenant's shared_buffers may be: the sessions need the rest. */
export const largestSharedBuffers = 0.6;

function megabytes(bytes: number): string {
  return `${Math.floor(bytes / mib)}MB`;
}
