import type Docker from "dockerode";
import { literal, psql } from "./psql";

/** Server settings by name, as written in tenants.yaml; kept in postgresql.auto.conf by ALTER SYSTEM. */
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
 * Settings that somebody else made are left alone.
 * @returns names of the settings that wait for a restart
 */
export async function applySettings(
  container: Docker.Container,
  wanted: Settings,
  previous: Settings,
  present: Settings,
): Promise<string[]> {
  const changed = Object.entries(wanted).filter(([name, value]) => present[name] !== stored(name, value));
  const dropped = Object.keys(previous).filter((name) => !(name in wanted) && name in present);
  if (changed.length === 0 && dropped.length === 0) return [];
  const statements = [
    ...changed.map(([name, value]) => `ALTER SYSTEM SET ${name} = ${quoted(name, value)};`),
    ...dropped.map((name) => `ALTER SYSTEM RESET ${name};`),
    "SELECT pg_reload_conf() \\g /dev/null",
    // The postmaster reads its files a moment after the signal; this session hears of it after that.
    "SELECT pg_sleep(0.2) \\g /dev/null",
    "SELECT name FROM pg_settings WHERE pending_restart;",
  ];
  const pending = await psql(container, statements.join("\n"));
  return pending ? pending.split("\n") : [];
}

/** Those of `names` as they stand in postgresql.auto.conf, in the form in which they were asked for. */
export function asWritten(names: Settings, present: Settings): Settings {
  return Object.fromEntries(
    Object.entries(names)
      .filter(([name]) => name in present)
      .map(([name, value]) => [name, present[name] === stored(name, value) ? value : (present[name] ?? "")]),
  );
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
    .map((element) => element.trim())
    .filter((element) => element !== "");
}
