import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cancelAddress } from "../../components/docker/cancel-requests";
import { cancelPort } from "../../docker/names";
import { Checkout } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { addressOf, inContainer, inspect } from "./support/inside";
import { expectRunning, interrupt, login, psql } from "./support/psql";

const tenantsWith = (roles: string) => `
defaults: { memory: 256Mi }
tenants:
  acme: {}
  globex: { tls: passthrough, init: [init/roles.sql], roles: ${roles} }
  initech: { access: false }
  umbrella: { superuser: off, init: [init/roles.sql, init/raised.sql], extensions: [pg_trgm], pooler: {} }
`;
const tenants = tenantsWith(`{
    app: { grants: readwrite, settings: { statement_timeout: 30s } },
    report: { grants: readonly, connectionLimit: 2, validUntil: "2100-01-01T00:00:00Z" },
    migrator: { grants: owner } }`);

let checkout: Checkout;
let ca: string;

beforeAll(async () => {
  checkout = await Checkout.create(tenants);
  checkout.write("init/roles.sql", "CREATE SCHEMA shop; CREATE TABLE shop.orders (id serial, item text);");
  checkout.write(
    "init/raised.sql",
    "CREATE FUNCTION shop.raised() RETURNS name LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user';",
  );
  await checkout.up();
  ca = await checkout.caFile();
});
afterAll(() => checkout?.remove());

describe.each(["acme", "globex"])("%s, with access on, logs in", (id) => {
  test.each([
    ["psql 15, sslmode=require", psql[15], { sslmode: "require" }],
    ["psql 15, verify-full", psql[15], { sslmode: "verify-full", sslrootcert: "CA" }],
    ["psql 18, sslmode=require", psql[18], { sslmode: "require" }],
    ["psql 18, verify-full", psql[18], { sslmode: "verify-full", sslrootcert: "CA" }],
    [
      "psql 18, direct TLS",
      psql[18],
      { sslmode: "verify-full", sslrootcert: "CA", sslnegotiation: "direct" },
    ],
  ])("by %s", async (_name, binary, parameters) => {
    const real = "sslrootcert" in parameters ? { ...parameters, sslrootcert: ca } : parameters;
    const result = await login(checkout, binary, id, real);
    expect(result.stderr).toBe("");
    expect(result.stdout.trim()).toBe(id);
  });

  test("by node-postgres, verifying the certificate", async () => {
    expect(await checkout.query(id, "SELECT current_database() AS name")).toEqual([{ name: id }]);
  });

  test("by its own password only: another tenant's is refused", async () => {
    const other = await checkout.password(id === "acme" ? "globex" : "acme");
    const result = await login(checkout, psql[18], id, {}, other);
    expect(result.code).not.toBe(0);
    expect(result.stderr).toMatch(/password authentication failed/);
  });
});

describe("within six seconds, and while others work on, is refused", () => {
  const unreachable = /unexpected eof|EOF detected|closed the connection|received H/;
  test.each<[string, string, Record<string, string>, RegExp, string?]>([
    ["an unknown hostname", "acme", { host: "nobody.pgs.localhost" }, unreachable],
    ["a hostname of another domain", "acme", { host: "acme.example.test" }, unreachable],
    ["a client without SNI", "acme", { sslsni: "0" }, unreachable],
    ["a dot at the end of the hostname", "acme", { host: "acme.pgs.localhost." }, unreachable],
    [
      "physical replication",
      "acme",
      { replication: "true" },
      /no pg_hba.conf entry for replication connection/,
    ],
    [
      "a client without TLS",
      "acme",
      { sslmode: "disable" },
      /FATAL: +TLS is required: connect with sslmode=/,
    ],
    ["a wrong password", "acme", {}, /password authentication failed/, "wrong"],
    ["a tenant with access off", "initech", {}, unreachable],
  ])("%s", async (_name, id, parameters, message, password) => {
    const neighbour = await checkout.client("globex");
    let queries = 0;
    let going = true;
    const work = (async () => {
      while (going) {
        await neighbour.query("SELECT 1");
        await checkout.query("globex", "SELECT 1");
        queries++;
      }
    })();

    for (const binary of [psql[15], psql[18]]) {
      const result = await login(checkout, binary, id, parameters, password);
      expect(result.code).not.toBe(0);
      expect(result.stderr).toMatch(message);
      expect(result.seconds).toBeLessThan(6);
    }

    going = false;
    await work;
    await neighbour.end();
    expect(queries).toBeGreaterThan(0);
  });
});

/** Whole seconds are far more than a cancel takes, and less than the proxy's read timeout. */
const soon = 2.5;

