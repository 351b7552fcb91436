import { randomUUID } from "node:crypto";
import type Docker from "dockerode";
import { type ExecResult, ExecTimeoutError, exec, printable } from "../../docker/exec";
import {
  answerSeconds,
  connectionValue,
  type SessionKind,
  sessionEnvironment,
} from "../../docker/session-options";

/** How long a server may take until it accepts connections, in seconds; recovery after a crash counts too. */
export const readySeconds = 120;

/** An init script may load a dump: a day, in seconds. */
export const scriptSeconds = 86_400;

/** The server did not accept connections in time. */
export class NotReadyError extends Error {}

/**
 * A shell function that ends the sessions of clients from the network: `strangers` those that have not logged in, `all`
 * the others too. Their titles have the client's address; before the server knows who a client is, its process has the
 * server's own title. Such a one also has pg_hba.conf as it was when it came.
 */
export const endClients = `
  end_clients() {
    read -r server </proc/1/cmdline || true
    for process in /proc/[0-9]*; do
      read -r title <"$process/cmdline" || true
      case $1:$title in
        *":postgres: "*"("[0-9]*") authentication"* | *":postgres: "*"("[0-9]*") initializing"*) ;;
        all:"postgres: "*.*"("[0-9]*")"* | all:"postgres: "*:*"("[0-9]*")"*) ;;
        *":$server") [ "$process" != /proc/1 ] || continue ;;
        *) continue ;;
      esac
      kill -TERM "\${process#/proc/}" || true
    done 2>/dev/null
  }`;

/**
 * Asks over TCP: while the image makes a new data directory, a temporary server listens on the sockets alone. Waiting
 * inside the container spares one request to the engine for every look, and reading what the server writes of itself
 * (its address and status, src/include/utils/pidfile.h) a process for most of them.
 *
 * Where all connections are taken, those of replication are not: a session of that kind takes SQL as well
 * (https://www.postgresql.org/docs/18/protocol-replication.html). Clients that have not logged in can keep it out too;
 * those are ended.
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
  ready=$1 answer=$2 database=$3
  shift 3
  others="$*"
  read -r up _ </proc/uptime
  started=\${up%.*}
  until listens && pg_isready -q -h 127.0.0.1 -U postgres; do
    read -r up _ </proc/uptime
    [ "$((\${up%.*} - started))" -lt "$ready" ] || exit 75
    sleep 0.1
  done
  set -- timeout -k 5 "$answer" psql --no-psqlrc --quiet --tuples-only --no-align --username postgres \\
    --set ON_ERROR_STOP=1 --set VERBOSITY=terse --file - --dbname`;

const runSql = `${whenReady}
  ${endClients}
  sql=$(cat) way='' tries=20
  exec 3>&1
  while :; do
    said=$(printf '%s\\n' "$sql" | "$@" "dbname=$database$way" 2>&1 >&3)
    code=$?
    case $code$said in
      2*"too many clients"* | 2*"connection slots are reserved"*) ;;
      2*'database "'*'" does not exist'* | 2*'database "'*'" is not currently accepting'* | 2*'invalid database "'*)
        [ -n "$others" ] || break
        database=\${others%% *} others=\${others#"$database"} others=\${others# }
        continue
        ;;
      *) break ;;
    esac
    tries=$((tries - 1)); [ "$tries" -gt 0 ] || break
    [ -z "$way" ] || end_clients strangers
    way=' replication=database'
  done
  printf '%s\\n' "$said" >&2
  exit $code`;

const runScript = `${whenReady}
  exec "$@" "dbname=$database"`;

/** A running server, asked as its superuser over its own socket, in its database `postgres` where no other is named. */
export interface SqlSession {
  /** The tenant's id, which names its database. */
  readonly tenant: string;
  /**
   * Runs SQL.
   * @returns what the statements printed, without headings
   * @throws Error with psql's terse message, which names the line but quotes no statement
   */
  run(sql: string, options?: { database?: string; seconds?: number }): Promise<string>;
  /** The same of SQL that only reads. */
  read(sql: string, options?: { database?: string; seconds?: number }): Promise<string>;
  /**
   * Runs an operator's script, as long as it takes.
   * @throws Error also where psql did not come to its end, which an empty statement after the data of COPY does
   */
  script(sql: string, database: string): Promise<void>;
}

