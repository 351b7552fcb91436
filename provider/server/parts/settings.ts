import { isDeepStrictEqual } from "node:util";
import { listElements } from "../../../tenants/postgres-settings";
import { budgetSetting } from "../../../tenants/sizing";
import type { PostgresServerInputs, PostgresServerState } from "../inputs";
import { type Inside, managedSetting } from "../inside";
import type { Part, RunningServer } from "../part";
import { refusedStart, restart } from "../restart";
import { literal, type Session } from "../session";
import { keptUnfinished } from "./database";
import { pooler } from "./pooler";

/** How the server's watch-disk.sh makes it read-only. Nobody else writes it so, and an entry's `off` waits until it is over. */
const readOnlySetting = "default_transaction_read_only";
export const readOnlyMark = "yes";

/** Server settings by name, in lower case, kept in postgresql.auto.conf by ALTER SYSTEM. */
export type Settings = Record<string, string>;

/**
 * Settings that hold a list of quoted names; a comma outside of quotes would become part of one name.
 * https://www.postgresql.org/docs/18/sql-altersystem.html
 */
const lists = new Set([
  "local_preload_libraries",
  "oauth_validator_libraries",
  "output_plugin_libraries",
  "search_path",
  "session_preload_libraries",
  "shared_preload_libraries",
  "temp_tablespaces",
]);

/**
 * The settings of postgresql.auto.conf that tenants.yaml has, or once had; others are the tenant's own. The server's
 * database `postgres` has the names of all that pgs writes, from before it writes them: what a run that failed or was
 * killed has left is taken back by the next.
 */
export const settings: Part & {
  /** @returns whether the server was restarted for them */
  apply(server: RunningServer, options: { restart: boolean }): Promise<boolean>;
} = {
  name: "settings",

  differs(inputs, { inside }) {
    return inside !== undefined && changesOf(inputs, {}, inside.settings, inside.managed).length > 0;
  },

  async apply(server, { restart: restartAnyway }) {
    const { inputs, before, inside } = server;
    try {
      const pending = await write(server);
      const causes = { ...before.settings?.restart, ...inputs.settings.restart };
      const waits = { ...before.settings?.initial, ...inputs.settings.initial };
      // Also for what only a run that failed has written.
      const restarts = (name: string) =>
        name in causes || (inside.managed.includes(name) && !(name in waits));
      if (!restartAnyway && !pending.some(restarts)) return false;
      await restartWithSettings(server);
      return true;
    } catch (error) {
      throw positioned(error, inputs);
    }
  },
};

/** All that is to be in the file. */
export function wantedSettings({
  settings: { live, restart, initial },
}: Pick<PostgresServerInputs, "settings">): Settings {
  return { ...initial, ...live, ...restart };
}

/** Names of the settings whose change restarts the server. */
export function restartingSettings(
  { settings: { restart: before } }: Pick<PostgresServerInputs, "settings">,
  { settings: { restart: after } }: Pick<PostgresServerInputs, "settings">,
): string[] {
  return Object.keys({ ...before, ...after }).filter((name) => before[name] !== after[name]);
}

/** Whether the server runs with the libraries that are wanted: by default, a new one has some. */
export function isLoaded(
  { settings: { restart } }: Pick<PostgresServerInputs, "settings">,
  inside: Pick<Inside, "libraries"> | undefined,
): boolean {
  const wanted = restart.shared_preload_libraries;
  return (
    wanted !== undefined &&
    inside !== undefined &&
    isWritten("shared_preload_libraries", wanted, inside.libraries)
  );
}

/** A setting's name and its new value; undefined takes it out of the file. */
type Change = [name: string, value: string | undefined];

function changesOf(
  inputs: PostgresServerInputs,
  before: Partial<PostgresServerState>,
  present: Settings,
  managed: string[],
): Change[] {
  const wanted = wantedSettings(inputs);
  const former = [
    ...managed,
    ...Object.keys(before.settings ? wantedSettings({ settings: before.settings }) : {}),
  ];
  const watched = (name: string) => name === readOnlySetting && present[name] === readOnlyMark;
  const dropped = [...new Set(former)].filter(
    (name) => !(name in wanted) && name in present && !watched(name),
  );
  return [
    ...Object.entries(wanted).filter(
      ([name, value]) => !isWritten(name, value, present[name]) && !(watched(name) && value === "off"),
    ),
    ...dropped.map((name): Change => [name, undefined]),
  ];
}

/**
 * All or none, and a reload: when the server refuses one, the file is put back as it was before the server has read it.
 * @returns names of the settings that wait for a restart, whoever changed them
 */
