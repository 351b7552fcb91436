import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launch, watchedPage } from "./support/browser";
import { Checkout } from "./support/checkout";
import { eventually, run } from "./support/command";
import { RunningDashboard } from "./support/dashboard";
import { markup } from "./support/made-up-stack";
import { login, psql } from "./support/psql";

const before = `# Ours.
tenants:
  acme: {} # the first
`;

let checkout: Checkout;
const pgs = (args: string[], stdin = "") => checkout.pgs(args, { stdin });
const file = () => readFileSync(join(checkout.folder, "tenants.yaml"), "utf8");

beforeAll(async () => {
  checkout = await Checkout.create(before);
  await checkout.up();
});
afterAll(() => checkout?.remove());

test("create edits tenants.yaml, shows the change, and brings the tenant up with the password it was given", async () => {
  const result = await pgs(
    ["create", "hooli", "--memory", "256Mi", "--password", "-"],
    "My own: pass word\n",
  );
  expect(result.code, result.output).toBe(0);
  expect(result.stdout).toContain("+  hooli:\n+    memory: 256Mi");
  expect(result.output).not.toContain("My own");
  expect(file()).toBe(`${before}  hooli:\n    memory: 256Mi\n`);
  const entered = await login(checkout, psql[18], "hooli", {}, "My own: pass word");
  expect(entered.stdout).toBe("hooli\n");
});

test("disable-access and enable-access close and open the route", async () => {
  expect((await pgs(["disable-access", "acme"])).code).toBe(0);
  expect(file()).toContain("  acme: { access: false } # the first\n");
  expect((await login(checkout, psql[18], "acme")).code).not.toBe(0);
  expect((await pgs(["enable-access", "acme"])).code).toBe(0);
  await checkout.query("acme", "CREATE TABLE kept ()");
});

test("stop and start keep the data", async () => {
  expect((await pgs(["stop", "acme", "hooli"])).code).toBe(0);
  expect((await login(checkout, psql[18], "acme")).code).not.toBe(0);
  expect((await pgs(["start", "acme", "hooli"])).code).toBe(0);
  await checkout.query("acme", "SELECT * FROM kept");
});

test("rotate-password ends the old password", async () => {
  const old = await checkout.password("acme");
  expect((await pgs(["rotate-password", "acme"])).code).toBe(0);
  expect((await login(checkout, psql[18], "acme", {}, old)).stderr).toMatch(/password authentication failed/);
  await checkout.query("acme", "SELECT 1");
});

test("set changes a field, with --no-up in the file alone", async () => {
  expect((await pgs(["set", "hooli", "settings.work_mem", "7MB", "--no-up"])).code).toBe(0);
  expect(file()).toContain("      work_mem: 7MB\n");
  expect(await checkout.query("acme", "SHOW work_mem")).toEqual([{ work_mem: "4MB" }]);
});

test("dashboard shows the stack on loopback until Ctrl-C, with whatever a tenant writes as text", async () => {
  const [dashboard, browser, hostile] = await Promise.all([
    RunningDashboard.start(checkout),
    launch(),
    checkout.client("acme"),
  ]);
  try {
    await hostile.query(`SET application_name = '${markup.replaceAll("'", "''").slice(0, 60)}'`);
    await hostile.query("BEGIN");
    await hostile.query(`SELECT $m$${markup}$m$`);
    await checkout.query("acme", `DO $do$ BEGIN RAISE LOG $m$${markup}$m$; END $do$`);
    const { page, wrong } = await watchedPage(browser);
    await page.goto(dashboard.address);
    for (const id of ["acme", "hooli"]) {
      const row = page.locator("tbody tr").filter({ hasText: id });
      await row.getByText("running").waitFor();
      await row
        .getByText(/\d \/ \d+/)
        .first()
        .waitFor();
    }
    await page.getByRole("link", { name: "acme" }).click();
    await page.getByText("idle in transaction").first().waitFor();
    await page.locator(".log").getByText(markup).waitFor();
    await page.getByText(`SELECT $m$${markup}$m$`).first().waitFor();
    expect(await page.content()).not.toContain(await checkout.password("acme"));
    await page.goto(`http://127.0.0.1:${dashboard.port}/#/changes`);
    await page.getByText("hooli: ").first().waitFor();
    await page.goto(`http://127.0.0.1:${dashboard.port}/#/host`);
    await page.getByText(checkout.name("proxy")).waitFor();
    await page.getByText("by pgs CA for").waitFor();
    expect(await page.title()).toBe("Host · pgs dev");
    expect(wrong).toEqual([]);
  } finally {
    await Promise.all([dashboard.end(), browser.close(), hostile.end()]);
  }
  expect(await dashboard.end()).toEqual([0, null]);
});

