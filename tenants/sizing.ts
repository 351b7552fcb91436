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

/**
 * Settings that a server with a backup has. WAL that Barman does not fetch is kept for it up to this size, and no
 * further: a backup that stands still must not fill the tenant's disk.
 */
export function backupSettings(version: number): Record<string, string> {
  // Incremental base backups are made by it. https://www.postgresql.org/docs/18/runtime-config-wal.html
  const summaries: Record<string, string> = version >= 17 ? { summarize_wal: "on" } : {};
  // Whole pages, most of the WAL after each checkpoint, take a quarter of the room, on the way and in the backups.
  return { ...summaries, wal_compression: "lz4", max_slot_wal_keep_size: "2GB" };
}

/** The most of its memory that a tenant's shared_buffers may be: the sessions need the rest. */
export const largestSharedBuffers = 0.6;

function megabytes(bytes: number): string {
  return `${Math.floor(bytes / mib)}MB`;
}