async function write({ inputs, before, inside, container, session }: RunningServer): Promise<string[]> {
  const present = inside.settings;
  const changes = changesOf(inputs, before, present, inside.managed);
  const names = Object.keys(wantedSettings(inputs)).toSorted();
  if (changes.length === 0) {
    if (!isDeepStrictEqual(names, inside.managed)) await session.run(noted(names));
    return inside.pendingRestart;
  }
  await requireLibraries(session, changes);
  const undo = (done: Change[]) => session.run(done.map(([name]) => alter([name, present[name]])).join("\n"));
  const all = [...new Set([...names, ...changes.map(([name]) => name)])];
  const trial = Object.keys({ ...before.settings?.restart, ...inputs.settings.restart }).length > 0;
  const reload = [
    noted(names),
    "SELECT pg_reload_conf() \\g /dev/null",
    // The postmaster reads its files a moment after the signal, and this session hears of it after that.
    "SELECT pg_sleep(0.2) \\g /dev/null",
    "SELECT lower(name) FROM pg_settings WHERE pending_restart",
  ];
  const statements = [noted(all), ...changes.map(alter)];
  let pending: string;
  try {
    pending = await session.run([...statements, ...(trial ? [] : reload)].join("\n"));
  } catch (error) {
    // One statement a line: the line number, which psql says of a file, tells which one the server refused.
    const [, line, message] = /psql:<stdin>:(\d+): ((?:ERROR|FATAL).*)/.exec((error as Error).message) ?? [];
    const refused = changes[Number(line) - 2];
    if (!refused) throw error;
    await undo(changes.slice(0, Number(line) - 2));
    throw new Error(`setting ${refused[0]}: ${message}`);
  }
  if (trial) {
    const refused = await refusedStart(container);
    if (refused) {
      await undo(changes);
      throw new Error(`setting ${mentioned(changes, refused)}: ${refused}`);
    }
    pending = await session.run(reload.join("\n"));
  }
  return pending ? pending.split("\n") : [];
}

/** SQL that notes, in the server itself, which settings pgs writes. */
function noted(names: string[]): string {
  return `ALTER DATABASE postgres SET ${managedSetting} = ${literal(JSON.stringify(names))};`;
}

/** With settings that the server does not come up with, it goes on with those that it had. */
async function restartWithSettings(server: RunningServer): Promise<void> {
  const { container, session, inputs, inside } = server;
  const former = inside.settings;
  if (inside.unfinished) await session.run(keptUnfinished);
  await pooler.pause(server);
  const refused = await restart(container, session, former);
  if (refused === undefined) return;
  const names = Object.entries(inputs.settings.restart)
    .filter(([name, value]) => former[name] !== value)
    .map(([name]) => name)
    .join(", ");
  throw new Error(
    `${names && `setting ${names}: `}the server does not start with it and runs with its previous settings: ${refused}`,
  );
}

/** Names where in tenants.yaml the setting stands that a message begins with. */
function positioned(error: unknown, inputs: PostgresServerInputs): unknown {
  const [, name] = /^setting ([^\s,:]+)/.exec((error as Error).message) ?? [];
  const position = name && inputs.positions?.[name];
  return position ? new Error(`${position}: ${(error as Error).message}`) : error;
}

/** The changed settings that a message speaks of; all of them where it names none. */
function mentioned(changes: Change[], message: string): string {
  const names = changes.map(([name]) => name);
  const named = names.filter((name) => message.includes(name));
  return (named.length > 0 ? named : names).join(", ");
}

/** A server does not start with a library that is not there, and ALTER SYSTEM does not look. */
async function requireLibraries(session: Session, changes: Change[]): Promise<void> {
  for (const [name, value] of changes) {
    if (value === undefined || !name.endsWith("_preload_libraries")) continue;
    // https://www.postgresql.org/docs/18/runtime-config-client.html#GUC-LOCAL-PRELOAD-LIBRARIES
    const folder = name === "local_preload_libraries" ? "/plugins" : "";
    for (const library of listElements(value)) {
      const path = `(SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR') || ${literal(`${folder}/${library}.so`)}`;
      const found = await session.read(`SELECT (pg_stat_file(${path}, true)).size IS NOT NULL`);
      if (found !== "t") throw new Error(`setting ${name}: the image has no library ${library}`);
    }
  }
}

/** SQL that writes a setting to the file, or takes it out. */
export function alter([name, value]: Change): string {
  // Before PostgreSQL 17, the file takes only settings that the session knows.
  const known = name === budgetSetting ? `SET ${name} = ''; ` : "";
  return `${known}ALTER SYSTEM ${assignment(name, value)};`;
}

/** What comes behind ALTER SYSTEM or ALTER ROLE; undefined takes the setting out. */
export function assignment(name: string, value: string | undefined): string {
  if (value === undefined || isLeftOut(name, value)) return `RESET ${name}`;
  return `SET ${name} = ${quoted(name, value)}`;
}

function quoted(name: string, value: string): string {
  return lists.has(name) ? listElements(value).map(literal).join(", ") || "''" : literal(value);
}

/**
 * Lists that are empty when nobody sets them. ALTER SYSTEM would leave a list with one empty name instead: a
 * library that the server looks for in vain at every login.
 */
const emptyLists = /^((local|session|shared)_preload_libraries|oauth_validator_libraries|temp_tablespaces)$/;

function isLeftOut(name: string, value: string): boolean {
  return emptyLists.test(name) && listElements(value).length === 0;
}

/** Whether `text`, the setting's text in the file or undefined, says `value`. */
export function isWritten(name: string, value: string, text: string | undefined): boolean {
  if (isLeftOut(name, value)) return text === undefined;
  if (!lists.has(name) || text === undefined) return text === value;
  return isDeepStrictEqual(listElements(text), listElements(value));
}
