import { z } from "zod";
import type { Settings } from "./parts/settings";
import { certificateDigest } from "./parts/tls";
import { literal, type Session } from "./session";

/**
 * What a server answers of itself. Its superuser is the tenant, so it may answer anything: these are data, never run and
 * never printed as they are.
 */
export interface Inside {
  /** What pg_authid has of the role postgres. */
  verifier: string | null;
  /** Until when that role may log in by its password; null: for ever. */
  validUntil: string | null;
  /** Whether the tenant's database is there, and whether it takes connections. */
  database: boolean;
  takesConnections: boolean;
  /** The database postgres, where pgs keeps its notes: the tenant may drop it, close it, or half drop it. */
  maintenance: "open" | "closed" | "invalid" | "gone";
  /** A database is being made, or a run that made one was cut off. */
  creating: boolean;
  /** The data directory has never been complete: the next start makes it again. */
  unfinished: boolean;
  /** Contents of postgresql.auto.conf, names in lower case. */
  settings: Settings;
  /** Names of those that pgs has written, or was about to. */
  managed: string[];
  /** Settings that wait for a restart, whoever changed them. */
  pendingRestart: string[];
  /** Libraries that the running server has preloaded, as the setting has them. */
  libraries: string;
  /** Names of the extensions that pgs has made in the tenant's database, or was about to. */
  extensions: string[];
  /** Of those: what is installed, and what the image would bring. Undefined when the database cannot be asked. */
  installed?: Installed;
  /** Digest of the file with the server's certificate. */
  certificateDigest: string | null;
  /** From where pg_hba.conf lets clients in: a CIDR or `all`; `reject`; empty when the image's line is not there. */
  clients: string;
  /** Client sessions that came over the network. */
  sessions: number;
  /** Of the running server, in bytes. */
  sharedBuffers: number;
  /** Major versions that have a data directory in the volume. */
  versions: number[];
}

/** Versions by an extension's name: null where it is not in the database, or not in the image. */
export type Installed = Record<string, { version: string | null; newest: string | null }>;

const text = z.string().max(20_000);
const installedSchema = z.record(text, z.object({ version: text.nullable(), newest: text.nullable() }));
const insideSchema: z.ZodType<Inside> = z.object({
  verifier: text.nullable(),
  validUntil: text.nullable(),
  database: z.boolean(),
  takesConnections: z.boolean(),
  maintenance: z.enum(["open", "closed", "invalid", "gone"]),
  creating: z.boolean(),
  unfinished: z.boolean(),
  settings: z.record(text, text),
  managed: z.array(text).max(2000),
  pendingRestart: z.array(text).max(2000),
  libraries: text,
  extensions: z.array(text).max(2000),
  certificateDigest: text.nullable(),
  clients: text,
  sessions: z.number(),
  sharedBuffers: z.number(),
  versions: z.array(z.number()).max(100),
});

/** In the database postgres: a JSON list of the names of settings that pgs writes. */
export const managedSetting = "pgs.settings";

/** In the database postgres: a JSON list of the extensions that pgs makes in the tenant's database. */
export const extensionsSetting = "pgs.extensions";

/** In the database postgres: the name of a database that is being made. */
export const creatingSetting = "pgs.creating";

/** Asks a server all of it in one question; one more where it has extensions. @param seconds until it has to be ready */
export async function lookInside(session: Session, seconds?: number): Promise<Inside> {
  const inside = answered(insideSchema, await session.read(question(session.tenant), { seconds }));
  const { extensions, database, takesConnections } = inside;
  if (extensions.length === 0 || !database || !takesConnections) return inside;
  return { ...inside, installed: await installedOf(session, extensions).catch(() => undefined) };
}

/** Of some extensions, in the tenant's database. */
export async function installedOf(session: Session, names: string[]): Promise<Installed> {
  const sql = `SELECT json_object_agg(name, json_build_object('version', extversion, 'newest', default_version))
    FROM json_array_elements_text(${literal(JSON.stringify(names))}) AS wanted (name)
      LEFT JOIN pg_extension ON extname = name LEFT JOIN pg_available_extensions USING (name)`;
  return answered(installedSchema, await session.read(sql, { database: session.tenant }));
}

/** @throws Error when the answer has another form */
function answered<T>(schema: z.ZodType<T>, answer: string): T {
  let parsed: unknown;
  try {
    parsed = JSON.parse(answer);
  } catch {}
  const checked = schema.safeParse(parsed);
  if (checked.success) return checked.data;
  throw new Error("the server's answer is not what PostgreSQL answers: its catalogs were changed");
}

function question(database: string): string {
  const named = `FROM pg_catalog.pg_database WHERE datname = ${literal(database)}`;
  return `SELECT json_build_object(
    'verifier', (SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'),
    'validUntil', (SELECT rolvaliduntil FROM pg_authid WHERE rolname = 'postgres' AND isfinite(rolvaliduntil)),
    'database', EXISTS (SELECT ${named}),
    'takesConnections', EXISTS (SELECT ${named} AND datallowconn),
    'maintenance', coalesce((SELECT CASE WHEN datconnlimit = -2 THEN 'invalid' WHEN datallowconn THEN 'open'
                             ELSE 'closed' END FROM pg_database WHERE datname = 'postgres'), 'gone'),
    'creating', current_setting('${creatingSetting}', true) <> '' IS TRUE,
    'unfinished', (pg_stat_file(current_setting('data_directory') || '.unfinished', true)).size IS NOT NULL,
    'settings', (SELECT coalesce(json_object_agg(lower(name), setting), '{}') FROM pg_file_settings
                 WHERE sourcefile LIKE '%/postgresql.auto.conf'),
    'managed', coalesce(nullif(current_setting('${managedSetting}', true), '')::json, '[]'),
    'pendingRestart', (SELECT coalesce(json_agg(lower(name)), '[]') FROM pg_settings WHERE pending_restart),
    'libraries', current_setting('shared_preload_libraries'),
    'extensions', coalesce(nullif(current_setting('${extensionsSetting}', true), '')::json, '[]'),
    'certificateDigest', ${certificateDigest},
    'clients', (SELECT coalesce(max(coalesce((regexp_match(line, '^host all all (\\S+) scram-sha-256$'))[1],
                  (regexp_match(line, '^host all all all (reject)$'))[1])), '')
                FROM regexp_split_to_table(pg_read_file(current_setting('hba_file')), '\\n') AS line),
    'sessions', (SELECT count(*) FROM pg_stat_activity
                 WHERE backend_type = 'client backend' AND client_addr IS NOT NULL AND client_addr <> '127.0.0.1'),
    'sharedBuffers', pg_size_bytes(current_setting('shared_buffers')),
    'versions', (SELECT coalesce(json_agg(name::int), '[]') FROM pg_ls_dir('/var/lib/postgresql') AS name
                 WHERE name ~ '^[0-9]+$'))`;
}
