import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import type { PostgresServerInputs, RoleInputs } from "../../../../../provider/server/inputs";
import type { Inside, RoleSeen } from "../../../../../provider/server/inside";
import type { RunningServer } from "../../../../../provider/server/part";
import { roles, rolesWarnings } from "../../../../../provider/server/parts/roles";
import { scramVerifier } from "../../../../../provider/server/scram";
import type { Session } from "../../../../../provider/server/session";
import { engine } from "../../../support/engine";
import { acme, FakePostgres } from "../../../support/postgres";

vi.mock("@pulumi/pulumi", async (original) => ({
  ...(await original<object>()),
  log: { info: async () => {}, warn: async () => {} },
}));
vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

const password = "the password of app";
const entry: RoleInputs = {
  connectionLimit: 20,
  validUntil: "2030-01-01T00:00:00Z",
  settings: { statement_timeout: "30s", search_path: 'app, "$user"' },
  inRoles: ["pg_monitor"],
};

function inputsWith(entries: Record<string, RoleInputs> | undefined): PostgresServerInputs {
  return { ...acme(), roles: entries, rolePasswords: { app: password } };
}

/** A role as an `up` of the entry leaves it. */
async function made(): Promise<RoleSeen> {
  return {
    name: "app",
    login: true,
    privileged: false,
    connectionLimit: 20,
    validUntil: Date.parse("2030-01-01T00:00:00Z") / 1000,
    verifier: await scramVerifier(password),
    settings: ["statement_timeout=30s", 'search_path=app, "$user"'],
    actsAs: null,
    memberOf: ["pg_monitor"],
    superuserBy: [],
  };
}

const plain: RoleSeen = {
  ...{ name: "app", login: false, privileged: false, connectionLimit: -1, validUntil: null, verifier: null },
  ...{ settings: [], actsAs: null, memberOf: [], superuserBy: [] },
};

function insideWith(seen: Partial<Inside["roles"]>): Inside {
  const inside = new FakePostgres().describe();
  return { ...inside, verifier: "of a superuser", roles: { ...inside.roles, note: '{"app":[]}', ...seen } };
}

const differs = async (inputs: PostgresServerInputs, seen: Partial<Inside["roles"]>) =>
  roles.differs(inputs, { inside: insideWith(seen) });

/** @returns all SQL that was run, a text for each session */
async function applied(
  inputs: PostgresServerInputs,
  seen: Partial<Inside["roles"]>,
  before: Partial<PostgresServerInputs> = {},
): Promise<string[]> {
  const inside = insideWith(seen);
  const ran: string[] = [];
  const { defaultPrivileges, ...server } = inside.roles;
  const session = {
    tenant: "acme",
    run: async (sql: string) => {
      ran.push(sql);
      return "";
    },
    read: async (sql: string) =>
      sql.includes("'verifier'")
        ? `${JSON.stringify({ ...inside, roles: server })}\n${JSON.stringify(defaultPrivileges)}`
        : '["postgres"]',
  } as unknown as Session;
  await roles.apply({ inputs, before, inside, session } as unknown as RunningServer);
  return ran;
}

