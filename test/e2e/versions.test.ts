import { afterAll, beforeAll, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { succeed } from "./support/command";
import { anonymousVolumes } from "./support/inside";
import { required } from "./support/psql";

/** Of the oldest version; and of the one before the newest, with an image that has ICU and pgvector. */
const ids = ["sixteen", "seventeen"];
const tenants = (superuser: string, icu = "sv-SE") => `
defaults: { memory: 256Mi, superuser: ${superuser}, roles: { app: { grants: readwrite } } }
tenants:
  sixteen: { version: 16, extensions: [pg_trgm] }
  seventeen: { version: 17, image: debian, icu: ${icu}, extensions: [vector] }
`;

let checkout: Checkout;

beforeAll(async () => {
  checkout = await Checkout.create(tenants("off"), {
    "images.16": required("POSTGRES16"),
    "images.17-debian": required("POSTGRES17"),
  });
  await checkout.up();
});
afterAll(() => checkout?.remove());

const superusers = `SELECT session_user AS login, current_user AS acts,
  (SELECT json_agg(rolname) FROM pg_roles WHERE rolsuper) AS superusers`;

test("a server has its sizes and its library from its first start on", async () => {
  const settings = `SELECT current_setting('server_version_num')::int / 10000 AS version,
    current_setting('max_connections') AS connections, current_setting('shared_buffers') AS buffers,
    current_setting('shared_preload_libraries') AS libraries`;
  const sizes = { connections: "51", buffers: "64MB", libraries: "pg_stat_statements" };
  expect(await checkout.query("sixteen", settings)).toEqual([{ version: 16, ...sizes }]);
  expect(await checkout.query("seventeen", settings)).toEqual([{ version: 17, ...sizes }]);
  await checkout.pulumi("preview", "--expect-no-changes");
});

test("has its data in its own volume: another container goes on with it", async () => {
  for (const id of ids) await checkout.query(id, "CREATE TABLE kept AS SELECT 1 AS one");
  await succeed("docker", ["rm", "--force", "--volumes", ...ids.map((id) => checkout.name(id))]);
  await checkout.up();
  for (const id of ids) expect(await checkout.query(id, "SELECT one FROM kept")).toEqual([{ one: 1 }]);
  expect(await anonymousVolumes(checkout)).toEqual([]);
});

test.each(ids)("%s, without a superuser, owns its database, and its roles have their rights", async (id) => {
  expect(await checkout.query(id, superusers)).toEqual([
    { login: id, acts: "pgs_owner", superusers: ["postgres"] },
  ]);
  await checkout.query(id, "CREATE TABLE made (n int); INSERT INTO made VALUES (1)");
  expect(await checkout.query(id, "UPDATE made SET n = 2 RETURNING n", "app")).toEqual([{ n: 2 }]);
  for (const sql of ["COPY made FROM PROGRAM 'id'", "SET ROLE postgres", "CREATE ROLE more"]) {
    await expect(checkout.query(id, sql), sql).rejects.toThrow("permission denied");
  }
});

test("seventeen sorts as its locale of ICU says, which stays", async () => {
  const [found] = await checkout.query(
    "seventeen",
    `SELECT string_agg(letter, '' ORDER BY letter) AS sorted,
      (SELECT datlocprovider::text || ' ' || datlocale FROM pg_database WHERE datname = current_database()) AS provider
    FROM regexp_split_to_table('öåzäa', '') AS letter`,
  );
  expect(found).toEqual({ sorted: "azåäö", provider: "i sv-SE" });
  const other = await checkout.tryApply(tenants("off", "de-DE"));
  expect(other.output).toContain("tenants.yaml:5:49: the database of seventeen is made");
  checkout.write("tenants.yaml", tenants("off"));
});

test("seventeen has the extension that its image adds, in the database of a tenant that is no superuser", async () => {
  expect(await checkout.query("seventeen", "SELECT '[1,2]'::vector <-> '[1,4]' AS distance")).toEqual([
    { distance: 2 },
  ]);
  const { stdout } = await checkout.pgs(["extensions", "seventeen", "--json"]);
  expect(JSON.parse(stdout)).toContainEqual(expect.objectContaining({ name: "vector", state: "installed" }));
});

test("gets a superuser, loses it again with all that the superuser gave away, and has its password rotated", async () => {
  await checkout.apply(tenants("on"));
  for (const id of ids) {
    expect(await checkout.query(id, superusers)).toMatchObject([{ login: "postgres", acts: "postgres" }]);
    await checkout.query(
      id,
      `CREATE ROLE other SUPERUSER LOGIN; CREATE ROLE helper LOGIN;
      GRANT postgres TO other; SET ROLE other; GRANT pg_execute_server_program TO helper WITH ADMIN OPTION;
      CREATE FUNCTION raised() RETURNS name LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user'; RESET ROLE;
      CREATE TABLE later (n int); CREATE SEQUENCE numbers`,
    );
  }
  await checkout.apply(tenants("off"));
  for (const id of ids) {
    expect(await checkout.query(id, superusers)).toEqual([
      { login: id, acts: "pgs_owner", superusers: ["postgres"] },
    ]);
    expect(
      await checkout.query(
        id,
        "SELECT FROM pg_auth_members WHERE roleid::regrole::text ~ '^(postgres|pg_exec)'",
      ),
    ).toEqual([]);
    await checkout.query(
      id,
      "ALTER TABLE later ADD note text; DROP SEQUENCE numbers; INSERT INTO later VALUES (1)",
    );
    expect(await checkout.query(id, "SELECT n FROM later", "app")).toEqual([{ n: 1 }]);
  }
  const { code, output } = await checkout.pgs(["rotate-password", "sixteen", "--yes"]);
  expect(code, output).toBe(0);
  await checkout.query("sixteen", "SELECT 1");
  await checkout.pulumi("preview", "--expect-no-changes");
});
