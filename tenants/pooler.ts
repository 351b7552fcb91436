/** How the connections of a tenant's clients are pooled. */
export interface PoolerPlan {
  /** What a client holds a connection to the server for. */
  readonly mode: "transaction" | "session";
  /** Connections to the server for each database. */
  readonly size: number;
}

/** As it is written: `off` is for a tenant that is to have none where `defaults` has one. */
export interface WrittenPooler {
  readonly mode?: PoolerPlan["mode"] | "off";
  readonly size?: number;
}

export const poolerDefaults: PoolerPlan = { mode: "transaction", size: 20 };

/** What follows the tenant's hostname in that of its pooler. */
export const poolerSuffix = "-pooler";

/** acme.pgs.example.com -> acme-pooler.pgs.example.com */
export function poolerHost(host: string): string {
  return host.replace(".", `${poolerSuffix}.`);
}

/** Memory limit in MiB. A client costs two kilobytes while it is idle, and up to some tens while it is not. */
export const poolerMemory = 128;

/** Seconds that a client waits at most for a connection to the server. */
export const poolerWaitSeconds = 120;

/** Of PgBouncer, by name, on both platforms. https://www.pgbouncer.org/config.html */
export function pgbouncerSettings({ size }: Pick<PoolerPlan, "size">) {
  return {
    default_pool_size: String(size),
    max_db_connections: String(size),
    max_client_conn: "10000",
    max_prepared_statements: "200",
    ignore_startup_parameters: "extra_float_digits",
    autodb_idle_timeout: "60",
    query_wait_timeout: String(poolerWaitSeconds),
    log_connections: "0",
    log_disconnections: "0",
  };
}

/** A tenant's pooler: its own fields over those of `defaults`; undefined when it has none. */
export function poolerPlan(own?: WrittenPooler, shared?: WrittenPooler): PoolerPlan | undefined {
  if (!own && !shared) return undefined;
  const { mode, size } = { ...poolerDefaults, ...shared, ...own };
  return mode === "off" ? undefined : { mode, size };
}