describe.each([
  ["acme", "globex"],
  ["globex", "acme"],
])("a query of %s ends at once, and none of %s", (id, other) => {
  let neighbour: Client;
  const runsOn = "SELECT pg_sleep(120)";

  beforeAll(async () => {
    neighbour = await checkout.client(other);
    void neighbour.query(runsOn).catch(() => {});
    await eventually(20, () => expectRunning(checkout, other, runsOn));
  });
  afterAll(() => neighbour?.end());

  test.each([
    ["psql 15", psql[15], {}],
    ["psql 18", psql[18], {}],
    ["psql 18, direct TLS", psql[18], { sslnegotiation: "direct" }],
    ["psql 18, with the long keys of protocol 3.2", psql[18], { max_protocol_version: "3.2" }],
  ])("by Ctrl-C in %s", async (_, binary, parameters) => {
    const { output, seconds } = await interrupt(checkout, binary, id, parameters);
    expect(output).toMatch(/ERROR: +canceling statement due to user request/);
    expect(seconds).toBeLessThan(soon);
  });

  test("by node-postgres, over a connection without TLS", async () => {
    const client = await checkout.client(id);
    const query = "SELECT pg_sleep(60), 'by node-postgres'";
    const answer = client.query(query).then(
      () => "answered",
      (error: Error) => error.message,
    );
    await eventually(20, () => expectRunning(checkout, id, query));
    // It has no types, and no TLS: https://github.com/brianc/node-postgres/blob/master/packages/pg/lib/client.js
    const canceller = new Client({ host: "127.0.0.1", port: checkout.port }) as Client & {
      cancel(client: Client, query: unknown): void;
    };
    const started = performance.now();
    canceller.cancel(client, (client as Client & { activeQuery: unknown }).activeQuery);
    expect(await answer).toBe("canceling statement due to user request");
    expect((performance.now() - started) / 1000).toBeLessThan(soon);
    await client.end();
  });

  test("and the neighbour's goes on", () => expectRunning(checkout, other, runsOn));
});

test("a client without TLS is told so at once", async () => {
  const { stderr, seconds } = await login(checkout, psql[18], "acme", { sslmode: "disable" });
  expect(stderr).toContain("TLS is required");
  expect(seconds).toBeLessThan(soon);
});

test("a tenant's container does not reach by the proxy what cancels queries", async () => {
  const script = (host: string) =>
    `timeout 10 psql "host=${host} user=postgres sslmode=disable" -c 'SELECT 1'`;
  const answer = await inContainer(checkout, "acme", script(checkout.name("proxy")));
  expect(answer).toMatch(/received H|closed the connection|Connection reset/);
  expect(answer).not.toContain("TLS is required");
});

test("a query of a tenant that is added later ends as well, and nothing is restarted for it", async () => {
  const container = async () => {
    const { Id, State } = await inspect(checkout.name("-cancel"));
    return [Id, State.StartedAt];
  };
  const before = await container();
  await checkout.apply(`${tenants}  hooli: {}\n`);
  const { output, seconds } = await interrupt(checkout, psql[18], "hooli");
  expect(output).toMatch(/ERROR: +canceling statement due to user request/);
  expect(seconds).toBeLessThan(soon);
  expect(await container()).toEqual(before);
});

