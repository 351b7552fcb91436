import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { succeed } from "./support/command";
import { inspect } from "./support/inside";
import { login, psql } from "./support/psql";

const tenantsWith = (roles: string) => `
defaults: { memory: 256Mi }
tenants:
  globex: { tls: passthrough, init: [init/roles.sql], roles: ${roles} }
  umbrella: { superuser: off, init: [init/roles.sql, init/raised.sql], extensions: [pg_trgm], pooler: {} }
`;
const tenants = tenantsWith(`{
    app: { grants: readwrite, settings: { statement_timeout: 30s } },
    report: { grants: readonly, connectionLimit: 2, validUntil: "2100-01-01T00:00:00Z" },
    migrator: { grants: owner } }`);

let checkout: Checkout;

beforeAll(async () => {
  checkout = await Checkout.create(tenants);
  checkout.write("init/roles.sql", "CREATE SCHEMA shop; CREATE TABLE shop.orders (id serial, item text);");
  checkout.write(
    "init/raised.sql",
    "CREATE FUNCTION shop.raised() RETURNS name LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user';",
  );
  await checkout.up();
});
afterAll(() => checkout?.remove());

describe("roles of an entry", () => {
  const as = (role: string, sql: string) => checkout.query("globex", sql, role);
  const preview = async () => (await checkout.tryPulumi("preview")).output;

  test("do what they are granted, of what was there before and of what is made later", async () => {
    await as("migrator", "ALTER TABLE shop.orders ADD note text");
    await as("migrator", "CREATE SCHEMA later; CREATE TABLE later.items (id serial, item text)");
    await checkout.query("globex", "CREATE SCHEMA byhand; CREATE TABLE byhand.items (id serial, item text)");
    for (const table of ["shop.orders", "later.items", "byhand.items"]) {
      await as("app", `INSERT INTO ${table} (item) VALUES ('a'); UPDATE ${table} SET item = 'b'`);
      for (const role of ["app", "report", "migrator"])
        expect(await as(role, `SELECT id, item FROM ${table}`)).toEqual([{ id: 1, item: "b" }]);
      await expect(as("report", `DELETE FROM ${table}`)).rejects.toThrow("permission denied");
      await expect(as("app", `ALTER TABLE ${table} ADD more text`)).rejects.toThrow("must be owner");
    }
    for (const role of ["app", "report", "migrator"]) {
      await expect(as(role, "SELECT rolpassword FROM pg_authid")).rejects.toThrow("permission denied");
      await expect(as(role, "CREATE ROLE more")).rejects.toThrow("permission denied");
    }
    expect(await as("app", "SHOW statement_timeout")).toEqual([{ statement_timeout: "30s" }]);
    const both = [
      await checkout.client("globex", undefined, "report"),
      await checkout.client("globex", undefined, "report"),
    ];
    await expect(as("report", "SELECT 1")).rejects.toThrow("too many connections");
    for (const client of both) await client.end();
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  test("are as the entry says again after a superuser changed, renamed and raised them, or a run was cut off", async () => {
    await checkout.query(
      "globex",
      `ALTER ROLE app SUPERUSER; ALTER ROLE app SET statement_timeout = 0;
       ALTER ROLE report RENAME TO renamed; GRANT postgres TO migrator;
       ALTER DEFAULT PRIVILEGES FOR ROLE postgres REVOKE SELECT ON TABLES FROM pgs_readonly;
       CREATE ROLE cut_off LOGIN`,
    );
    const [{ note }] = (await checkout.query(
      "globex",
      "SELECT setting AS note FROM pg_db_role_setting, unnest(setconfig) AS setting WHERE setting LIKE 'pgs.roles=%'",
    )) as [{ note: string }];
    const noted = { ...JSON.parse(note.slice("pgs.roles=".length)), cut_off: [], postgres: [] };
    await checkout.query("globex", `ALTER DATABASE postgres SET pgs.roles = '${JSON.stringify(noted)}'`);
    expect(await preview()).toMatch(/globex was changed by hand \(roles\)/);
    await checkout.up();
    await checkout.pulumi("preview", "--expect-no-changes");
    const found = await checkout.query(
      "globex",
      "SELECT rolname FROM pg_roles WHERE rolsuper OR rolname = 'cut_off'",
    );
    expect(found).toEqual([{ rolname: "postgres" }]);
    await expect(as("migrator", "SET ROLE postgres")).rejects.toThrow("permission denied");
    expect(await as("app", "SHOW statement_timeout")).toEqual([{ statement_timeout: "30s" }]);
    await checkout.query("globex", "CREATE TABLE byhand.after ()");
    await as("report", "SELECT FROM byhand.after");
  });

  test("that are removed lose login and sessions, and their objects go to the owner; one made by hand is adopted", async () => {
    await checkout.query(
      "globex",
      "CREATE TABLE shop.owned AS SELECT 1 AS one; ALTER TABLE shop.owned OWNER TO app",
    );
    await checkout.query("globex", "CREATE ROLE byhand LOGIN CONNECTION LIMIT 7");
    const session = await checkout.client("globex", undefined, "app");
    const ended = new Promise((resolve) => session.once("end", resolve));
    const former = await checkout.clientConfig("globex", "app");
    checkout.write(
      "tenants.yaml",
      tenantsWith(
        `{ migrator: { grants: owner }, byhand: { inRoles: [pg_monitor] }, late: { validUntil: "2020-01-01T00:00:00Z" } }`,
      ),
    );
    const planned = await preview();
    expect(planned).toContain("the role app is removed");
    expect(planned).toMatch(/byhand is there already and is adopted/);
    await checkout.up();
    await ended;
    await expect(new Client(former).connect()).rejects.toThrow("password authentication failed");
    await expect(as("late", "SELECT 1")).rejects.toThrow("password authentication failed");
    expect(await as("migrator", "SELECT * FROM shop.owned")).toEqual([{ one: 1 }]);
    await as("migrator", "DROP TABLE shop.owned");
    expect(
      await as(
        "byhand",
        "SELECT rolconnlimit AS limit, pg_has_role('pg_monitor', 'USAGE') AS monitors FROM pg_roles WHERE rolname = current_user",
      ),
    ).toEqual([{ limit: 7, monitors: true }]);
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  test("are named by --role of url, password and connect", async () => {
    const { stdout } = await checkout.pgs([
      "connect",
      "globex",
      "--role",
      "migrator",
      "--",
      "-Atc",
      "SELECT session_user",
    ]);
    expect(stdout).toBe("migrator\n");
    expect((await checkout.pgs(["url", "globex", "--role", "migrator"])).stdout).toContain(
      "postgresql://migrator:",
    );
    expect((await checkout.pgs(["password", "globex", "--role", "migratr"])).stderr).toBe(
      "globex has no role migratr; did you mean migrator?\n",
    );
  });
});

describe("a tenant without a superuser", () => {
  const as = (sql: string) => checkout.query("umbrella", sql);
  const switched = (superuser: string) =>
    checkout.write("tenants.yaml", tenants.replace("superuser: off", `superuser: ${superuser}`));
  const byPostgres = (sql: string) =>
    succeed("docker", ["exec", checkout.name("umbrella"), "psql", "-U", "postgres", "-Atc", sql, "umbrella"]);

  test("owns its database and what init scripts made, and has no way to become one", async () => {
    expect(
      await as(
        "SELECT session_user AS login, current_user AS acts, rolsuper FROM pg_roles WHERE rolname = session_user",
      ),
    ).toEqual([{ login: "umbrella", acts: "pgs_owner", rolsuper: false }]);
    await as("ALTER TABLE shop.orders ADD note text; CREATE EXTENSION hstore; CREATE TABLE public.mine ()");
    expect(await as("SELECT similarity('a', 'a') AS same")).toEqual([{ same: 1 }]);
    for (const sql of [
      "COPY shop.orders (note) FROM PROGRAM 'id'",
      "COPY shop.orders (note) TO '/tmp/x'",
      "SELECT pg_read_file('PG_VERSION')",
      "SELECT lo_import('/etc/passwd')",
      "ALTER SYSTEM SET work_mem = '8MB'",
      "CREATE ROLE more",
      "ALTER ROLE postgres PASSWORD 'x'",
      "SET ROLE postgres",
      "SET SESSION AUTHORIZATION postgres",
      "CREATE EXTENSION file_fdw",
      "CREATE DATABASE more",
      "SELECT rolpassword FROM pg_authid",
      "ALTER FUNCTION shop.raised() OWNER TO postgres",
    ]) {
      await expect(as(sql), sql).rejects.toThrow(/permission denied|must be able to SET ROLE/);
    }
    // Of an init script: it was the superuser's, and runs with its owner's rights.
    expect(await as("SELECT shop.raised() AS name")).toEqual([{ name: "pgs_owner" }]);
    const password = await checkout.password("umbrella");
    for (const host of ["umbrella", "umbrella-pooler"]) {
      const parameters = { host: `${host}.pgs.localhost`, user: "postgres" };
      for (const tried of [password, ""]) {
        const result = await login(checkout, psql[18], "umbrella", parameters, tried);
        expect(result.output).toMatch(/authentication failed|no password supplied/);
      }
      const own = await login(checkout, psql[18], "umbrella", { ...parameters, user: "umbrella" }, password);
      expect(own.output.trim()).toBe("umbrella");
    }
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  test("is dumped, loaded and shown as it is", async () => {
    // What is the superuser's in it, such as a comment on an extension that one made, is no one else's to load.
    const dumped = await checkout.pgs([
      "dump",
      "umbrella",
      "--plain",
      "--",
      "--no-owner",
      "--no-privileges",
      "--no-comments",
    ]);
    expect(dumped.stdout).toContain("CREATE TABLE shop.orders");
    const again = dumped.stdout.replace(/shop/g, "shop2").replace(/public\.mine/g, "public.mine2");
    expect((await checkout.pgs(["load", "umbrella", "--into-existing"], { stdin: again })).stderr).toContain(
      "umbrella: loaded",
    );
    await as("INSERT INTO shop2.orders (item) VALUES ('a')");
    const { stdout, stderr } = await checkout.pgs(["top", "umbrella", "--json"]);
    expect(stderr).toBe("");
    expect(JSON.parse(stdout).statements.length).toBeGreaterThan(0);
    expect((await checkout.pgs(["url", "umbrella"])).stdout).toContain("postgresql://umbrella:");
    expect((await checkout.pgs(["connect", "umbrella", "--", "-Atc", "SELECT session_user"])).stdout).toBe(
      "umbrella\n",
    );
  });

  test("has its password rotated, also for its pooler", async () => {
    const before = await checkout.password("umbrella");
    const { code, output } = await checkout.pgs(["rotate-password", "umbrella", "--yes"]);
    expect(code, output).toBe(0);
    const after = await checkout.password("umbrella");
    expect(after).not.toBe(before);
    for (const host of ["umbrella", "umbrella-pooler"]) {
      const parameters = { host: `${host}.pgs.localhost`, user: "umbrella" };
      expect((await login(checkout, psql[18], "umbrella", parameters, after)).stdout).toBe("umbrella\n");
      expect((await login(checkout, psql[18], "umbrella", parameters, before)).output).toMatch(
        /authentication failed/,
      );
    }
  });

  test("is as the entry says again after somebody changed it by hand", async () => {
    await byPostgres(
      "ALTER ROLE postgres PASSWORD 'by hand'; CREATE ROLE other SUPERUSER; GRANT pg_execute_server_program TO umbrella",
    );
    expect((await checkout.tryPulumi("preview")).output).toMatch(
      /umbrella was changed by hand \((access, )?roles(, access)?\)|changed by hand \(access/,
    );
    await checkout.up();
    await checkout.pulumi("preview", "--expect-no-changes");
    expect(await as("SELECT rolname FROM pg_roles WHERE rolsuper")).toEqual([{ rolname: "postgres" }]);
    await expect(as("COPY shop.orders (note) FROM PROGRAM 'id'")).rejects.toThrow("permission denied");
  });

  test("gets one and loses it live, by an up that says so, and keeps its data", async () => {
    const { State, Id } = await inspect(checkout.name("umbrella"));
    switched("on");
    expect((await checkout.tryPulumi("preview")).output).toContain("logs in as postgres from now on");
    await checkout.up();
    expect(
      await as("SELECT current_user AS name FROM shop.orders RIGHT JOIN (SELECT 1) AS x ON true"),
    ).toEqual([{ name: "postgres" }]);
    await as(`CREATE TABLE shop.later (id int); CREATE ROLE other2 SUPERUSER LOGIN; GRANT postgres TO other2;
      CREATE FUNCTION shop.again() RETURNS name LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user';
      CREATE TYPE shop.pair AS (a int, b int); CREATE DOMAIN shop.small AS int; SELECT lo_create(4711);
      CREATE AGGREGATE shop.most (int) (SFUNC = int4larger, STYPE = int); CREATE SEQUENCE shop.numbers;
      CREATE OPERATOR shop.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
      CREATE STATISTICS shop.both ON id, note FROM shop.orders; CREATE COLLATION shop.c FROM "C"`);
    const session = await checkout.client("umbrella");
    const ended = new Promise((resolve) => session.once("end", resolve));
    switched("off");
    const planned = (await checkout.tryPulumi("preview")).output;
    expect(planned).toContain("logs in as umbrella from now on");
    expect(planned).toMatch(/diff: .user/);
    await checkout.up();
    await ended;
    await checkout.pulumi("preview", "--expect-no-changes");
    expect(await as("SELECT shop.again() AS name")).toEqual([{ name: "pgs_owner" }]);
    expect(await as("SELECT rolname FROM pg_roles WHERE rolsuper")).toEqual([{ rolname: "postgres" }]);
    await as(`ALTER TABLE shop.later ADD more int; DROP TYPE shop.pair; DROP DOMAIN shop.small; SELECT lo_unlink(4711);
      DROP AGGREGATE shop.most (int); DROP SEQUENCE shop.numbers; DROP OPERATOR shop.=== (int, int);
      DROP STATISTICS shop.both; DROP COLLATION shop.c; DROP TABLE shop.later`);
    const now = await inspect(checkout.name("umbrella"));
    expect([now.Id, now.State.StartedAt]).toEqual([Id, State.StartedAt]);
  });
});
