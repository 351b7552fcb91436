import { dockerClient, ifPresent } from "../../docker/client";
import { printable } from "../../docker/exec";
import { printedIn } from "./image";
import type { PostgresServerInputs, PostgresServerState } from "./inputs";
import { identifier, literal, Session } from "./session";

type Database = PostgresServerInputs["database"];

/** What counts when a tenant's database is made, in the words of tenants.yaml. */
export const localeFields = ["locale", "encoding", "icu"] as const;

/** https://www.postgresql.org/docs/18/sql-createdatabase.html */
export function createDatabase(name: string, { locale, encoding, icu }: Database): string {
  const options = [
    encoding && `ENCODING ${literal(encoding)}`,
    locale && `LOCALE ${literal(locale)}`,
    icu && `LOCALE_PROVIDER icu ICU_LOCALE ${literal(icu)}`,
  ].filter(Boolean);
  // Another template may have data that another locale would sort otherwise.
  const template = options.length > 0 ? ` TEMPLATE template0 ${options.join(" ")}` : "";
  return `CREATE DATABASE ${identifier(name)}${template};`;
}

/** Why what was made stays as it is; undefined where nothing else is asked for. */
export function otherLocale(tenant: string, made: Database, wanted: Database): string | undefined {
  const changed = localeFields.filter((field) => made[field] !== wanted[field]);
  if (changed.length === 0) return undefined;
  const again = changed.map((field) =>
    made[field] === undefined ? `leave ${field} out` : `write ${field}: ${made[field]} again`,
  );
  return (
    `the database of ${tenant} is made, and its locale and encoding stay as they are: ${again.join(", ")}. ` +
    "For another, add a second tenant with it and copy the data (docs/dump-and-load.md)"
  );
}

/**
 * Whether an entry that has more of it than the one by which the database was made says what the database is: one that
 * was made as the image's cluster is may say so later.
 */
export async function isMadeSo(state: PostgresServerState, wanted: Database): Promise<boolean> {
  const { host, container, version, tenant, database: made } = state;
  if (localeFields.some((field) => made[field] !== undefined && made[field] !== wanted[field])) return false;
  const session = new Session(dockerClient(host).getContainer(container.name), version, tenant);
  return refuseOtherLocale(session, wanted, 15).then(
    () => true,
    () => false,
  );
}

/** @throws Error where a database that was there before its entry was made otherwise than the entry says */
export async function refuseOtherLocale(session: Session, wanted: Database, seconds?: number): Promise<void> {
  if (!localeFields.some((field) => wanted[field])) return;
  const answer = await session.read(
    // The name of ICU's column is another before version 17.
    `SELECT datcollate || E'\\n' || pg_encoding_to_char(encoding) || E'\\n'
      || coalesce(row_to_json(d) ->> 'datlocale', row_to_json(d) ->> 'daticulocale', '')
    FROM pg_database AS d WHERE datname = ${literal(session.tenant)};`,
    { seconds },
  );
  const [locale = "", encoding = "", icu = ""] = answer.split("\n").map((line) => printable(line, 100));
  const found = { locale, encoding, icu };
  const same = (one = "", other = "") => plainName(one) === plainName(other);
  const other = localeFields.find((field) => wanted[field] && !same(wanted[field], found[field]));
  if (!other) return;
  throw new Error(
    found[other]
      ? `the database is there already, with ${other} ${found[other]}: write ${other}: ${found[other]}`
      : `the database is there already, without ${other}: leave ${other} out`,
  );
}

/** en_US.UTF-8 and en_US.utf8 are one. */
function plainName(name: string): string {
  return name.toLowerCase().replace(/[-_]/g, "");
}

/**
 * What an image lacks for a new database, before anything is made. An image that is not on the host yet, or cannot tell,
 * leaves it to PostgreSQL.
 */
export async function missingLocale(
  inputs: Partial<PostgresServerInputs>,
  { locale = "", icu = "" }: Database,
): Promise<string | undefined> {
  if (!locale && !icu) return undefined;
  const answer = await ifPresent(
    printedIn(inputs, `locale ${locale} ${icu}`, ["sh", "-c", look, "sh", locale, icu]),
  );
  const [, what, there = ""] = /^missing (locale|icu)(.*)$/m.exec(answer ?? "") ?? [];
  const image = "docs/tenants.md (Locales) says how an image of your own gets it";
  if (what === "icu")
    return `PostgreSQL in the image is built without ICU; leave icu out, or take an image that has it`;
  return what && `the image has no locale ${locale}; it has ${printable(there, 500)}. ${image}`;
}

const look = `
  if [ -n "$1" ] && command -v locale >/dev/null && LC_ALL=$1 locale charmap 2>&1 | grep -q "^locale: Cannot set"; then
    echo missing locale $(locale -a)
  fi
  if [ -n "$2" ] && pg_config --configure 2>/dev/null | grep -q -e --without-icu; then echo missing icu; fi`;
