import { isDeepStrictEqual } from "node:util";
import { extensionPattern, usualLibrary } from "../../../tenants/extensions";
import { listElements } from "../../../tenants/postgres-settings";
import type { PostgresServerInputs, ServerContents } from "../inputs";
import { extensionsSetting, type Inside, type Installed, installedOf } from "../inside";
import type { ContentsPart, OpenServer } from "../part";
import { identifier, literal, type SqlSession } from "../session";

type Wanted = Readonly<Record<string, string>>;

/**
 * The extensions that tenants.yaml has, or once had, in the tenant's database; others are the tenant's own. The server's
 * database `postgres` has the names of all that pgs makes, from before it makes them.
 */
export const extensions: ContentsPart & {
  /** Drops what the entry has no more. It comes before the settings, which may take away the library. */
  remove(server: OpenServer): Promise<void>;
} = {
  name: "extensions",

  differs({ extensions: wanted = {} }, { inside }) {
    if (!inside) return false;
    if (!isDeepStrictEqual(Object.keys(wanted).toSorted(), inside.extensions)) return true;
    return inside.installed !== undefined && statements(wanted, inside.installed).length > 0;
  },

  async remove({ inputs, before, session, inside }) {
    const { extensions: wanted = {}, positions = {} } = inputs;
    // Restored data comes to a new or a stopped server, with the note of another entry or another time: an extension that
    // only this note names is the tenant's own. A running server's note may be that of an `up` which was killed.
    const noted = before.state === "running" || before.state === "failed" ? inside.extensions : [];
    const former = [
      ...new Set([...noted, ...Object.keys({ ...before.leftExtensions, ...before.extensions })]),
    ];
    // The tenant can write the note.
    const dropped = droppedFrom(former, wanted).filter((name) => extensionPattern.test(name));
    if (!inside.database) return;
    for (const name of dropped) {
      await drop(session, name).catch((error) => {
        const position = positions.extensions ? `${positions.extensions}: ` : "";
        throw new Error(
          `${position}the extension ${name} was taken out of the entry, and is in use: ${reasonOf(error)}. Write it again, or drop first what uses it`,
        );
      });
    }
    await note(
      session,
      inside,
      inside.extensions.filter((name) => name in wanted),
    );
  },

  async apply({ inputs, session, inside }) {
    const { extensions: wanted = {}, positions = {} } = inputs;
    const names = Object.keys(wanted).toSorted();
    if (names.length === 0) return;
    await note(session, inside, names);
    for (const { name, sql } of statements(wanted, await installedOf(session, names))) {
      await session.run(`SET search_path = public;\n${sql}`, { database: inputs.tenant }).catch((error) => {
        const position = positions[`extensions.${name}`];
        throw new Error(`${position ? `${position}: ` : ""}extension ${name}: ${reasonOf(error)}`);
      });
    }
  },
};

/** Whether a new server has {@link usualLibrary}: unless the entry names other libraries. */
export function hasUsualExtension({ restart }: PostgresServerInputs["settings"]): boolean {
  const { shared_preload_libraries: libraries } = restart;
  return libraries === undefined || listElements(libraries).includes(usualLibrary);
}

/**
 * What a new data directory is made with: a tenant may change it by ALTER SYSTEM, and of those that exist none is
 * restarted. A thousand statements take half a megabyte, where the usual five thousand would take two.
 */
export const usualSettings = {
  shared_preload_libraries: usualLibrary,
  "pg_stat_statements.max": "1000",
};

/** SQL for the end of a new database's scripts, one of which may have made it, or dropped the schema public. */
export function createUsualExtension(database: string): string {
  return [
    `\\connect ${database}`,
    "\\set ON_ERROR_STOP 0",
    "SET search_path = public;",
    `CREATE EXTENSION IF NOT EXISTS ${identifier(usualLibrary)};`,
    // The hundreds of initdb's own statements.
    "SELECT pg_stat_statements_reset() \\g /dev/null",
    "\\set ON_ERROR_STOP 1",
    "",
  ].join("\n");
}

/**
 * What an `up` changes of the extensions beside their names, in words for the operator.
 * @param newest what another image brings, where there is to be another
 */
