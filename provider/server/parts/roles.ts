import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import type { RoleInputs, ServerContents } from "../inputs";
import { type Inside, lookInside, managedRoles, type RoleSeen } from "../inside";
import type { ContentsPart } from "../part";
import { matches, scramVerifier } from "../scram";
import { identifier, literal, type SqlSession } from "../session";
import { changesInDatabase, owner, readwrite } from "./roles-in-database";
import { assignment, isWritten } from "./settings";

/**
 * The roles of the tenant's entry, and the groups that hold what they are granted. The server's database `postgres` has
 * the names of all that pgs manages, from before it makes or changes them: what a run that was cut off has left is known
 * to the next, and other roles are never changed.
 */
export const roles: ContentsPart = {
  name: "roles",

  async differs(inputs, { inside }) {
    if (!inside) return false;
    const { former, changes, inDatabase } = await planOf(inputs, inside, notedIn(inside));
    return former.length + changes.length + inDatabase.length > 0;
  },

  async apply({ inputs, before, inside, session }) {
    const noted = notedIn(inside);
    const known = mergedNotes(noted, mentioned(before));
    const plan = await planOf(inputs, inside, known);
    if (plan.former.length + plan.changes.length + plan.inDatabase.length === 0) return;
    // Before anything is changed; the look then has all that the note names.
    const wanted = mentioned(inputs);
    await session.run(note(mergedNotes(known, wanted)));
    const seen = await lookInside(session);
    const made = Object.keys(wanted).filter((name) => !seen.roles.found.some((role) => role.name === name));
    for (const name of Object.keys(entriesOf(inputs))) {
      if (!Object.hasOwn(known, name) && !made.includes(name)) await pulumi.log.info(adoption(inputs, name));
    }
    try {
      await change(inputs, session, await planOf(inputs, seen, known), seen);
    } catch (error) {
      throw positioned(error, inputs);
    }
    const wholly = Object.fromEntries(made.map((name) => [name, lasting]));
    const kept = Object.entries(known).map(([name, keys]) => [
      name,
      keys.filter((key) => lasting.includes(key)),
    ]);
    const all = mergedNotes(Object.fromEntries(kept), wanted, wholly);
    await session.run(
      note(Object.fromEntries(Object.entries(all).filter(([name]) => Object.hasOwn(wanted, name)))),
    );
  },
};

/** By role, what of it pgs manages beside password and attributes: `connectionLimit`, `settings.work_mem`, `inRoles.x`. */
type Note = Record<string, string[]>;

/** Once managed, they stay so: without a value in the entry, they are PostgreSQL's default. */
const lasting = ["connectionLimit", "validUntil"];

interface WantedRole extends RoleInputs {
  login: boolean;
  password?: string;
  /** The role that its sessions in the tenant's database begin as. */
  actsAs?: string;
}

type Wanted = Pick<Partial<ServerContents>, "roles" | "rolePasswords" | "user" | "password">;

/** What the owner needs beside its database where nobody is a superuser: to see the server's sessions, and to cancel them. */
const operators = ["pg_monitor", "pg_signal_backend"];

/** Those of the entry, and the one that a tenant logs in as that is no superuser. */
function entriesOf({ roles: entries = {}, user }: Wanted): Record<string, RoleInputs> {
  if (user === undefined) return entries;
  return { ...entries, [user]: { grants: "owner", settings: {}, inRoles: [] } };
}

function wantedRoles(inputs: Wanted): Map<string, WantedRole> {
  const { rolePasswords = {}, user, password } = inputs;
  const wanted = new Map<string, WantedRole>();
  const group = (name: string, inRoles: string[] = []) => {
    wanted.set(name, { login: false, settings: {}, inRoles });
    return name;
  };
  for (const [name, entry] of Object.entries(entriesOf(inputs))) {
    const { grants, inRoles } = entry;
    if (grants === "owner") group(owner, [group(readwrite), ...(user === undefined ? [] : operators)]);
    else if (grants) group(`pgs_${grants}`);
    const groups = grants ? [`pgs_${grants}`] : [];
    wanted.set(name, {
      ...entry,
      login: true,
      password: name === user ? password : rolePasswords[name],
      inRoles: [...inRoles, ...groups],
      ...(grants === "owner" && { actsAs: owner }),
    });
  }
  return wanted;
}

