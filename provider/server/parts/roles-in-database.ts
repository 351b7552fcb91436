import type { ServerContents } from "../inputs";
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

/**
 * SQL for the tenant's database, one statement a line, that gives the groups what they are to have and do not have.
 * What a tenant has revoked of a single object stays revoked.
 * @param groups those that there are to be
 */
export function changesInDatabase(
  groups: string[],
  { tenant, user }: Pick<ServerContents, "tenant" | "user">,
  { roles, verifier }: Inside,
): string[] {
  const owns = groups.includes(owner);
  const makers = ["postgres", ...(owns ? [owner] : [])];
  const missing = groups
    .filter((group) => group in privileges)
    .filter((group) => !expected(group, makers).every((one) => roles.defaultPrivileges?.includes(one)));
  const wasSuperuser = user !== undefined && verifier !== null;
  return [
    ...(owns && (roles.owner !== owner || wasSuperuser) ? handOver(tenant, user !== undefined) : []),
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

/** What has an owner and a schema, beside tables, types and routines: catalog, and the columns of the two. */
const others: [string, string, string][] = [
  ["pg_collation", "collowner", "collnamespace"],
  ["pg_conversion", "conowner", "connamespace"],
  ["pg_operator", "oprowner", "oprnamespace"],
  ["pg_opclass", "opcowner", "opcnamespace"],
  ["pg_opfamily", "opfowner", "opfnamespace"],
  ["pg_ts_dict", "dictowner", "dictnamespace"],
  ["pg_ts_config", "cfgowner", "cfgnamespace"],
  ["pg_statistic_ext", "stxowner", "stxnamespace"],
];

/**
 * The role postgres, a superuser's, owns what it made: the owners have to own that to alter it. REASSIGN OWNED refuses to
 * take from this role. What belongs to an extension stays, and what follows another object's owner. The database is last,
 * so that a run that was cut off begins again.
 * @param all functions too that run with their owner's rights, which may need a superuser's
 */
function handOver(database: string, all: boolean): string[] {
  const objects = [
    "SELECT 'pg_namespace', oid, oid FROM pg_namespace WHERE nspowner = 10",
    "SELECT 'pg_class', oid, relnamespace FROM pg_class WHERE relowner = 10 AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')",
    "SELECT 'pg_type', oid, typnamespace FROM pg_type WHERE typowner = 10 AND typtype IN ('d', 'e', 'r')",
    `SELECT 'pg_proc', oid, pronamespace FROM pg_proc WHERE proowner = 10${all ? "" : " AND NOT prosecdef"}`,
    ...others.map(
      ([catalog, has, schema]) => `SELECT '${catalog}', oid, ${schema} FROM ${catalog} WHERE ${has} = 10`,
    ),
    "SELECT 'pg_largeobject', oid, NULL FROM pg_largeobject_metadata WHERE lomowner = 10",
  ];
  return [
    `SELECT format('ALTER %s %s OWNER TO ${owner}',
       CASE WHEN catalog = 'pg_proc' THEN 'routine' WHEN type = 'composite type' THEN 'type'
         WHEN type = 'statistics object' THEN 'statistics' ELSE type END, identity)
       FROM (${objects.join(" UNION ALL ")}) AS o (catalog, object, schema),
         pg_identify_object(catalog::regclass, object, 0)
       WHERE (o.schema IS NULL OR o.schema IN (SELECT oid ${schemas}))
       AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = catalog::regclass AND objid = object
         AND (deptype IN ('e', 'i') OR deptype = 'a' AND refclassid = 'pg_class'::regclass AND refobjsubid > 0)) \\gexec`,
    `ALTER DATABASE ${identifier(database)} OWNER TO ${owner};`,
  ];
}