/**
 * The server in a container. The database `postgres` is the tenant's to drop: without it, `template1` or the tenant's own
 * has to do.
 */
export class Session implements SqlSession {
  /** @param version PostgreSQL's major version, as tenants.yaml has it @param tenant its id, which names its database */
  constructor(
    readonly container: Docker.Container,
    private readonly version: number,
    readonly tenant: string,
  ) {}

  /** Waits until the server accepts connections. @throws NotReadyError too */
  async run(sql: string, options: { database?: string; seconds?: number } = {}): Promise<string> {
    return (await this.ask("change", sql, options)).stdout.trim();
  }

  async read(sql: string, options: { database?: string; seconds?: number } = {}): Promise<string> {
    return (await this.ask("read", sql, options)).stdout.trim();
  }

  script(sql: string, database: string): Promise<void> {
    return wholeScript(sql, async (text) => (await this.ask("script", text, { database })).stderr);
  }

  /** Waits until the server accepts connections. */
  async ready(): Promise<void> {
    await this.read("");
  }

  private async ask(
    kind: SessionKind,
    sql: string,
    { database, seconds = readySeconds }: { database?: string; seconds?: number },
  ): Promise<ExecResult> {
    const databases = database === undefined ? ["postgres", "template1", this.tenant] : [database];
    const most = kind === "script" ? scriptSeconds : Math.min(answerSeconds, seconds) + 10;
    const begun = performance.now();
    try {
      const result = await exec(
        this.container,
        [
          "sh",
          "-c",
          kind === "script" ? runScript : runSql,
          "sh",
          String(seconds),
          String(most),
          ...databases.map(connectionValue),
        ],
        {
          stdin: sql,
          env: sessionEnvironment(this.version, kind),
          seconds: seconds + most + 10,
        },
      );
      if (result.code === 0) return result;
      // `timeout` itself ends with 137 where its child had to be killed.
      const late = performance.now() - begun >= most * 1000;
      if (result.code === 124 || (result.code === 137 && late)) throw new ExecTimeoutError(most);
      if (result.code === 75)
        throw new NotReadyError(`the server does not accept connections after ${seconds} s`);
      // By the shell, or by the engine's own runtime, which writes to standard output.
      if (/resource temporarily unavailable|can(no|')t fork/i.test(result.stdout + result.stderr)) {
        throw new Error(
          "its container runs as many processes as it may, so that nothing can be started in it",
        );
      }
      // Killed with the container, or begun while it ended: runc then finds nothing to run the shell in.
      if ([126, 127, 137].includes(result.code)) throw new NotReadyError("the server went away");
      const lockedOut = /role "postgres" (is not permitted to log in|does not exist)/.exec(
        result.stderr,
      )?.[1];
      if (lockedOut) {
        throw new Error(
          `the role postgres ${lockedOut}, so pgs cannot enter the server; docs/disaster.md has the way back`,
        );
      }
      throw new Error(printable(result.stderr) || `psql ended with ${result.code}`);
    } catch (error) {
      if (!(error instanceof ExecTimeoutError)) throw error;
      throw new Error(
        `the server gave no answer in ${most} s: a lock on its catalogs, or a login trigger, may be in the way`,
      );
    }
  }
}

/** @param run returns what psql wrote to standard error @throws Error where psql did not come to the script's end */
export async function wholeScript(sql: string, run: (sql: string) => Promise<string>): Promise<void> {
  const end = randomUUID();
  const stderr = await run(`${sql}\n\\warn ${end}\n`);
  if (stderr.includes(end) || /^\s*\\q/m.test(sql)) return;
  throw new Error(
    "psql ended before the end of the script: is a semicolon alone after the data of a COPY, or an \\if left open?",
  );
}

/** A string constant. https://www.postgresql.org/docs/18/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS-ESCAPE */
export function literal(text: string): string {
  return `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}

/** A quoted identifier. */
export function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