/** What the entries say: in a role that somebody made by hand, nothing else is changed. */
function mentioned(inputs: Wanted): Note {
  return Object.fromEntries(
    [...wantedRoles(inputs)].map(([name, { settings, inRoles, ...role }]) => [
      name,
      [
        ...lasting.filter((key) => role[key as keyof typeof role] !== undefined),
        ...Object.keys(settings).map((setting) => `settings.${setting}`),
        ...inRoles.map((one) => `inRoles.${one}`),
      ],
    ]),
  );
}

/** A tenant may write any note: it then says which of its own roles are changed, and never PostgreSQL's. */
function notedIn({ roles: { note: text } }: Inside): Note {
  try {
    const entries = Object.entries(JSON.parse(text || "{}") as object).slice(0, 500);
    return Object.fromEntries(
      entries
        .filter(([name]) => !/^(postgres|pg_.*)$/.test(name))
        .map(([name, keys]) => [name, Array.isArray(keys) ? keys.slice(0, 2000).map(String) : []]),
    );
  } catch {
    return {};
  }
}

function mergedNotes(...notes: Note[]): Note {
  const names = new Set(notes.flatMap((one) => Object.keys(one)));
  return Object.fromEntries(
    [...names].map((name) => [name, [...new Set(notes.flatMap((one) => keysOf(one, name)))]]),
  );
}

/** A role may have the name of what every object has, such as `constructor`. */
function keysOf(note: Note, name: string): string[] {
  return Object.hasOwn(note, name) ? (note[name] ?? []) : [];
}

function note(content: Note): string {
  return Object.keys(content).length === 0
    ? `ALTER DATABASE postgres RESET ${managedRoles};`
    : `ALTER DATABASE postgres SET ${managedRoles} = ${literal(JSON.stringify(content))};`;
}

interface Plan {
  /** Names of roles that are to go. */
  former: string[];
  changes: { role: string; sql: string }[];
  inDatabase: string[];
}

async function planOf(inputs: ServerContents, inside: Inside, known: Note): Promise<Plan> {
  const wanted = wantedRoles(inputs);
  const seen = new Map(inside.roles.found.map((role) => [role.name, role]));
  const changes: Plan["changes"] = [];
  const members: Plan["changes"] = [];
  for (const [role, entry] of wanted) {
    const managed = keysOf(known, role);
    const own = await changesOf(role, entry, seen.get(role), managed, inputs.tenant);
    changes.push(...own.map((sql) => ({ role, sql })));
    const joins = membershipChanges(role, entry, seen.get(role), managed);
    members.push(...joins.map((sql) => ({ role, sql })));
  }
  return {
    // The owner stays: what is its own must not become a superuser's.
    former: Object.keys(known).filter((name) => !wanted.has(name) && name !== owner),
    // A role may be a member of one that comes later.
    changes: [...changes, ...members],
    inDatabase: changesInDatabase([...wanted.keys()], inputs, inside),
  };
}

const attributes = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT";

/** SQL, one statement a line. @param seen undefined when the role is to be made */
async function changesOf(
  name: string,
  wanted: WantedRole,
  seen: RoleSeen | undefined,
  managed: string[],
  database: string,
): Promise<string[]> {
  const role = identifier(name);
  const statements = seen ? [] : [`CREATE ROLE ${role};`];
  const options: string[] = [];
  if (!seen || seen.privileged) options.push(attributes);
  if (wanted.login !== (seen?.login ?? false)) options.push(wanted.login ? "LOGIN" : "NOLOGIN");
  if (wanted.password !== undefined && !(await matches(seen?.verifier ?? null, wanted.password))) {
    options.push(`PASSWORD ${literal(await scramVerifier(wanted.password))}`);
  }
  const limit = wanted.connectionLimit ?? (managed.includes("connectionLimit") ? -1 : undefined);
  if (limit !== undefined && limit !== (seen?.connectionLimit ?? -1))
    options.push(`CONNECTION LIMIT ${limit}`);
  const until = wanted.validUntil ?? (managed.includes("validUntil") ? "infinity" : undefined);
  if (until !== undefined && !isTime(until, seen?.validUntil ?? null)) {
    options.push(`VALID UNTIL ${literal(until)}`);
  }
  if (options.length > 0) statements.push(`ALTER ROLE ${role} ${options.join(" ")};`);

  const present = new Map(seen?.settings.map((text) => settingIn(text)));
  const former = managed
    .filter((key) => key.startsWith("settings."))
    .map((key) => key.slice("settings.".length));
  for (const [setting, value] of Object.entries(wanted.settings)) {
    if (!isWritten(setting, value, present.get(setting)))
      statements.push(`ALTER ROLE ${role} ${assignment(setting, value)};`);
  }
  for (const setting of former.filter((one) => !Object.hasOwn(wanted.settings, one) && present.has(one)))
    statements.push(`ALTER ROLE ${role} RESET ${setting.split(".").map(identifier).join(".")};`);

  const inDatabase = `ALTER ROLE ${role} IN DATABASE ${identifier(database)}`;
  if (wanted.actsAs) {
    if (seen?.actsAs !== wanted.actsAs)
      statements.push(`${inDatabase} SET role = ${literal(wanted.actsAs)};`);
  } else if (seen?.actsAs === owner) statements.push(`${inDatabase} RESET role;`);
  return statements;
}

