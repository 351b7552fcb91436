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

const text = z.string().max(20_000);
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
  certificateDigest: text.nullable(),
  clients: text,
  sessions: z.number(),
  sharedBuffers: z.number(),
  versions: z.array(z.number()).max(100),
});

/** In the database postgres: a JSON list of the names of settings that pgs writes. */
export const managedSetting = "pgs.settings";

/** In the database postgres: the name of a database that is being made. */
export const creatingSetting = "pgs.creating";

/** Asks a server all of it in one question. @param seconds until it has to be ready */
export async function lookInside(session: Session, seconds?: number): Promise<Inside> {
  const answer = await session.read(question(session.tenant), { seconds });
  let parsed: unknown;
  try {
    parsed = JSON.parse(answer);
  } catch {
    throw new Error("the server's answer is not what PostgreSQL answers: its catalogs were changed");
  }
  const inside = insideSchema.safeParse(parsed);
  if (inside.success) return inside.data;
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
