import { z } from "zod";
import { diskUseFile, diskUseText } from "../../docker/disk-use";
import { monitorRole } from "../../docker/session-options";
import { defaultPrivileges } from "./parts/roles-in-database";
import type { Settings } from "./parts/settings";
import { certificateDigest } from "./parts/tls";
import { literal, type SqlSession } from "./session";

/**
 * What a server answers of itself. Its superuser is the tenant, so it may answer anything: these are data, never run and
 * never printed as they are.
 */
export interface Inside {
  /** What pg_authid has of the role postgres. */
  verifier: string | null;
  /** Until when that role may log in by its password; null: for ever. */
  validUntil: string | null;
  /** Whether another role than postgres is a superuser, or can become one. */
  otherSuperusers: boolean;
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
  roles: {
    /** What pgs notes of the roles that it manages; null: nothing. */
    note: string | null;
    /** Of the tenant's database. */
    owner: string | null;
    /** Those that the note names. */
    found: RoleSeen[];
    /** What they get in the tenant's database of each new object (parts/roles-in-database.ts); null: not asked. */
    defaultPrivileges: string[] | null;
  };
  /** Digest of the file with the server's certificate. */
  certificateDigest: string | null;
  /** From where pg_hba.conf lets clients in: a CIDR or `all`; `reject`; empty when the image's line is not there. */
  clients: string;
  /** From where its first line lets the role of monitoring in; empty where that is another. */
  monitors: string;
  /** Client sessions that came over the network. */
  sessions: number;
  /** Of the running server, in bytes. */
  sharedBuffers: number;
  /** Major versions that have a data directory in the volume. */
  versions: number[];
  /** What watches its disk has found (docker/disk-use.ts); null where nothing does. */
  disk: string | null;
}

/** Versions by an extension's name: null where it is not in the database, or not in the image. */
export type Installed = Record<string, { version: string | null; newest: string | null }>;

/** A role as the catalogs have it. */
export interface RoleSeen {
  name: string;
  login: boolean;
  /** Whether it has an attribute that no role of an entry has, or does not inherit from its groups. */
  privileged: boolean;
  connectionLimit: number;
  /** Seconds since 1970; null: for ever. */
  validUntil: number | null;
  verifier: string | null;
  /** `name=value` each. */
  settings: string[];
  /** The role that its sessions in the tenant's database begin as. */
  actsAs: string | null;
  memberOf: string[];
  /** Those of memberOf by which it can become a superuser. */
  superuserBy: string[];
}

/** More than pgs makes: a tenant may write any note. */
const mostRoles = 500;

const text = z.string().max(20_000);
const texts = z.array(text).max(2000);
const roleSchema: z.ZodType<RoleSeen> = z.object({
  name: text,
  login: z.boolean(),
  privileged: z.boolean(),
  connectionLimit: z.number(),
  validUntil: z.number().nullable(),
  verifier: text.nullable(),
  settings: texts,
  actsAs: text.nullable(),
  memberOf: texts,
  superuserBy: texts,
});
const installedSchema = z.record(text, z.object({ version: text.nullable(), newest: text.nullable() }));
const insideSchema: z.ZodType<Inside> = z.object({
  verifier: text.nullable(),
  validUntil: text.nullable(),
  otherSuperusers: z.boolean(),
  database: z.boolean(),
  takesConnections: z.boolean(),
  maintenance: z.enum(["open", "closed", "invalid", "gone"]),
  creating: z.boolean(),
  unfinished: z.boolean(),
  settings: z.record(text, text),
  managed: texts,
  pendingRestart: texts,
  libraries: text,
  extensions: texts,
  roles: z.object({
    note: z.string().max(400_000).nullable(),
    owner: text.nullable(),
    found: z.array(roleSchema).max(mostRoles),
    defaultPrivileges: texts.nullable(),
  }),
  certificateDigest: text.nullable(),
  clients: text,
  monitors: text,
  sessions: z.number(),
  sharedBuffers: z.number(),
  versions: z.array(z.number()).max(100),
  disk: z.string().max(200).nullable(),
});

