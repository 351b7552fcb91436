import type Docker from "dockerode";
import { exec } from "../../docker/exec";

/** How long a server may take until it accepts connections, in seconds; recovery after a crash counts too. */
export const readyTimeout = 600;

/**
 * How long an answer may take, in seconds. A tenant that locks its catalogs, or has a trigger that no login gets
 * past, must not keep an `up` from the other tenants.
 */
const answerTimeout = 120;

/** The server did not accept connections in time. */
export class NotReadyError extends Error {}

/**
 * Nothing of what is done here may reach the server's log: a verifier is not a password, but it is nobody's
 * business either. https://www.postgresql.org/docs/18/runtime-config-logging.html
 */
const quietSession =
  "-c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic";

/** What pg_stat_activity calls these sessions. */
const sessionName = "pgs";

/**
 * Asks over TCP: while the image initialises a new data directory, a temporary server listens on the socket
 * alone. Waiting inside the container spares one request to the engine for every look, and reading what the server
 * writes of itself (its address and status, src/include/utils/pidfile.h) a process for most of them. A server that
 * answers is complete: the note that says otherwise (`startServer` in container.ts) goes.
 */
const whenReady = `
  listens() {
    at=0 address='' status=''
    while read -r line; do
      at=$((at + 1))
      case $at in 6) address=$line ;; 8) status=$line ;; esac
    done <"$PGDATA/postmaster.pid"
    [ -n "$address" ] && [ "$status" = ready ]
  } 2>/dev/null
  set -e
  tries=$1; shift
  until listens && pg_isready -q -h 127.0.0.1 -U postgres; do
    tries=$((tries - 1)); [ "$tries" -gt 0 ] || exit 75
    sleep 0.1
  done
  [ ! -e "$PGDATA.unfinished" ] || rm -f "$PGDATA.unfinished"
  set -- psql --no-psqlrc --quiet --tuples-only --no-align --username postgres \\
    --set ON_ERROR_STOP=1 --set VERBOSITY=terse "$@"`;

/**
 * Of a run that is cut off, psql would take the half that it got of a script for the whole: here it starts when
 * all has arrived.
 */
const runWhole = `
  file=$PGDATA.init.sql
  (umask 077; cat >"$file") || { rm -f "$file"; exit 1; }
  [ "$(wc -c <"$file")" -eq "$PGS_SCRIPT_BYTES" ] || { rm -f "$file"; echo "the script did not arrive whole" >&2; exit 1; }
  code=0; "$@" --file "$file" --command "$PGS_AFTER_SCRIPT" || code=$?
  rm -f "$file"
  exit "$code"`;

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
  return ask(container, `exec timeout ${answerTimeout} "$@"`, sql, options, [], answerTimeout);
}

/**
 * Runs a script and then `after`, both in one transaction, if need be without this process: either all of it
 * comes about or nothing. Errors name lines as `psql:FILE:LINE: `.
 */
export async function psqlScript(
  container: Docker.Container,
  script: string,
  after: string,
  database: string,
): Promise<void> {
  await ask(container, runWhole, script, { database, arguments: ["--single-transaction"] }, [
    `PGS_SCRIPT_BYTES=${Buffer.byteLength(script)}`,
    `PGS_AFTER_SCRIPT=${after}`,
  ]);
}

/** Ends what a run that was cut off has left at work in the server, and waits until it is undone. */
export async function endCutOffRun(container: Docker.Container): Promise<void> {
  await psql(
    container,
    `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
     WHERE application_name = '${sessionName}' AND client_addr IS NULL AND pid <> pg_backend_pid() \\g /dev/null`,
  );
}

async function ask(
  container: Docker.Container,
  then: string,
  stdin: string,
  options: { database?: string; arguments?: string[]; timeout?: number },
  env: string[],
  limit?: number,
): Promise<string> {
  const timeout = options.timeout ?? readyTimeout;
  const tries = String(timeout * 10);
  const database = options.database ?? "postgres";
  const result = await exec(
    container,
    ["sh", "-c", `${whenReady}\n${then}`, "sh", tries, "--dbname", database, ...(options.arguments ?? [])],
    {
      stdin,
      env: [`PGOPTIONS=${quietSession}`, `PGAPPNAME=${sessionName}`, ...env],
      // In the container the tenant could stop what keeps the time.
      seconds: timeout + (limit ?? 86_400) + 10,
    },
  );
  if (result.code === 124) {
    throw new Error(
      `the server gave no answer in ${limit} s: a lock on its catalogs, or a login trigger, may be in the way`,
    );
  }
  if (result.code === 75) throw new NotReadyError("the server does not accept connections");
  // Killed with the container, or begun while it ended: runc then finds nothing to run the shell in.
  if ([126, 127, 137].includes(result.code)) throw new NotReadyError("the server went away");
  if (result.code !== 0) throw new Error(result.stderr.trim() || `psql ended with ${result.code}`);
  return result.stdout.trim();
}

/** A string constant. https://www.postgresql.org/docs/18/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS-ESCAPE */
export function literal(text: string): string {
  return `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}

/** A quoted identifier. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