const shell = (script: string) => run("bash", ["-c", `set -o pipefail\n${script}`], checkout.options());
/** Not the views of pg_stat_statements, which every new tenant has. */
const tablesOf = async (id: string) =>
  (await checkout.query(id, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).map(
    ({ tablename }) => tablename,
  );

test("dump and load carry a database over, in pg_dump's format and as packed SQL, and only into an empty one", async () => {
  const rows = "CREATE TABLE numbers AS SELECT n, md5(n::text) FROM generate_series(1, 100000) AS n";
  await checkout.query(
    "acme",
    `DROP TABLE IF EXISTS kept; CREATE ROLE app; ${rows}; GRANT SELECT ON numbers TO app`,
  );
  for (const [dump, load, file] of [
    ["dump acme", "load hooli -- --no-owner --no-privileges", "acme.dump"],
    ["dump acme --plain -- --no-privileges | gzip", "load hooli", "acme.sql.gz"],
  ]) {
    const dumped = await shell(`./pgs ${dump} > ${file}`);
    expect(dumped.code, dumped.output).toBe(0);
    expect(dumped.stderr).toMatch(/^acme: dumped \S+Mi, .*in \S+ s\n$/);
    const loaded = await shell(`./pgs ${load} < ${file}`);
    expect(loaded.code, loaded.output).toBe(0);
    expect(loaded.stderr).toMatch(/hooli: loaded \S+Mi, .*in \S+ s\n$/);
    expect(await checkout.query("hooli", "SELECT count(*)::int, max(n) FROM numbers")).toEqual([
      { count: 100_000, max: 100_000 },
    ]);
    const again = await shell(`./pgs ${load} < ${file}`);
    expect(again.code).toBe(2);
    expect(again.stderr).toContain("the database of hooli has tables already");
    await checkout.query("hooli", "DROP TABLE numbers");
  }
});

test("a dump that is cut off fails, and loads nothing", async () => {
  const containerRuns = `timeout 120 sh -c "until docker ps --format '{{.Names}}' | grep -q ${checkout.name("connect")}; do sleep 0.2; done"`;
  expect((await shell("./pgs load hooli < acme.dump")).stderr).toMatch(
    /role "app" does not exist[\s\S]*nothing was loaded.* --no-owner/,
  );
  const half = "$(($(stat -c %s $file) / 2))";
  for (const file of ["acme.dump", "acme.sql.gz", "acme.sql"]) {
    const cut = await shell(
      `file=${file}; zcat acme.sql.gz > acme.sql; head -c ${half} $file | ./pgs load hooli`,
    );
    expect(cut.code, cut.output).toBe(1);
    expect(cut.stderr).toContain("nothing was loaded");
  }
  // Whoever sends it may be killed, and the command too. What still sends does not hold this shell's output open.
  await shell(
    `(head -c 100000 acme.sql; exec sleep 20 2>/dev/null) | ./pgs load hooli & ${containerRuns}; sleep 2; kill -KILL $!; wait $!`,
  );
  expect(await tablesOf("hooli")).toEqual([]);

  const refused = await shell(
    "printf 'SELECT 1;\\nCREATE TABLE one ();\\nSELECT 1/0;\\n' | ./pgs load hooli",
  );
  expect(refused.code).toBe(3);
  expect(refused.stderr).toMatch(/:3: ERROR: {2}division by zero/);
  const notices = "DROP TABLE IF EXISTS gone;\\n".repeat(60);
  const flooded = await shell(`printf '${notices}SELECT 1/0;\\n' | ./pgs load hooli`);
  expect(flooded.stderr).toMatch(/:61: ERROR: {2}division by zero/);
  expect(await tablesOf("hooli")).toEqual([]);
  for (const end of ["\\\\connect hooli", "ROLLBACK;"]) {
    const ended = await shell(
      `printf 'CREATE TABLE one ();\\n${end}\\nCREATE TABLE two ();\\n' | ./pgs load hooli`,
    );
    expect(ended.code, ended.output).toBe(1);
    expect(ended.stderr).toContain("the file ends the load's transaction itself");
    expect(await tablesOf("hooli")).toEqual(["two"]);
    await checkout.query("hooli", "DROP TABLE two");
  }

  const closed = await shell("./pgs dump acme | head -c 1000 > start; exit $PIPESTATUS");
  expect(closed.code).toBe(1);
  expect(closed.stderr).toContain("no whole dump");
  const locking = await checkout.client("acme");
  await locking.query("BEGIN; LOCK numbers");
  const interrupted = await shell(
    `./pgs dump acme > half.dump & ${containerRuns}; sleep 2; kill -INT $!; wait $!`,
  );
  await locking.end();
  expect(interrupted.code).toBe(130);
  // The engine removes what ended in its own time.
  await eventually(90, async () => {
    const { stdout } = await run("docker", ["ps", "--all", "--format", "{{.Names}}"]);
    expect(stdout).not.toContain(checkout.name("connect"));
  });
});

test.each(["list", "preview", "refresh", "cancel", "url acme", "up --yes", "set acme cpus 2 --yes"])(
  "%s names a stack that there is not, and the commands that help",
  async (command) => {
    const result = await pgs([...command.split(" "), "--stack", "nope"]);
    expect(result.code).not.toBe(0);
    expect(result.output.trim()).toBe(
      "there is no stack nope: pulumi stack ls lists them, pulumi stack init nope makes it",
    );
  },
);

test.each([
  [["set", "acme", "memory", "12"], /tenants\.acme\.memory: .*write 12Mi/],
  [["set", "nobody", "memory", "1Gi"], /there is no tenant nobody; there are acme, hooli/],
  [["create", "Nobody"], /a tenant id has lower-case letters/],
  [["create", "acme"], /there is a tenant acme already/],
  [["create", "third", "--password", "secret"], /read from standard input/],
  [["remove", "acme", "--delete-data"], /needs --yes/],
])("%s is refused and leaves the file as it was", async (args, message) => {
  const text = file();
  const result = await pgs(args);
  expect(result.code).toBe(2);
  expect(result.stderr).toMatch(message);
  expect(file()).toBe(text);
});

test("remove keeps the data, remove --delete-data does not", async () => {
  expect((await pgs(["remove", "acme"])).code).toBe(0);
  expect((await pgs(["remove", "hooli", "--delete-data", "--yes"])).code).toBe(0);
  expect(file()).toBe("# Ours.\ntenants: {}\n");
  const volumes = await run("docker", ["volume", "ls", "--format", "{{.Name}}"]);
  expect(volumes.stdout.split("\n").filter((name) => name.startsWith(`${checkout.prefix}-`))).toEqual([
    checkout.name("-programs"),
    checkout.name("acme"),
    checkout.name("proxy"),
  ]);
});