/** In the database postgres: a JSON list of the names of settings that pgs writes. */
export const managedSetting = "pgs.settings";

/** In the database postgres: a JSON list of the extensions that pgs makes in the tenant's database. */
export const extensionsSetting = "pgs.extensions";
/** In the database postgres: of the roles that pgs manages, JSON that parts/roles.ts writes and reads. */
export const managedRoles = "pgs.roles";

/** In the database postgres: the name of a database that is being made. */
export const creatingSetting = "pgs.creating";

/** Asks a server all of it in one question; one more where it has extensions. @param seconds until it has to be ready */
export async function lookInside(session: SqlSession, seconds?: number): Promise<Inside> {
  const inside = answered(
    insideSchema,
    await session.read(question(session.tenant), { seconds }),
    parsedInside,
  );
  const { extensions, database, takesConnections } = inside;
  if (extensions.length === 0 || !database || !takesConnections) return inside;
  return { ...inside, installed: await installedOf(session, extensions, seconds).catch(() => undefined) };
}

/** Of some extensions, in the tenant's database. */
export async function installedOf(
  session: SqlSession,
  names: string[],
  seconds?: number,
): Promise<Installed> {
  const sql = `SELECT json_object_agg(name, json_build_object('version', extversion, 'newest', default_version))
    FROM json_array_elements_text(${literal(JSON.stringify(names))}) AS wanted (name)
      LEFT JOIN pg_extension ON extname = name LEFT JOIN pg_available_extensions USING (name)`;
  return answered(installedSchema, await session.read(sql, { database: session.tenant, seconds }));
}

/** The first line is the server's, the second the tenant's database's. */
function parsedInside(answer: string): unknown {
  const [server = "", privileges = "null"] = answer.split("\n");
  const parsed = JSON.parse(server);
  parsed.roles.defaultPrivileges = JSON.parse(privileges);
  return { ...parsed, managed: namesIn(parsed.managed), extensions: namesIn(parsed.extensions) };
}

/** A note, which the tenant may have written anything into. */
function namesIn(note: unknown): string[] {
  try {
    return texts.parse(JSON.parse(String(note || "[]")));
  } catch {
    return [];
  }
}

/** @throws Error when the answer has another form */
function answered<T>(
  schema: z.ZodType<T>,
  answer: string,
  read: (answer: string) => unknown = JSON.parse,
): T {
  let parsed: unknown;
  try {
    parsed = read(answer);
  } catch {}
  const checked = schema.safeParse(parsed);
  if (checked.success) return checked.data;
  throw new Error("the server's answer is not what PostgreSQL answers: its catalogs were changed");
}

/** A role, not of PostgreSQL's own, with what a superuser alone is to have. */
export const isPowerful = "oid >= 16384 AND (rolsuper OR rolcreaterole OR rolreplication OR rolbypassrls)";

/** A membership by which a role can become a superuser. */
export const givesPower = `roleid::regrole::text IN ('postgres', 'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')`;

