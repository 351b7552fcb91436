import { listElements } from "./postgres-settings";

/** An extension of a tenant's database, as its entry asks for it: `vector`, or `vector@0.8.0`. */
export interface Extension {
  name: string;
  /** Default: the newest that the image has. */
  version?: string;
}

/**
 * `NAME` or `NAME@VERSION`. Two hyphens in a row divide the two in the names of an extension's files.
 * https://www.postgresql.org/docs/18/extend-extensions.html
 */
export const extensionPattern = /^(?=[^@]{1,63}(@|$))[A-Za-z_]\w*(-\w+)*(@[\w.+]+(-[\w.+]+)*)?$/;

export function parseExtension(text: string): Extension {
  const [name = "", version] = text.split("@");
  return version === undefined ? { name } : { name, version };
}

/** The image of a tenant among those of pgs:images: 18, or 18-pgvector. */
export function imageKey(version: number, variant: string | undefined): string {
  return variant === undefined ? String(version) : `${version}-${variant}`;
}

/** The major versions among the keys of pgs:images. */
export function versionsOf(images: readonly string[]): number[] {
  return [...new Set(images.map((key) => Number.parseInt(key, 10)))];
}

/** A new tenant has it, as each server of pgs does that says nothing else of its libraries. */
export const usualLibrary = "pg_stat_statements";

/** Libraries that a server has to start with for an extension, in the order in which they are to be loaded. */
const libraries: Readonly<Record<string, string>> = {
  citus: "citus",
  timescaledb: "timescaledb",
  pg_stat_statements: "pg_stat_statements",
  pg_stat_kcache: "pg_stat_kcache",
  pg_qualstats: "pg_qualstats",
  pg_wait_sampling: "pg_wait_sampling",
  pg_cron: "pg_cron",
  pg_net: "pg_net",
  pg_squeeze: "pg_squeeze",
  pgaudit: "pgaudit",
  pglogical: "pglogical",
  pg_tle: "pg_tle",
  set_user: "set_user",
  vchord: "vchord",
};

/**
 * Settings that a tenant's extensions need: their libraries beside those that the entry names itself, and where pg_cron
 * has its tables. Empty when none needs any.
 * @param own the entry's settings
 */
export function extensionSettings(
  id: string,
  extensions: readonly Extension[],
  own: Readonly<Record<string, string>>,
): Record<string, string> {
  const names = extensions.map(({ name }) => name);
  const needed = Object.keys(libraries).filter((name) => names.includes(name));
  if (needed.length === 0) return {};
  const given = own.shared_preload_libraries;
  const usual = Object.keys(libraries).filter((name) => name === usualLibrary || needed.includes(name));
  const all = given === undefined ? usual : [...listElements(given), ...needed];
  return {
    shared_preload_libraries: [...new Set(all)].map(quotedElement).join(", "),
    ...(needed.includes("pg_cron") && { "cron.database_name": own["cron.database_name"] ?? id }),
  };
}

function quotedElement(name: string): string {
  return /^\w+$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}
