import type Docker from "dockerode";
import { exec } from "../engine";

/** How long a server may take until it accepts connections, in seconds; recovery after a crash counts too. */
export const readyTimeout = 600;

/** The server did not accept connections in time. */
export class NotReadyError extends Error {}

/**
 * Nothing of what is done here may reach the server's log: a verifier is not a password, but it is nobody's
 * business either. https://www.postgresql.org/docs/18/runtime-config-logging.html
 */
const quietSession =
  "-c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic";

/**
 * Asks over TCP: while the image initialises a new data directory, a temporary server listens on the socket
 * alone. Waiting inside the container spares one request to the engine for every look.
 */
const whenReady = `
  tries=$1; shift
  until pg_isready -q -h 127.0.0.1 -U postgres; do
    tries=$((tries - 1)); [ "$tries" -gt 0 ] || exit 75
    sleep 0.1
  done
  exec psql --no-psqlrc --quiet --tuples-only --no-align --username postgres \\
    --set ON_ERROR_STOP=1 --set VERBOSITY=terse "$@"`;

/**
 * Runs SQL as the superuser over the server's own socket, and waits until the server accepts connections.
 * @returns what the statements printed, without headings
 * @throws NotReadyError after `timeout` seconds; Error with psql's terse message, which never quotes a statement
 */
export async function psql(
  container: Docker.Container,
  sql: string,
  options: { database?: string; arguments?: string[]; timeout?: number } = {},
): Promise<string> {
  const tries = String((options.timeout ?? readyTimeout) * 10);
  const database = options.database ?? "postgres";
  const result = await exec(
    container,
    ["sh", "-c", whenReady, "sh", tries, "--dbname", database, ...(options.arguments ?? [])],
    { stdin: sql, env: [`PGOPTIONS=${quietSession}`] },
  );
  if (result.code === 75) throw new NotReadyError("the server does not accept connections");
  if (result.code !== 0) throw new Error(result.stderr.trim() || `psql ended with ${result.code}`);
  return result.stdout.trim();
}

/** A string constant. https://www.postgresql.org/docs/18/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS-ESCAPE */
export function literal(text: string): string {
  return `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}

/** A quoted identifier. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