describe("roles", () => {
  it("that are as the entry says cost nothing, and neither do those of no entry", async () => {
    const seen = { found: [await made()] };
    expect(await differs(inputsWith({ app: entry }), seen)).toBe(false);
    expect(await applied(inputsWith({ app: entry }), seen)).toEqual([]);
    expect(await applied(inputsWith(undefined), { note: null })).toEqual([]);
  });

  it.each<[string, Partial<RoleSeen>]>([
    ["no login", { login: false }],
    ["more attributes than a plain role", { privileged: true }],
    ["another connection limit", { connectionLimit: 21 }],
    ["another end", { validUntil: 5 }],
    ["no end", { validUntil: null }],
    ["another password", { verifier: null }],
    ["another value of a setting", { settings: ["statement_timeout=31s", 'search_path=app, "$user"'] }],
    ["a setting less", { settings: ["statement_timeout=30s"] }],
    ["a membership less", { memberOf: [] }],
    ["a group that pgs makes", { memberOf: ["pg_monitor", "pgs_owner"] }],
    ["a superuser's rights by a group", { memberOf: ["pg_monitor", "x"], superuserBy: ["x"] }],
    ["the owner's rights in its sessions", { actsAs: "pgs_owner" }],
  ])("with %s differ", async (_, change) => {
    expect(await differs(inputsWith({ app: entry }), { found: [{ ...(await made()), ...change }] })).toBe(
      true,
    );
  });

  it("that somebody else gave what the entry does not say keep it", async () => {
    const settings = ["work_mem=8MB", "statement_timeout=30s", 'search_path=app, "$user"'];
    const found = [{ ...(await made()), settings, memberOf: ["pg_monitor", "theirs"] }];
    expect(await differs(inputsWith({ app: entry }), { found })).toBe(false);
    const bare = inputsWith({ app: { settings: {}, inRoles: [] } });
    expect(await differs(bare, { found })).toBe(false);
  });

  it("lose what an earlier entry said", async () => {
    const note = '{"app":["connectionLimit","validUntil","settings.statement_timeout","inRoles.pg_monitor"]}';
    const sql = (
      await applied(inputsWith({ app: { settings: {}, inRoles: [] } }), { note, found: [await made()] })
    ).join("\n");
    expect(sql).toContain("CONNECTION LIMIT -1 VALID UNTIL E'infinity'");
    expect(sql).toContain('RESET "statement_timeout"');
    expect(sql).not.toContain('RESET "search_path"');
    expect(sql).toMatch(/REVOKE.*E'pg_monitor'.*E'app'/);
  });

  it("are noted before they are made, and their passwords never leave pgs", async () => {
    const ran = await applied(inputsWith({ app: { ...entry, grants: "owner" } }), { note: null });
    expect(ran[0]).toMatch(/^ALTER DATABASE postgres SET pgs.roles = .*"pgs_owner".*"app"/);
    expect(ran[1]).toMatch(
      /CREATE ROLE "app";\nALTER ROLE "app" NOSUPERUSER .* LOGIN PASSWORD E'SCRAM-SHA-256\$/,
    );
    expect(ran.join("\n")).not.toContain(password);
    expect(ran.at(-1)).toContain("pgs.roles");
  });

  it("that are removed lose their login before anything else, also where the note was lost", async () => {
    for (const note of ['{"app":[]}', null]) {
      const ran = await applied(inputsWith(undefined), { note, found: [plain] }, { roles: { app: entry } });
      expect(ran[1]).toMatch(/^ALTER ROLE "app" NOLOGIN PASSWORD NULL;\nSELECT pg_terminate_backend/);
      // Never to a superuser: a function with its owner's rights would run with a superuser's.
      expect(ran[2]).toContain("CREATE ROLE pgs_owner NOLOGIN");
      expect(ran[3]).toMatch(
        /^BEGIN;\nLOCK TABLE pg_catalog.pg_shdepend .*\nREASSIGN OWNED BY "app" TO pgs_owner;\nDROP/,
      );
      expect(ran.at(-1)).toBe("ALTER DATABASE postgres RESET pgs.roles;");
    }
  });

  it("have the one that a tenant without a superuser logs in as, and it takes over what the superuser made", async () => {
    const inputs = { ...inputsWith(undefined), user: "acme" };
    const superuser = { ...inputsWith(undefined) };
    const seen = { note: '{"pgs_owner":[]}', owner: "pgs_owner", found: [{ ...plain, name: "pgs_owner" }] };
    const sql = (await applied(inputs, seen, superuser)).join("\n");
    expect(sql).toMatch(
      /CREATE ROLE "acme";\nALTER ROLE "acme" NOSUPERUSER .* LOGIN PASSWORD E'SCRAM-SHA-256\$/,
    );
    expect(sql).toMatch(/GRANT "pg_monitor" TO "pgs_owner"[\s\S]*GRANT "pgs_owner" TO "acme"/);
    expect(sql).toMatch(/proowner = 10 UNION.*OWNER TO pgs_owner/s);
    const session = { read: async () => "" } as unknown as Session;
    expect(await rolesWarnings(superuser as never, inputs, session)).toEqual([
      expect.stringContaining("logs in as acme from now on"),
    ]);
    expect(await rolesWarnings(inputs as never, superuser, session)).toEqual([
      expect.stringContaining("logs in as postgres from now on"),
      expect.stringContaining("the role acme is removed"),
    ]);
  });

  it("that are the owner no more lose its rights and their sessions, and the owner stays with what it owns", async () => {
    const note = '{"pgs_owner":[],"pgs_readwrite":[],"app":["inRoles.pgs_owner"]}';
    const found = [{ ...(await made()), memberOf: ["pg_monitor", "pgs_owner"], actsAs: "pgs_owner" }];
    const sql = (await applied(inputsWith({ app: entry }), { note, found })).join("\n");
    expect(sql).toMatch(/RESET role;[\s\S]*REVOKE.*E'pgs_owner'.*E'app'.*\n.*pg_terminate_backend.*E'app'/);
    expect(sql).not.toMatch(/(DROP|REASSIGN) OWNED BY .*pgs_owner"|ALTER ROLE "pgs_owner" NOLOGIN/);
  });

  it("of PostgreSQL are never changed, whatever the tenant notes", async () => {
    const note = '{"postgres":[],"pg_monitor":[],"x\\"; DROP DATABASE acme; --":["settings.a\\"b"]}';
    const found = ["postgres", "pg_monitor", 'x"; DROP DATABASE acme; --'].map((name) => ({
      ...plain,
      name,
    }));
    const sql = (await applied(inputsWith(undefined), { note, found })).join("\n");
    expect(sql).not.toMatch(/ALTER ROLE "(postgres|pg_monitor)"/);
    expect(sql).toContain('ALTER ROLE "x""; DROP DATABASE acme; --" NOLOGIN');
  });

  it("may have a name that every object has a property of", async () => {
    const ran = await applied(
      { ...inputsWith({ constructor: entry }), rolePasswords: { constructor: password } },
      { note: null },
    );
    expect(ran.join("\n")).toContain('ALTER ROLE "constructor" SET statement_timeout');
  });

  it("are planned whatever the tenant notes", async () => {
    const notes = fc.oneof(fc.string(), fc.json());
    await fc.assert(
      fc.asyncProperty(notes, async (note) => {
        expect(await differs(inputsWith(undefined), { note, found: [] })).toBeTypeOf("boolean");
      }),
    );
  });
});
