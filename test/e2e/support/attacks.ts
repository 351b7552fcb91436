import { type Client, escapeLiteral } from "pg";
import type { Checkout } from "./checkout";
import { eventually, succeed } from "./command";
import { inContainer, inspect } from "./inside";

/** A tenant as its superuser has it. */
export interface Attacker {
  /** A session over the public port, in the tenant's own database unless another is named. */
  client(database?: string): Promise<Client>;
  /** Name of its container. */
  container: string;
  /** Runs a script in its container. @returns what it printed */
  shell(script: string): Promise<string>;
}

export interface Attack {
  name: string;
  /** Ends when the attack is under way. */
  run(attacker: Attacker): Promise<unknown>;
  /**
   * What an `up` that changes this tenant then says of it: nothing, since it has made its change all the same, or why it
   * failed.
   */
  says: RegExp | "nothing";
  /** It may also lose: an `up` then changes the tenant. */
  race?: true;
  /** The tenant's own fields, where the attack needs some. */
  entry?: string;
  /** It costs an `up` more than a minute and a half, so that it is measured alone (bench/hostile). */
  slow?: true;
}

export const attackerOf = (checkout: Checkout, id: string): Attacker => ({
  client: (database) => checkout.client(id, database),
  container: checkout.name(id),
  shell: (script) => inContainer(checkout, id, script),
});

/** Runs statements in `postgres`, which the operator's sessions use, or in another session. */
async function query({ client }: Attacker, text: string, opening = client("postgres")): Promise<void> {
  const session = await opening;
  try {
    await session.query(text);
  } finally {
    await session.end().catch(() => {});
  }
}

/** Starts a program in the server's container, which goes on when the session has ended. */
async function start(attacker: Attacker, script: string): Promise<void> {
  // In base64 nothing needs quoting.
  const encoded = Buffer.from(script).toString("base64");
  const command = `echo ${encoded} | base64 -d >/tmp/attack; setsid bash /tmp/attack </dev/null >/dev/null 2>&1 &`;
  await query(attacker, `COPY (SELECT '' WHERE false) TO PROGRAM ${escapeLiteral(command)}`);
}

/** Waits until the tenant itself gets in no more, which shows that the attack is under way. */
function refuses({ client }: Attacker, message: RegExp): Promise<void> {
  return eventually(90, async () => {
    const answer = await client().then(
      (session) => session.end().then(() => "it lets a client in"),
      (error: Error) => error.message,
    );
    if (!message.test(answer)) throw new Error(answer);
  });
}

/**
 * Every session of the operator calls current_setting. The server knows a function that was only replaced by its number
 * and calls the old one, so the old one gets another name.
 */
const replaceSetting = (body: string): string => `SET allow_system_table_mods = on;
  UPDATE pg_proc SET proname = 'replaced_current_setting' WHERE proname = 'current_setting' AND pronargs = 1;
  CREATE FUNCTION pg_catalog.current_setting(text) RETURNS text LANGUAGE plpgsql
    AS ${escapeLiteral(`BEGIN ${body} RETURN pg_catalog.replaced_current_setting($1); END`)}`;

/** The operator's question runs this for each psql in the container, so for the one that asks; `$process` is its folder in /proc. */
const forEachPsql = (command: string): string => {
  const script = `for process in /proc/[0-9]*; do
    case $(tr "\\0" " " <$process/cmdline) in psql*) ${command} ;; esac
  done 2>/dev/null`;
  return `COPY (SELECT '' WHERE false) TO PROGRAM ${escapeLiteral(script)};`;
};

