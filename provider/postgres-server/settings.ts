import { isDeepStrictEqual } from "node:util";
import type Docker from "dockerode";
import { literal, psql } from "./psql";
import { refusedStart } from "./start";

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
 * Brings about `wanted`, takes back what was set before (`previous`) and is no longer wanted, and reloads.
 * Settings that somebody else made are left alone. When the server refuses one, none of them counts.
 * @param trial whether to ask the server's program if it would start with the new values
 * @returns names of the settings that wait for a restart, whoever changed them
 */
export async function applySettings(
  container: Docker.Container,
  wanted: Settings,
  previous: Settings,
  present: Settings,
  trial: boolean,
): Promise<string[]> {
  const set = Object.entries(wanted).filter(([name, value]) => !isWritten(name, value, present[name]));
  const dropped = Object.keys(previous).filter((name) => !(name in wanted) && name in present);
  const changed: Change[] = [...set, ...dropped.map((name): Change => [name, undefined])];
  await requireLibraries(container, set);
  await writeSettings(container, changed, present, trial);
  const reload = [
    "SELECT pg_reload_conf() \\g /dev/null",
    // The postmaster reads its files a moment after the signal, and this session hears of it after that.
    "SELECT pg_sleep(0.2) \\g /dev/null",
  ];
  const pending = await psql(
    container,
    [
      ...(changed.length === 0 ? [] : reload),
      "SELECT lower(name) FROM pg_settings WHERE pending_restart",
    ].join("\n"),
  );
  return pending ? pending.split("\n") : [];
}

/** A setting's name and its new value; undefined takes it out of the file. */
type Change = [name: string, value: string | undefined];

/** All or none: on an error the file is put back as it was, before the server has read it. */
async function writeSettings(
  container: Docker.Container,
  changes: Change[],
  present: Settings,
  trial: boolean,
): Promise<void> {
  if (changes.length === 0) return;
  const alter = ([name, value]: Change) =>
    value === undefined || isLeftOut(name, value)
      ? `ALTER SYSTEM RESET ${name};`
      : `ALTER SYSTEM SET ${name} = ${quoted(name, value)};`;
  const undo = (done: Change[]) =>
    psql(container, done.map(([name]) => alter([name, present[name]])).join("\n"));
  try {
    await psql(container, changes.map(alter).join("\n"), { arguments: ["--file", "-"] });
  } catch (error) {
    // One statement a line: the line number, which psql tells of a file, says which one the server refused.
    const [, line, message] = /^psql:<stdin>:(\d+): (.*)/.exec((error as Error).message) ?? [];
    if (!line) throw error;
    await undo(changes.slice(0, Number(line) - 1));
    throw new Error(`setting ${changes[Number(line) - 1]?.[0]}: ${message}`);
  }
  const refused = trial && (await refusedStart(container));
  if (!refused) return;
  await undo(changes);
  throw new Error(`setting ${mentioned(changes, refused)}: ${refused}`);
}

/** The changed settings that a message speaks of; all of them where it names none. */
function mentioned(changes: Change[], message: string): string {
  const names = changes.map(([name]) => name);
  const named = names.filter((name) => message.includes(name));
  return (named.length > 0 ? named : names).join(", ");
}

/** Those of `names` as they stand in postgresql.auto.conf, in the form in which they were asked for. */
export function asWritten(names: Settings, present: Settings): Settings {
  return Object.fromEntries(
    Object.entries(names)
      .filter(([name, value]) => name in present || isWritten(name, value, undefined))
      .map(([name, value]) => [name, isWritten(name, value, present[name]) ? value : (present[name] ?? "")]),
  );
}

/** A server does not start with a library that is not there, and ALTER SYSTEM does not look. */
async function requireLibraries(container: Docker.Container, changed: [string, string][]): Promise<void> {
  for (const [name, value] of changed) {
    if (!name.endsWith("_preload_libraries")) continue;
    // https://www.postgresql.org/docs/18/runtime-config-client.html#GUC-LOCAL-PRELOAD-LIBRARIES
    const folder = name === "local_preload_libraries" ? "/plugins" : "";
    for (const library of elements(value)) {
      const path = `(SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR') || ${literal(`${folder}/${library}.so`)}`;
      const found = await psql(container, `SELECT (pg_stat_file(${path}, true)).size IS NOT NULL`);
      if (found !== "t") throw new Error(`setting ${name}: the image has no library ${library}`);
    }
  }
}

function quoted(name: string, value: string): string {
  return lists.has(name) ? elements(value).map(literal).join(", ") || "''" : literal(value);
}

/**
 * Lists that are empty when nobody sets them. ALTER SYSTEM would leave a list with one empty name instead: a
 * library that the server looks for in vain at every login.
 */
const emptyLists = /^((local|session|shared)_preload_libraries|oauth_validator_libraries|temp_tablespaces)$/;

function isLeftOut(name: string, value: string): boolean {
  return emptyLists.test(name) && elements(value).length === 0;
}

/** Whether `text`, the setting's text in the file or undefined, says `value`. */
function isWritten(name: string, value: string, text: string | undefined): boolean {
  if (isLeftOut(name, value)) return text === undefined;
  if (!lists.has(name) || text === undefined) return text === value;
  return isDeepStrictEqual(elements(text), elements(value));
}

/** Of a list, each in double quotes where it has to be: `app, "a name"`. */
function elements(value: string): string[] {
  const found = value.match(/"(?:[^"]|"")*"|[^\s,"][^,]*/g) ?? [];
  return found
    .map((element) => (element.startsWith('"') ? element.slice(1, -1).replaceAll('""', '"') : element.trim()))
    .filter((element) => element !== "");
}
