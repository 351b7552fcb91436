import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { run } from "./support/command";
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
