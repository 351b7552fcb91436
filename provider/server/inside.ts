import { z } from "zod";
import { defaultPrivileges } from "./parts/roles-in-database";
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
  /** Client sessions that came over the network. */
  sessions: number;
  /** Of the running server, in bytes. */
  sharedBuffers: number;
  /** Major versions that have a data directory in the volume. */
  versions: number[];
}

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
const insideSchema: z.ZodType<Inside> = z.object({
  verifier: text.nullable(),
  validUntil: text.nullable(),
  database: z.boolean(),
  takesConnections: z.boolean(),
  maintenance: z.enum(["open", "closed", "invalid", "gone"]),
  creating: z.boolean(),
  unfinished: z.boolean(),
  settings: z.record(text, text),
  managed: texts,
  pendingRestart: texts,
  roles: z.object({
    note: z.string().max(400_000).nullable(),
    owner: text.nullable(),
    found: z.array(roleSchema).max(mostRoles),
    defaultPrivileges: texts.nullable(),
  }),
  certificateDigest: text.nullable(),
  clients: text,
  sessions: z.number(),
  sharedBuffers: z.number(),
  versions: z.array(z.number()).max(100),
});

/** In the database postgres: a JSON list of the names of settings that pgs writes. */
export const managedSetting = "pgs.settings";

/** In the database postgres: of the roles that pgs manages, JSON that parts/roles.ts writes and reads. */
export const managedRoles = "pgs.roles";

/** In the database postgres: the name of a database that is being made. */
export const creatingSetting = "pgs.creating";

/** Asks a server all of it in one question. @param seconds until it has to be ready */
export async function lookInside(session: Session, seconds?: number): Promise<Inside> {
  const answer = await session.read(question(session.tenant), { seconds });
  let parsed: unknown;
  try {
    const [server = "", privileges = "null"] = answer.split("\n");
    parsed = JSON.parse(server);
    (parsed as Inside).roles.defaultPrivileges = JSON.parse(privileges);
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
    'roles', json_build_object('note', current_setting('${managedRoles}', true),
      'owner', (SELECT pg_get_userbyid(datdba) ${named}), 'found', (${rolesQuestion(named)})),
    'certificateDigest', ${certificateDigest},
    'clients', (SELECT coalesce(max(coalesce((regexp_match(line, '^host all all (\\S+) scram-sha-256$'))[1],
                  (regexp_match(line, '^host all all all (reject)$'))[1])), '')
                FROM regexp_split_to_table(pg_read_file(current_setting('hba_file')), '\\n') AS line),
    'sessions', (SELECT count(*) FROM pg_stat_activity
                 WHERE backend_type = 'client backend' AND client_addr IS NOT NULL AND client_addr <> '127.0.0.1'),
    'sharedBuffers', pg_size_bytes(current_setting('shared_buffers')),
    'versions', (SELECT coalesce(json_agg(name::int), '[]') FROM pg_ls_dir('/var/lib/postgresql') AS name
                 WHERE name ~ '^[0-9]+$'));
    SELECT current_setting('${managedRoles}', true) <> '' IS TRUE
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