describe("addresses that clients may come from", () => {
  /** The host's, as the proxy sees it, and that of a container in the proxy's network. */
  let own: string;
  let stranger: string;
  const conninfoOf = (id: string) =>
    `host=${id}.pgs.localhost hostaddr=${proxy} user=postgres dbname=${id} sslmode=require connect_timeout=5`;
  const asStranger = (id: string, password: string, sql: string) =>
    run(
      "docker",
      ["exec", "--env", "PGPASSWORD", checkout.name("stranger"), "psql", conninfoOf(id), "-c", sql],
      {
        env: { ...process.env, PGPASSWORD: password },
      },
    );
  const closed = /closed the connection|unexpected eof/;
  /** When the proxy got the file as it is now. */
  const writtenAt = async (file: string) => {
    const path = `/etc/traefik/dynamic/${file}`;
    const changed = await succeed("docker", ["exec", checkout.name("proxy"), "stat", "-c", "%z", path]);
    return Date.parse(changed.trim().replace(/(\.\d{3})\d* /, "$1"));
  };
  let proxy: string;
  let passwords: { acme: string; globex: string };
  const allowing = (acme: string) => tenants.replace("acme: {}", `acme: { allow: [${acme}] }`);

  beforeAll(async () => {
    const { Image } = await inspect(checkout.name("acme"));
    const network = checkout.name("proxy");
    const name = checkout.name("stranger");
    await succeed("docker", [
      "run",
      "-d",
      "--name",
      name,
      "--network",
      network,
      "--entrypoint",
      "sleep",
      Image,
      "600",
    ]);
    stranger = await addressOf(name, network);
    proxy = await addressOf(network, network);
    own = stranger.replace(/\d+$/, "1");
    passwords = { acme: await checkout.password("acme"), globex: await checkout.password("globex") };
  });
  afterAll(() => run("docker", ["rm", "--force", "--volumes", checkout.name("stranger")]));

  test("that become fewer end the tenant's sessions, no one else's, and keep out who comes from another", async () => {
    const neighbour = await checkout.client("globex");
    const session = asStranger("acme", passwords.acme, "SELECT pg_sleep(300), 'by a stranger'");
    await eventually(20, () => expectRunning(checkout, "acme", "SELECT pg_sleep(300), 'by a stranger'"));
    checkout.write("tenants.yaml", allowing(own));
    const preview = await checkout.pulumi("preview");
    expect(preview).toContain(`all open sessions of ${checkout.name("acme")} are ended: fewer addresses`);
    expect(preview).toContain("[diff: ~access,route]");
    // In one command, as the engine takes its time for each.
    const refused = run(
      "docker",
      [
        ...["exec", "--env", "PGPASSWORD", checkout.name("stranger"), "bash", "-c"],
        "while psql \"$0\" -qAtc 'SELECT 1' >/dev/null; do :; done; date +%s.%N",
        conninfoOf("acme"),
      ],
      { env: { ...process.env, PGPASSWORD: passwords.acme } },
    );
    const before = await writtenAt("route-acme.yml");
    const written = (async () => {
      for (;;) {
        const at = await writtenAt("route-acme.yml");
        if (at !== before) return at;
      }
    })();
    await checkout.up();
    const { output, stdout } = await refused;
    expect(output).toMatch(closed);
    const seconds = Number(stdout) - (await written) / 1000;
    console.log(
      `logins: an address that is taken off the list is refused ${seconds.toFixed(2)} s after that`,
    );
    // The aim is a second; a machine that tests keep busy takes longer.
    expect(seconds).toBeLessThan(5);
    expect((await session).output).toMatch(/terminating connection due to administrator command/);
    expect((await asStranger("acme", passwords.acme, "SELECT 1")).output).toMatch(closed);
    expect((await asStranger("globex", passwords.globex, "SELECT 1")).code).toBe(0);
    expect(await checkout.query("acme", "SELECT 1 AS one")).toEqual([{ one: 1 }]);
    expect((await neighbour.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    await neighbour.end();
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  test("are believed of what passes on cancel requests, and of no tenant's container", async () => {
    const address = cancelAddress("globex.pgs.localhost");
    const startup = String.raw`PROXY TCP6 ${address} ${address} 1 1\r\n\0\0\0\x10\0\x03\0\0user\0x\0\0`;
    const script = `exec 3<>/dev/tcp/${checkout.name("proxy")}/${cancelPort}
      printf '${startup}' >&3
      timeout 10 head -c 1 <&3`;
    // A server asks for the password; the proxy itself says that this is no HTTP, when it has waited for more.
    expect((await run("docker", ["exec", checkout.name("stranger"), "bash", "-c", script])).output).toBe("R");
    expect(await inContainer(checkout, "acme", script)).toMatch(/^H?$/);
  });

  test("do not count for cancel requests that are passed on", async () => {
    const { output, seconds } = await interrupt(checkout, psql[18], "acme");
    expect(output).toMatch(/ERROR: +canceling statement due to user request/);
    expect(seconds).toBeLessThan(soon);
  });

  test("that become more count at once, and end no session", async () => {
    const client = await checkout.client("acme");
    await checkout.apply(allowing(`${own}, ${stranger}/32`));
    expect((await asStranger("acme", passwords.acme, "SELECT 1")).code).toBe(0);
    expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    await client.end();
  });

  test("of the whole stack count for every tenant, and what would let in nobody is refused", async () => {
    await checkout.pulumi("config", "set", "--path", "pgs:allow[0]", "203.0.113.0/24");
    const refused = await checkout.tryUp();
    expect(refused.code).not.toBe(0);
    expect(refused.output).toMatch(
      /tenants\.yaml:4:18: tenants\.acme\.allow: no address of these is in pgs:allow/,
    );
    await checkout.query("acme", "SELECT 1");
    await checkout.pulumi("config", "set", "--path", "pgs:allow[0]", own);
    await checkout.up();
    for (const id of ["acme", "globex"] as const) {
      await checkout.query(id, "SELECT 1");
      expect((await asStranger(id, passwords[id], "SELECT 1")).code).not.toBe(0);
    }
  });
});

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
      tenantsWith("{ migrator: { grants: owner }, byhand: { inRoles: [pg_monitor] } }"),
    );
    const planned = await preview();
    expect(planned).toContain("the role app is removed");
    expect(planned).toMatch(/byhand is there already and is adopted/);
    await checkout.up();
    await ended;
    await expect(new Client(former).connect()).rejects.toThrow("password authentication failed");
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

test("only the proxy publishes a port", async () => {
  const published = await succeed("docker", [
    "ps",
    "--filter",
    `name=^${checkout.prefix}-`,
    "--format",
    "{{.Names}} {{.Ports}}",
  ]);
  const withPort = published.split("\n").filter((line) => line.includes("->"));
  expect(withPort).toHaveLength(1);
  expect(withPort[0]).toContain(checkout.name("proxy"));
  expect(withPort[0]).toContain(`0.0.0.0:${checkout.port}->5432/tcp`);
});
