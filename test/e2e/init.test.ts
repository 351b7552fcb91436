import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { succeed } from "./support/command";
import { login, psql } from "./support/psql";

const tenants = (...scripts: string[]) => `tenants: { acme: { init: [${scripts.join(", ")}] }, globex: {} }`;

let checkout: Checkout;
beforeAll(async () => {
  checkout = await Checkout.create(tenants("init/one.sql.gz", "init/two.sql"));
  checkout.write("init/one.sql", "CREATE ROLE app; CREATE TABLE one AS SELECT current_database() AS name;");
  await succeed("gzip", ["--keep", join(checkout.folder, "init/one.sql")]);
});
afterAll(() => checkout?.remove());

test("a failing script fails the up, names itself and its line, and keeps nothing of itself", async () => {
  checkout.write("init/two.sql", "CREATE TABLE two (id int);\nINSERT INTO two VALUES ('not a number');\n");
  const result = await checkout.tryUp();
  expect(result.code).not.toBe(0);
  expect(result.output).toMatch(
    /init script two\.sql failed: line 2: ERROR: {2}invalid input syntax for type integer/,
  );
  expect(
    await checkout
      .query("acme", "SELECT to_regclass('one') IS NOT NULL AS one, to_regclass('two') AS two")
      .catch((error: Error) => error.message),
  ).toMatch(/password authentication failed/);
});

test("another tenant of the same up is not held up by it", async () => {
  await checkout.query("globex", "SELECT 1");
});

test("the next up fails again as long as the script does", async () => {
  const result = await checkout.tryUp();
  expect(result.code).not.toBe(0);
  expect(result.output).toMatch(/init script two\.sql failed/);
});

test("a script with transactions of its own that fails later leaves nothing for the next try", async () => {
  checkout.write("init/two.sql", "BEGIN; CREATE TABLE two (); COMMIT;\nSELECT 1 / 0;\n");
  expect((await checkout.tryUp()).output).toMatch(
    /init script two\.sql failed: line 2: ERROR: {2}division by zero/,
  );
});

test("once it is corrected, the next up makes the database from nothing", async () => {
  checkout.write(
    "init/two.sql",
    "CREATE TABLE two AS SELECT * FROM one; GRANT CREATE ON DATABASE acme TO app;",
  );
  await checkout.up();
  expect(await checkout.query("acme", "SELECT name FROM two")).toEqual([{ name: "acme" }]);
  await checkout.pulumi("preview", "--expect-no-changes");
});

test("nothing of how it was initialised is left in the database", async () => {
  const left = "SELECT setconfig::text FROM pg_db_role_setting WHERE setconfig::text !~ '^.\"?pgs.settings='";
  expect(await checkout.query("acme", left)).toEqual([]);
});

test("scripts run once: another one, added later, changes nothing", async () => {
  checkout.write("init/three.sql", "CREATE TABLE three ();");
  await checkout.apply(tenants("init/one.sql", "init/two.sql", "init/three.sql"));
  expect(await checkout.query("acme", "SELECT to_regclass('three') AS three")).toEqual([{ three: null }]);
});

test("a tenant with the shortest limits and a locale of its own is created with its scripts, and its password rotates", async () => {
  const strict = (version: number, locale = "C") => `tenants:
  acme: { init: [init/one.sql, init/two.sql] }
  globex: {}
  strict:
    locale: ${locale}
    encoding: LATIN1
    init: [init/slow.sql]
    passwordVersion: ${version}
    settings:
      statement_timeout: 1ms
      lock_timeout: 1ms
      transaction_timeout: 1s
      idle_in_transaction_session_timeout: 1ms
      idle_session_timeout: 1ms
      default_transaction_read_only: true
      default_transaction_isolation: serializable
      search_path: nowhere
`;
  checkout.write("init/slow.sql", "SELECT pg_sleep(1.5);\nCREATE TABLE public.slow AS SELECT 1 AS n;\n");
  const missing = await checkout.tryApply(strict(1, "sv_SE.ISO-8859-1"));
  expect(missing.output).toMatch(
    /tenants\.yaml:5:13: the image has no locale sv_SE\.ISO-8859-1; it has C C\.utf8 en_US\.utf8 POSIX\. docs/,
  );
  await checkout.apply(strict(1));
  const other = await checkout.tryApply(strict(1, "C.UTF-8"));
  expect(other.output).toContain(
    "tenants.yaml:5:13: the database of strict is made, and its locale and encoding stay as they are: write locale: C again",
  );
  const before = await checkout.password("strict");
  await checkout.apply(strict(2));
  expect(await checkout.password("strict")).not.toBe(before);
  await checkout.pulumi("preview", "--expect-no-changes");
  const options = { options: "'-c statement_timeout=0 -c transaction_timeout=0 -c idle_session_timeout=0'" };
  expect((await login(checkout, psql[18], "strict", options)).stdout).toBe("strict\n");
  expect((await login(checkout, psql[18], "strict", options, before)).stderr).toMatch(
    /authentication failed/,
  );
});
