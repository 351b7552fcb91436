import { readFileSync } from "node:fs";
import { join } from "node:path";

/** What a server says of one of its settings. https://www.postgresql.org/docs/18/view-pg-settings.html */
interface Setting {
  type: "bool" | "enum" | "integer" | "real" | "string";
  context: string;
  unit?: string;
  min?: number;
  max?: number;
  values?: string[];
}

type Catalogue = ReadonlyMap<string, Setting>;

/** The newest version that has a catalogue here. */
const newest = 18;

const catalogues = new Map<number, Catalogue | undefined>();

/** Names are not case-sensitive to PostgreSQL. Undefined for a major version that has no catalogue here. */
function catalogueOf(version: number): Catalogue | undefined {
  if (!catalogues.has(version)) catalogues.set(version, readCatalogue(version));
  return catalogues.get(version);
}

function readCatalogue(version: number): Catalogue | undefined {
  try {
    const text = readFileSync(join(__dirname, "postgres-settings", `${version}.json`), "utf8");
    const settings = Object.entries(JSON.parse(text) as Record<string, Setting>);
    return new Map(settings.map(([name, setting]) => [name.toLowerCase(), setting]));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** The settings that this version knows, in lower case; empty when they are not known here. */
export function settingNames(version: number): string[] {
  return [...(catalogueOf(version)?.keys() ?? [])];
}

/**
 * Whether a changed value waits for the server's next start. An extension's settings do not. This hardly differs between
 * versions: one without a catalogue here is like the newest.
 */
export function needsRestart(version: number, name: string): boolean {
  const catalogue = catalogueOf(version) ?? catalogueOf(newest);
  return catalogue?.get(name)?.context === "postmaster";
}

/** Settings that PostgreSQL takes from no file. https://www.postgresql.org/docs/18/sql-set.html */
const sessionsOwn = /^transaction_(deferrable|isolation|read_only)$/;

/**
 * What is wrong with a setting of tenants.yaml: an unknown name, or a value that the server would refuse.
 * What only a running server can tell (a time zone, a library) is left to it, and so are extensions' settings.
 */
export function settingProblem(version: number, name: string, value: string): string | undefined {
  const catalogue = catalogueOf(version);
  if (!catalogue || name.includes(".")) return undefined;
  const setting = catalogue.get(name);
  if (!setting) return `PostgreSQL ${version} has no setting ${name}`;
  if (sessionsOwn.test(name))
    return `${name} belongs to a session or transaction and cannot be set for a server`;
  if (setting.context === "internal") return `${name} tells how the server was built and cannot be set`;
  switch (setting.type) {
    case "bool":
      return /^(on|off|true|false|yes|no|1|0)$/i.test(value) ? undefined : `expected on or off, got ${value}`;
    case "enum":
      return enumProblem(setting.values ?? [], value);
    case "integer":
    case "real":
      return numberProblem(setting, value);
    default:
      return undefined;
  }
}

/** What keeps a setting from being a role's own. https://www.postgresql.org/docs/18/view-pg-settings.html */
export function roleSettingProblem(version: number, name: string): string | undefined {
  if (name === "role" || name === "session_authorization") return `${name} is set by pgs: use grants`;
  const context = catalogueOf(version)?.get(name)?.context;
  if (context === undefined || !/^(postmaster|sighup)$/.test(context)) return undefined;
  return `${name} is the whole server's: write it in the tenant's own settings`;
}

/** Where on and off are among the values, their other spellings are accepted as well. */
function enumProblem(values: string[], value: string): string | undefined {
  const wanted = value.toLowerCase();
  if (values.some((allowed) => allowed.toLowerCase() === wanted)) return undefined;
  if (values.includes("on") && /^(true|false|yes|no|1|0)$/.test(wanted)) return undefined;
  return `expected ${values.join(", ")}, got ${value}`;
}

/** How many of the first unit one of each makes. https://www.postgresql.org/docs/18/config-setting.html */
const memoryUnits = { B: 1, kB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30, TB: 2 ** 40 };
const timeUnits = { us: 1, ms: 1e3, s: 1e6, min: 6e7, h: 3.6e9, d: 8.64e10 };

function numberProblem(setting: Setting, value: string): string | undefined {
  const units = unitsFor(setting.unit);
  const allowed = `expected a number from ${setting.min} to ${setting.max}${
    setting.unit ? ` (× ${setting.unit}), or one with a unit (${Object.keys(units).join(", ")})` : ""
  }, got ${value}`;
  const text = setting.type === "integer" ? decimal(value.trim()) : value.trim();
  const match = /^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)$/.exec(text);
  if (!match) return allowed;
  const factor = match[2] ? units[match[2]] : baseOf(setting.unit, units);
  if (factor === undefined) return allowed;
  const number = (Number(match[1]) * factor) / baseOf(setting.unit, units);
  const rounded = setting.type === "integer" ? Math.round(number) : number;
  if (rounded < (setting.min ?? -Infinity) || rounded > (setting.max ?? Infinity)) return allowed;
  return undefined;
}

/** PostgreSQL reads a whole number as C does: 0640 is octal, 0x1A0 hexadecimal. */
function decimal(value: string): string {
  if (/^0[0-7]+$/.test(value)) return String(Number.parseInt(value, 8));
  return /^0x[0-9a-f]+$/i.test(value) ? String(Number(value)) : value;
}

function unitsFor(unit: string | undefined): Record<string, number> {
  if (!unit) return {};
  return unit in timeUnits ? timeUnits : memoryUnits;
}

/** 8kB, of which shared_buffers is counted, is a unit of settings that nobody can write. */
function baseOf(unit: string | undefined, units: Record<string, number>): number {
  const match = /^(\d*)([a-zA-Z]+)$/.exec(unit ?? "");
  return match?.[2] ? Number(match[1] || 1) * (units[match[2]] ?? 1) : 1;
}

/** A size setting in bytes; undefined when it is not one. */
export function sizeInBytes(version: number, name: string, value: string): number | undefined {
  const unit = catalogueOf(version)?.get(name)?.unit;
  const match = /^(\d+(?:\.\d+)?)\s*([a-zA-Z]*)$/.exec(value.trim());
  if (!unit || !match) return undefined;
  const factor = match[2] ? memoryUnits[match[2] as keyof typeof memoryUnits] : baseOf(unit, memoryUnits);
  return factor && Number(match[1]) * factor;
}

/** Of a list, each in double quotes where it has to be: `app, "a name"`. */
export function listElements(value: string): string[] {
  const found = value.match(/"(?:[^"]|"")*"|[^\s,"][^,]*/g) ?? [];
  return found
    .map((element) => (element.startsWith('"') ? element.slice(1, -1).replaceAll('""', '"') : element.trim()))
    .filter((element) => element !== "");
}