function membershipChanges(
  name: string,
  wanted: WantedRole,
  seen: RoleSeen | undefined,
  managed: string[],
): string[] {
  const { memberOf = [], superuserBy = [] } = seen ?? {};
  const joined = wanted.inRoles.filter((group) => !memberOf.includes(group));
  const left = memberOf.filter(
    (group) =>
      !wanted.inRoles.includes(group) && (managed.includes(`inRoles.${group}`) || group.startsWith("pgs_")),
  );
  return [
    ...joined.flatMap((group) => [
      ...(/^pgs?_/.test(group) ? [] : [requireOrdinary(group)]),
      `GRANT ${identifier(group)} TO ${identifier(name)};`,
    ]),
    ...[...new Set([...left, ...superuserBy])].map((group) =>
      revoke(`g.rolname = ${literal(group)} AND m.rolname = ${literal(name)}`),
    ),
    // They go on as the owner until they end.
    ...(left.includes(owner) ? [endSessions([name])] : []),
  ];
}

/** Its members could become superusers. */
function requireOrdinary(group: string): string {
  const isSuperuser = `EXISTS (SELECT FROM pg_authid g, pg_authid s WHERE g.rolname = ${literal(group)} AND s.rolsuper AND pg_has_role(g.oid, s.oid, 'MEMBER'))`;
  const message = literal(`${group} is a superuser, or can become one: take it out of inRoles`);
  return `DO ${literal(`BEGIN IF ${isSuperuser} THEN RAISE EXCEPTION USING MESSAGE = ${message}; END IF; END`)};`;
}

/** SQL that takes away memberships, of pg_auth_members, whoever granted them. */
export function revoke(condition: string): string {
  return (
    "SELECT format('REVOKE %I FROM %I GRANTED BY %I CASCADE', g.rolname, m.rolname, by.rolname) FROM pg_auth_members AS a " +
    "JOIN pg_authid AS g ON g.oid = a.roleid JOIN pg_authid AS m ON m.oid = a.member JOIN pg_authid AS by ON by.oid = a.grantor " +
    `WHERE ${condition} \\gexec`
  );
}

function isTime(wanted: string, seconds: number | null): boolean {
  if (wanted === "infinity") return seconds === null;
  return seconds !== null && Math.abs(Date.parse(wanted) - seconds * 1000) < 2;
}

/** Names in lower case, as in tenants.yaml. */
function settingIn(text: string): [string, string] {
  const at = text.indexOf("=");
  return [text.slice(0, at).toLowerCase(), text.slice(at + 1)];
}

async function change(
  inputs: ServerContents,
  session: SqlSession,
  { former, changes, inDatabase }: Plan,
  seen: Inside,
): Promise<void> {
  const gone = former.filter((name) => seen.roles.found.some((role) => role.name === name));
  // A login goes first, whatever fails afterwards.
  if (gone.length > 0) await session.run([...gone.map(shutOut), endSessions(gone)].join("\n"));
  if (changes.length > 0) {
    await session.run(changes.map(({ sql }) => sql).join("\n")).catch((error) => {
      const [, line, message] =
        /psql:<stdin>:(\d+): ((?:ERROR|FATAL).*)/.exec((error as Error).message) ?? [];
      const role = changes[Number(line) - 1]?.role;
      throw role ? new Error(`role ${role}: ${message}`) : error;
    });
  }
  if (inDatabase.length > 0) {
    await session.run(inDatabase.join("\n"), { database: inputs.tenant }).catch((error: Error) => {
      throw new Error(
        `roles: their rights in the database: ${error.message.replace(/^psql:<stdin>:\d+: /, "")}`,
      );
    });
  }
  if (gone.length > 0) await drop(gone, inputs, session);
}

function shutOut(name: string): string {
  return `ALTER ROLE ${identifier(name)} NOLOGIN PASSWORD NULL;`;
}