/** What a tenant does to whoever asks its server: the operator's commands, and so its neighbours. */
export const attacks: Record<string, Attack> = {
  pipe: {
    name: "replaces pg_hba.conf by a pipe without a writer",
    run: ({ shell }) => shell(`cd "$PGDATA" && mv pg_hba.conf kept && mkfifo pg_hba.conf`),
    says: /gave no answer in \d+ s/,
  },
  sleeps: {
    name: "replaces a function of pg_catalog by one that sleeps",
    run: (attacker) => query(attacker, replaceSetting("PERFORM pg_catalog.pg_sleep(3600);")),
    says: /statement timeout|gave no answer in \d+ s/,
  },
  floods: {
    name: "floods the output of the session that asks",
    run: (attacker) =>
      query(attacker, replaceSetting(forEachPsql("head -c 4000000 /dev/zero >$process/fd/1"))),
    says: /answered with more than 1048576 bytes/,
  },
  forges: {
    name: "writes an answer of its own before that of its server",
    run: (attacker) => query(attacker, replaceSetting(forEachPsql('echo "}{" >$process/fd/1'))),
    says: /not what PostgreSQL answers/,
  },
  steers: {
    name: "answers with characters that steer a terminal",
    run: (attacker) =>
      query(attacker, replaceSetting("RAISE EXCEPTION E'\\x1b]0;owned\\x07\\x1b[2J\\u0085';")),
    says: /\\u001b\]0;owned\\u0007\\u001b\[2J\\u0085/,
  },
  stops: {
    name: "stops the programs of the session that asks, and what keeps their time",
    run: (attacker) =>
      query(
        attacker,
        replaceSetting(
          forEachPsql(`parent=$process
            while [ "$parent" != /proc/0 ] && [ "$parent" != /proc/1 ]; do
              kill -STOP \${parent#/proc/}
              parent=/proc/$(sed -n "s/^PPid:.//p" $parent/status)
            done`),
        ),
      ),
    says: /no answer/,
    slow: true,
  },
  verifier: {
    name: "sets a verifier with 2147483647 iterations",
    run: async (attacker) => {
      await query(
        attacker,
        `UPDATE pg_authid SET rolpassword = 'SCRAM-SHA-256$2147483647:' || split_part(rolpassword, ':', 2) || ':'
                || split_part(rolpassword, ':', 3) WHERE rolname = 'postgres'`,
      );
      await refuses(attacker, /iteration count 2147483647/);
    },
    says: "nothing",
  },
  trigger: {
    name: "has a login trigger that sleeps",
    run: async (attacker) => {
      for (const session of [attacker.client(), attacker.client("postgres")]) {
        await query(
          attacker,
          `CREATE FUNCTION sleep() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(3600); END';
          CREATE EVENT TRIGGER sleep ON login EXECUTE FUNCTION sleep(); ALTER EVENT TRIGGER sleep ENABLE ALWAYS`,
          session,
        );
      }
      await refuses(attacker, /timeout/);
    },
    says: "nothing",
  },
  connections: {
    name: "takes all its connections",
    run: async (attacker) => {
      await start(
        attacker,
        `for n in {1..30}; do
          (while :; do psql -U postgres -qc 'SELECT pg_sleep(3600)'; sleep 2; done) &
        done`,
      );
      await refuses(attacker, /too many clients|slots are reserved/);
    },
    says: "nothing",
    entry: "memory: 256Mi, settings: { max_connections: 10 }",
  },
  settings: {
    name: "gives its role settings that let no session begin or work",
    run: async (attacker) => {
      await query(
        attacker,
        `CREATE SCHEMA evil; CREATE VIEW evil.pg_database AS SELECT pg_sleep(3600)::text AS datname;
        ALTER ROLE postgres SET search_path = evil, pg_catalog; ALTER ROLE postgres SET statement_timeout = 1;
        ALTER ROLE postgres SET default_transaction_read_only = on; ALTER ROLE postgres SET lock_timeout = 1;
        ALTER ROLE postgres SET session_preload_libraries = 'missing'`,
      );
      await refuses(attacker, /could not access file "missing"/);
    },
    says: "nothing",
  },
  databases: {
    name: "has 10,000 databases in its catalog, with odd names",
    run: (attacker) =>
      query(
        attacker,
        `SET allow_system_table_mods = on;
        INSERT INTO pg_database SELECT forged.* FROM pg_database AS model, generate_series(1, 10000) AS number,
          jsonb_populate_record(model, jsonb_build_object('oid', 100000 + number, 'datname', number || E'\\x1b[2J|x=y'))
            AS forged
        WHERE model.datname = 'template1'`,
      ),
    says: "nothing",
    // It would start a process for one of them ten times a second.
    entry: "settings: { autovacuum: off }",
  },
  forks: {
    name: "starts as many processes as it may",
    run: async (attacker) => {
      // As many as another container may have would keep this machine busy.
      await succeed("docker", ["update", "--pids-limit", "60", attacker.container]);
      await start(
        attacker,
        `exec perl -e 'while () { my $child = fork; if (!defined $child) { select undef, undef, undef, 0.05 }
          elsif ($child == 0) { sleep 3600; exit } }'`,
      );
      await eventually(90, async () => {
        const processes = (await succeed("docker", ["top", attacker.container, "-eo", "pid"]))
          .trim()
          .split("\n");
        if (processes.length < 55) throw new Error(`${processes.length} processes`);
      });
    },
    says: /as many processes as it may|gave no answer in \d+ s|the server went away/,
    // Whoever comes first gets a process that has ended.
    race: true,
  },
  rename: {
    name: "renames the role postgres",
    run: async (attacker) => {
      await start(
        attacker,
        `psql -U postgres -c 'CREATE ROLE other SUPERUSER LOGIN'
        psql -U other -d postgres -c 'ALTER ROLE postgres RENAME TO former'`,
      );
      await refuses(attacker, /password authentication failed/);
    },
    says: /the role postgres does not exist/,
  },
  library: {
    name: "makes its server unable to start",
    run: async (attacker) => {
      await start(
        attacker,
        `psql -U postgres -c "ALTER SYSTEM SET shared_preload_libraries = 'missing'"; kill -INT 1`,
      );
      await eventually(120, async () => {
        if ((await inspect(attacker.container)).RestartCount === 0) throw new Error("it was not restarted");
      });
    },
    says: /\(the container (is|runs)/,
  },
};
