import type Docker from "dockerode";
import { literal, psql } from "./psql";

/** Server settings by name, in lower case, kept in postgresql.auto.conf by ALTER SYSTEM. */
export type Settings = Record<string, string>;

/**
 * Settings that hold a list of quoted names; a comma outside of quotes would become part of one name.
 * https://www.postgresql.org/docs/18/sql-altersystem.html
 */
const lists = new Set([
  "local_preload_libraries",
  "search_path",
  "session_preload_libraries",
  "shared_preload_libraries",
  "temp_tablespaces",
]);

/**
 * Brings about `wanted`, takes back what was set before (`previous`) and is no longer wanted, and reloads.
 * Settings that somebody else made are left alone. When the server refuses one, none of them counts.
 * @returns names of the settings that wait for a restart, whoever changed them
 */
export async function applySettings(
  container: Docker.Container,
  wanted: Settings,
  previous: Settings,
  present: Settings,
): Promise<string[]> {
  const changed = Object.entries(wanted).filter(([name, value]) => present[name] !== stored(name, value));
  const dropped = Object.keys(previous).filter((name) => !(name in wanted) && name in present);
  await requireLibraries(container, changed);
  await writeSettings(container, changed, present);
  const reload = [
    ...dropped.map((name) => `ALTER SYSTEM RESET ${name};`),
    "SELECT pg_reload_conf() \\g /dev/null",
    // The postmaster reads its files a moment after the signal, and this session hears of it after that.
    "SELECT pg_sleep(0.2) \\g /dev/null",
  ];
  const nothing = changed.length === 0 && dropped.length === 0;
  const pending = await psql(
    container,
    [...(nothing ? [] : reload), "SELECT lower(name) FROM pg_settings WHERE pending_restart"].join("\n"),
  );
  return pending ? pending.split("\n") : [];
}

/** All or none: on an error the file is put back as it was, before the server has read it. */
async function writeSettings(
  container: Docker.Container,
  changed: [string, string][],
  present: Settings,
): Promise<void> {
  if (changed.length === 0) return;
  const alter = ([name, value]: [string, string]) => `ALTER SYSTEM SET ${name} = ${quoted(name, value)};`;
  try {
    await psql(container, changed.map(alter).join("\n"), { arguments: ["--file", "-"] });
  } catch (error) {
    const before = changed.map(([name]) =>
      name in present ? alter([name, present[name] ?? ""]) : `ALTER SYSTEM RESET ${name};`,
    );
    await psql(container, before.join("\n"));
    // One statement a line: the line number, which psql tells of a file, says which one the server refused.
    const [, line, message] = /^psql:<stdin>:(\d+): (.*)/.exec((error as Error).message) ?? [];
    throw line ? new Error(`setting ${changed[Number(line) - 1]?.[0]}: ${message}`) : error;
  }
}

/** Those of `names` as they stand in postgresql.auto.conf, in the form in which they were asked for. */
export function asWritten(names: Settings, present: Settings): Settings {
  return Object.fromEntries(
    Object.entries(names)
      .filter(([name]) => name in present)
      .map(([name, value]) => [name, present[name] === stored(name, value) ? value : (present[name] ?? "")]),
  );
}

/** A server does not start with a library that is not there, and ALTER SYSTEM does not look. */
async function requireLibraries(container: Docker.Container, changed: [string, string][]): Promise<void> {
  for (const [name, value] of changed) {
    if (!name.endsWith("_preload_libraries")) continue;
    for (const library of elements(value)) {
      const path = `(SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR') || ${literal(`/${library}.so`)}`;
      const found = await psql(container, `SELECT (pg_stat_file(${path}, true)).size IS NOT NULL`);
      if (found !== "t") throw new Error(`setting ${name}: the image has no library ${library}`);
    }
  }
}

function quoted(name: string, value: string): string {
  return lists.has(name) ? elements(value).map(literal).join(", ") || "''" : literal(value);
}

/** The text that ALTER SYSTEM leaves in the file for `value`. */
function stored(name: string, value: string): string {
  if (!lists.has(name)) return value;
  return elements(value)
    .map((element) => (/^[a-z_][a-z0-9_$]*$/.test(element) ? element : `"${element}"`))
    .join(", ");
}

function elements(value: string): string[] {
  return value
    .split(",")
    .map((element) => element.trim().replace(/^"(.*)"$/, "$1"))
    .filter((element) => element !== "");
}