function endSessions(names: string[]): string {
  return `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN (${names.map(literal).join(", ")}) \\g /dev/null`;
}

/** Seconds for all databases together: a tenant may have any number of them. */
const dropSeconds = 60;

/**
 * What they own, in every database, goes to a role that cannot log in and is no superuser: by a function that runs with
 * its owner's rights, others could become one.
 */
async function drop(names: string[], inputs: ServerContents, session: SqlSession): Promise<void> {
  const answer = await session.read(
    "SELECT json_agg(datname ORDER BY datname <> 'postgres') FROM pg_database WHERE datallowconn AND datconnlimit <> -2",
  );
  const databases = z
    .array(z.string())
    .max(100_000)
    .catch([])
    .parse(JSON.parse(answer || "[]"));
  const all = names.map(identifier).join(", ");
  const until = performance.now() + dropSeconds * 1000;
  await session.run(
    `SELECT 'CREATE ROLE ${owner} NOLOGIN' WHERE NOT EXISTS (SELECT FROM pg_authid WHERE rolname = '${owner}') \\gexec`,
  );
  for (const database of databases) {
    if (performance.now() > until) break;
    const reassign = [
      "BEGIN;",
      // No other session can make one of them the owner of something between the next two statements.
      "LOCK TABLE pg_catalog.pg_shdepend IN SHARE ROW EXCLUSIVE MODE;",
      `REASSIGN OWNED BY ${all} TO ${owner};`,
      `DROP OWNED BY ${all};`,
      "COMMIT;",
    ];
    await session.run(reassign.join("\n"), { database });
  }
  // In a database that takes no connections, or that was not reached in time, one may still own something.
  const kept = await session.run(
    [
      endSessions(names),
      `SELECT format('DROP ROLE %I', rolname) FROM pg_authid AS role WHERE rolname IN (${names.map(literal).join(", ")}) AND NOT EXISTS (SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = role.oid) \\gexec`,
      `SELECT rolname FROM pg_authid WHERE rolname IN (${names.map(literal).join(", ")})`,
    ].join("\n"),
  );
  const left = names.filter((name) => kept.split("\n").includes(name));
  if (left.length > 0) {
    await pulumi.log.warn(
      `${inputs.container.name}: ${left.join(", ")} cannot log in any more, and stays as something depends on it in another database`,
    );
  }
}

/** Names where in tenants.yaml the role stands that a message begins with. */
function positioned(error: unknown, inputs: ServerContents): unknown {
  const [, name] = /^role (\S+): /.exec((error as Error).message) ?? [];
  const position = name && inputs.positions?.[`roles.${name}`];
  return position ? new Error(`${position}: ${(error as Error).message}`) : error;
}

function adoption({ container }: ServerContents, name: string): string {
  return `${container.name}: the role ${name} is there already and is adopted: it gets a new password, and loses what makes it more than a plain role; else only what its entry says is changed`;
}

/** What a plan says of roles that are removed, or that somebody made by hand before. */
export async function rolesWarnings(
  state: ServerContents,
  inputs: ServerContents,
  session: SqlSession,
): Promise<string[]> {
  const [before, after] = [state, inputs].map((one) => Object.keys(entriesOf(one))) as [string[], string[]];
  const removed = before.filter((name) => !after.includes(name));
  const added = after.filter((name) => !before.includes(name));
  const present = added.length > 0 ? await among(added, session).catch(() => []) : [];
  return [
    ...(state.user !== inputs.user ? [loginChange(inputs)] : []),
    ...removed.map(
      (name) =>
        `${inputs.container.name}: the role ${name} is removed: its login is taken away and its sessions end; what it owns goes to ${owner}`,
    ),
    ...present.map((name) => adoption(inputs, name)),
  ];
}

function loginChange({ container, user = "postgres" }: ServerContents): string {
  const superuser =
    user === "postgres"
      ? "its server's superuser"
      : "which owns its database; sessions of superusers end, and other roles lose what makes them superusers. What a superuser did before is not undone: docs/roles.md";
  return `${container.name}: the tenant logs in as ${user} from now on, ${superuser}; its connection string changes`;
}

/** Those of the names that the server has a role of. */
async function among(names: string[], session: SqlSession): Promise<string[]> {
  const sql = `SELECT rolname FROM pg_roles WHERE rolname IN (${names.map(literal).join(", ")})`;
  const found = (await session.read(sql, { seconds: 15 })).split("\n");
  return names.filter((name) => found.includes(name));
}