export function changesIn(
  { extensions: former = {} }: ServerContents,
  { extensions: wanted = {} }: ServerContents,
  inside: Inside | undefined,
  newest?: ReadonlyMap<string, string>,
): string[] {
  const installed = { ...inside?.installed };
  if (newest) {
    for (const [name, { version }] of Object.entries(installed)) {
      installed[name] = { version, newest: newest.get(name) ?? null };
    }
  }
  return [
    ...updates(wanted, installed).map(
      ({ name, from, to }) => `the extension ${name} is updated from ${from} to ${to}`,
    ),
    ...droppedFrom(Object.keys(former), wanted).map(
      (name) => `the extension ${name} is dropped, unless something uses it`,
    ),
  ];
}

/** A new tenant has the usual one anyway. */
function droppedFrom(names: string[], wanted: Wanted): string[] {
  return names.filter((name) => !(name in wanted) && name !== usualLibrary);
}

/** Those that are in the database in another version than is wanted. */
function updates(wanted: Wanted, installed: Installed): { name: string; from: string; to: string }[] {
  return Object.entries(wanted).flatMap(([name, pinned]) => {
    const { version: from, newest } = installed[name] ?? { version: null, newest: null };
    const to = pinned || newest;
    if (from === null || to === null || from === to) return [];
    // An image with an older one than the database has: there is no way back.
    return pinned || isNewer(to, from) ? [{ name, from, to }] : [];
  });
}

function statements(wanted: Wanted, installed: Installed): { name: string; sql: string }[] {
  const missing = Object.entries(wanted).filter(([name]) => (installed[name]?.version ?? null) === null);
  return [
    ...missing.map(([name, version]) => ({
      name,
      sql: `CREATE EXTENSION IF NOT EXISTS ${identifier(name)}${version && ` VERSION ${literal(version)}`} CASCADE;`,
    })),
    ...updates(wanted, installed).map(({ name, to }) => ({
      name,
      sql: `ALTER EXTENSION ${identifier(name)} UPDATE TO ${literal(to)};`,
    })),
  ];
}

/** Versions have no order to PostgreSQL; their numbers have one. */
function isNewer(one: string, other: string): boolean {
  return one.localeCompare(other, "en", { numeric: true }) > 0;
}

/**
 * PostgreSQL refuses where an object uses it. Rows in its own tables, such as the jobs of pg_cron, go with it: they are
 * the tenant's where the extension says that a dump has to have them.
 * https://www.postgresql.org/docs/18/extend-extensions.html#EXTEND-EXTENSIONS-CONFIG-TABLES
 */
async function drop(session: SqlSession, name: string): Promise<void> {
  await session.run(
    `DO $$
    DECLARE kept record; used boolean; users text;
    BEGIN
      FOR kept IN SELECT id::regclass AS name, condition
        FROM pg_extension, unnest(extconfig, extcondition) AS config (id, condition) JOIN pg_class ON pg_class.oid = id
        WHERE extname = ${literal(name)} AND relkind <> 'S'
      LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s %s)', kept.name, kept.condition) INTO used;
        IF used THEN RAISE 'its table % has rows', kept.name; END IF;
      END LOOP;
      DROP EXTENSION IF EXISTS ${identifier(name)} RESTRICT;
    EXCEPTION WHEN dependent_objects_still_exist THEN
      GET STACKED DIAGNOSTICS users = PG_EXCEPTION_DETAIL;
      RAISE '%', replace(users, chr(10), '; ');
    END $$`,
    { database: session.tenant },
  );
}

async function note(session: SqlSession, inside: Inside, names: string[]): Promise<void> {
  if (isDeepStrictEqual(names.toSorted(), inside.extensions)) return;
  const list = literal(JSON.stringify(names.toSorted()));
  await session.run(`ALTER DATABASE postgres SET ${extensionsSetting} = ${list};`);
  inside.extensions = names.toSorted();
}

/** PostgreSQL's words, without psql's and warnings before them. */
function reasonOf(error: unknown): string {
  return (error as Error).message.replace(/^.*?(ERROR|FATAL): +/, "");
}
