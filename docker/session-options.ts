/** What pg_stat_activity calls the sessions of pgs. */
export const sessionName = "pgs";

/** The role that monitoring logs in as, where the stack has it (components/docker/monitoring.ts). */
export const monitorRole = "pgs_monitor";

/** Seconds that an answer may take by default. */
export const answerSeconds = 60;

/** `read` changes nothing; `script` is an operator's own SQL. */
export type SessionKind = "read" | "change" | "script";

/**
 * Environment variables of a psql in a server's container, which asks over its own socket, mostly as its superuser. They come
 * before all that the tenant has set for the server, its roles and databases.
 * https://www.postgresql.org/docs/18/runtime-config-client.html
 * @param version PostgreSQL's major version, as tenants.yaml has it
 * @param seconds that a statement may take; a script takes what it takes
 * @param superuser whether it asks as one: another role may not set all of them
 */
export function sessionEnvironment(
  version: number,
  kind: SessionKind,
  seconds = answerSeconds,
  superuser = true,
): string[] {
  const script = kind === "script";
  const options = {
    // A verifier is not a password, but it has no place in a log either.
    ...(superuser && {
      log_statement: "none",
      log_min_duration_statement: "-1",
      log_min_error_statement: "panic",
      session_preload_libraries: "",
    }),
    statement_timeout: script ? "0s" : `${seconds}s`,
    lock_timeout: script ? "0" : `${Math.min(20, seconds)}s`,
    idle_in_transaction_session_timeout: "0",
    idle_session_timeout: "0",
    default_transaction_read_only: kind === "read" ? "on" : "off",
    default_transaction_isolation: "read\\ committed",
    // A script makes its tables where the tenant's settings say.
    ...(!script && { search_path: "pg_catalog" }),
    // Of the statements that a tenant sees counted, none is of pgs.
    ...(!script && superuser && { "pg_stat_statements.track": "none" }),
    local_preload_libraries: "",
    role: "none",
    ...(version >= 17 && { transaction_timeout: "0", ...(superuser && { event_triggers: "off" }) }),
  };
  const pinned = Object.entries(options).map(([name, value]) => `-c ${name}=${value}`);
  return [
    `PGOPTIONS=${pinned.join(" ")}`,
    `PGAPPNAME=${sessionName}`,
    "PGHOST=/var/run/postgresql",
    "PGCONNECT_TIMEOUT=30",
  ];
}

/** A value in a connection string. https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNSTRING */
export function connectionValue(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
