import type { Inside } from "../inside";
import { identifier, literal } from "../session";

/** Owns the tenant's database where an entry has `grants: owner`: those roles act as this one, and none is a superuser. */
export const owner = "pgs_owner";

/** Those that have `grants: readwrite`, and the owner, which reads and writes what the role postgres makes later. */
export const readwrite = "pgs_readwrite";

/**
 * What members of a group get of each object, by its kind in pg_default_acl. PostgreSQL's own pg_read_all_data would be
 * shorter, but it reads the catalogs too: every role's verifier, and passwords of foreign servers.
 */
const privileges: Record<string, Record<Kind, string[]>> = {
  pgs_readonly: { n: ["USAGE"], r: ["SELECT"], S: ["SELECT"] },
  [readwrite]: {
    n: ["USAGE"],
    r: ["SELECT", "INSERT", "UPDATE", "DELETE"],
    S: ["SELECT", "UPDATE", "USAGE"],
  },
};

/** https://www.postgresql.org/docs/18/catalog-pg-default-acl.html */
const kinds = { n: "SCHEMAS", r: "TABLES", S: "SEQUENCES" } as const;
type Kind = keyof typeof kinds;

/** SQL, in the tenant's database, for what groups get there of each new object: `MAKER KIND GROUP PRIVILEGE` each. */
export const defaultPrivileges = `
  SELECT coalesce(json_agg(concat_ws(' ', maker.rolname, defaclobjtype, grantee.rolname, privilege_type)), '[]')
  FROM pg_default_acl CROSS JOIN LATERAL aclexplode(defaclacl) AS acl
    JOIN pg_authid AS maker ON maker.oid = defaclrole JOIN pg_authid AS grantee ON grantee.oid = acl.grantee
  WHERE defaclnamespace = 0 AND maker.rolname IN ('postgres', '${owner}')
    AND grantee.rolname IN (${Object.keys(privileges).map(literal).join(", ")})`;

/** Schemas that are not the system's own. */
const schemas = `FROM pg_namespace AS n WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'`;

/** Of an extension, or of another object, whose owner it follows. */
const dependent = (catalog: string, object: string) =>
  `EXISTS (SELECT FROM pg_depend WHERE classid = '${catalog}'::regclass AND objid = ${object}.oid
     AND (deptype IN ('e', 'i') OR deptype = 'a' AND refclassid = 'pg_class'::regclass AND refobjsubid > 0))`;

/**
 * SQL for the tenant's database, one statement a line, that gives the groups what they are to have and do not have.
 * What a tenant has revoked of a single object stays revoked.
 * @param groups those that there are to be
 */
export function changesInDatabase(groups: string[], database: string, { roles }: Inside): string[] {
  const owns = groups.includes(owner);
  const makers = ["postgres", ...(owns ? [owner] : [])];
  const missing = groups
    .filter((group) => group in privileges)
    .filter((group) => !expected(group, makers).every((one) => roles.defaultPrivileges?.includes(one)));
  return [
    ...(owns && roles.owner !== owner ? handOver(database) : []),
    ...missing.flatMap((group) => grant(group, makers)),
  ].map((statement) => statement.replace(/\s*\n\s*/g, " "));
}

function expected(group: string, makers: string[]): string[] {
  return makers.flatMap((maker) =>
    Object.entries(privileges[group] ?? {}).flatMap(([kind, names]) =>
      names.map((privilege) => `${maker} ${kind} ${group} ${privilege}`),
    ),
  );
}

function grant(group: string, makers: string[]): string[] {
  const list = (kind: Kind) => privileges[group]?.[kind].join(", ");
  const present = `SELECT format('
    GRANT ${list("n")} ON SCHEMA %1$I TO ${group};
    GRANT ${list("r")} ON ALL TABLES IN SCHEMA %1$I TO ${group};
    GRANT ${list("S")} ON ALL SEQUENCES IN SCHEMA %1$I TO ${group}', nspname) ${schemas} \\gexec`;
  const later = (Object.keys(kinds) as Kind[]).map(
    (kind) =>
      `ALTER DEFAULT PRIVILEGES FOR ROLE ${makers.join(", ")} GRANT ${list(kind)} ON ${kinds[kind]} TO ${group};`,
  );
  // Once more for what was made meanwhile.
  return ["BEGIN;", present, ...later, "COMMIT;", present];
}

/**
 * The role postgres, a superuser's, owns what it made: the owners have to own that to alter it. The database is last, so
 * that a run that was cut off begins again.
 */
function handOver(database: string): string[] {
  const inSchema = (schema: string) => `${schema} IN (SELECT n.oid ${schemas})`;
  const to = `OWNER TO ${owner}`;
  return [
    `SELECT format('ALTER SCHEMA %I ${to}', nspname) ${schemas} AND nspowner = 10
       AND NOT ${dependent("pg_namespace", "n")} \\gexec`,
    `SELECT format('ALTER %s %s ${to}', CASE relkind WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END, c.oid::regclass)
       FROM pg_class AS c WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND relowner = 10
       AND ${inSchema("relnamespace")} AND NOT ${dependent("pg_class", "c")} \\gexec`,
    `SELECT format('ALTER TYPE %s ${to}', t.oid::regtype) FROM pg_type AS t
       WHERE typtype IN ('d', 'e', 'r') AND typowner = 10
       AND ${inSchema("typnamespace")} AND NOT ${dependent("pg_type", "t")} \\gexec`,
    // One that runs with its owner's rights may need a superuser's.
    `SELECT format('ALTER ROUTINE %s ${to}', p.oid::regprocedure) FROM pg_proc AS p
       WHERE NOT prosecdef AND proowner = 10
       AND ${inSchema("pronamespace")} AND NOT ${dependent("pg_proc", "p")} \\gexec`,
    `ALTER DATABASE ${identifier(database)} ${to};`,
  ];
}