function question(database: string): string {
  const named = `FROM pg_catalog.pg_database WHERE datname = ${literal(database)}`;
  return `SELECT json_build_object(
    'verifier', (SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'),
    'validUntil', (SELECT rolvaliduntil FROM pg_authid WHERE rolname = 'postgres' AND isfinite(rolvaliduntil)),
    'otherSuperusers', EXISTS (SELECT FROM pg_authid AS role WHERE ${isPowerful})
      OR EXISTS (SELECT FROM pg_auth_members WHERE ${givesPower}),
    'database', EXISTS (SELECT ${named}),
    'takesConnections', EXISTS (SELECT ${named} AND datallowconn),
    'maintenance', coalesce((SELECT CASE WHEN datconnlimit = -2 THEN 'invalid' WHEN datallowconn THEN 'open'
                             ELSE 'closed' END FROM pg_database WHERE datname = 'postgres'), 'gone'),
    'creating', current_setting('${creatingSetting}', true) <> '' IS TRUE,
    'unfinished', (pg_stat_file(current_setting('data_directory') || '.unfinished', true)).size IS NOT NULL,
    'settings', (SELECT coalesce(json_object_agg(lower(name), setting), '{}') FROM pg_file_settings
                 WHERE sourcefile LIKE '%/postgresql.auto.conf'),
    'managed', current_setting('${managedSetting}', true),
    'pendingRestart', (SELECT coalesce(json_agg(lower(name)), '[]') FROM pg_settings WHERE pending_restart),
    'libraries', current_setting('shared_preload_libraries'),
    'extensions', current_setting('${extensionsSetting}', true),
    'roles', json_build_object('note', current_setting('${managedRoles}', true),
      'owner', (SELECT pg_get_userbyid(datdba) ${named}), 'found', (${rolesQuestion(named)})),
    'certificateDigest', ${certificateDigest},
    'clients', (SELECT coalesce(max(coalesce((regexp_match(line, '^host all all (\\S+) scram-sha-256$'))[1],
                  (regexp_match(line, '^host all all all (reject)$'))[1])), '')
                FROM regexp_split_to_table(pg_read_file(current_setting('hba_file')), '\\n') AS line),
    'monitors', coalesce((regexp_match(pg_read_file(current_setting('hba_file')),
                  '^host all ${monitorRole} (\\S+) scram-sha-256\\n'))[1], ''),
    'sessions', (SELECT count(*) FROM pg_stat_activity
                 WHERE backend_type = 'client backend' AND client_addr IS NOT NULL AND client_addr <> '127.0.0.1'
                   AND usename IS DISTINCT FROM '${monitorRole}'),
    'sharedBuffers', pg_size_bytes(current_setting('shared_buffers')),
    'versions', (SELECT coalesce(json_agg(name::int), '[]') FROM pg_ls_dir('/var/lib/postgresql') AS name
                 WHERE name ~ '^[0-9]+$'),
    'disk', (SELECT ${diskUseText} FROM pg_stat_file('${diskUseFile}', true)
             WHERE modification > clock_timestamp() - interval '15 min'));
    SELECT current_setting('${managedRoles}', true) ~ '"pgs_(owner|read)' IS TRUE
      AND EXISTS (SELECT ${named} AND datallowconn AND datconnlimit <> -2) AS roles \\gset
    \\if :roles
    \\connect ${literal(database).slice(1)}
    ${defaultPrivileges};
    \\endif`;
}

/** Of the roles whose names stand in the note, whatever else does. */
function rolesQuestion(named: string): string {
  const settings =
    "FROM pg_db_role_setting, unnest(setconfig) AS setting WHERE setrole = role.oid AND setdatabase =";
  const groups = "FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid WHERE m.member = role.oid";
  return `SELECT coalesce(json_agg(json_build_object(
      'name', rolname, 'login', rolcanlogin, 'connectionLimit', rolconnlimit, 'verifier', rolpassword,
      'privileged', rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls OR NOT rolinherit,
      'validUntil', CASE WHEN isfinite(rolvaliduntil) THEN extract(epoch FROM rolvaliduntil) END,
      'settings', (SELECT coalesce(json_agg(setting), '[]') ${settings} 0),
      'actsAs', (SELECT min(substr(setting, 6)) ${settings} (SELECT oid ${named}) AND setting LIKE 'role=%'),
      'memberOf', (SELECT coalesce(json_agg(DISTINCT g.rolname), '[]') ${groups}),
      'superuserBy', (SELECT coalesce(json_agg(DISTINCT g.rolname), '[]') ${groups} AND EXISTS
        (SELECT FROM pg_authid s WHERE s.rolsuper AND pg_has_role(g.oid, s.oid, 'MEMBER'))))), '[]')
    FROM (SELECT * FROM pg_authid
          WHERE strpos(current_setting('${managedRoles}', true), '"' || rolname || '"') > 0 LIMIT ${mostRoles}) AS role`;
}
