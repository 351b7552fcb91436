import { afterAll, beforeAll, expect, test } from "vitest";
import { blocksOf, commandsOf } from "../unit/support/docs";
import { Checkout, freePort } from "./support/checkout";
import { succeed } from "./support/command";

const tenants = `
tenants:
  acme: {}
  globex: { access: false }
`;

let checkout: Checkout;
beforeAll(async () => {
  checkout = await Checkout.create(tenants);
});
afterAll(() => checkout?.remove());

test("preview changes nothing on the host", async () => {
  await checkout.pulumi("preview");
  const names = await succeed("docker", ["ps", "-a", "--format", "{{.Names}}"]);
  expect(names).not.toContain(checkout.prefix);
});

test("after up, preview finds nothing to change, also after refresh", async () => {
  await checkout.up();
  await checkout.pulumi("preview", "--expect-no-changes");
  await checkout.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes");
  await checkout.pulumi("preview", "--expect-no-changes");
  await checkout.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes");
});

test("the outputs say where each tenant is reached", async () => {
  expect(await checkout.tenants()).toMatchObject({
    acme: {
      host: "acme.pgs.localhost",
      port: checkout.port,
      database: "acme",
      user: "postgres",
      access: true,
    },
    globex: { host: "globex.pgs.localhost", access: false, state: "running", version: 18 },
  });
  expect(await checkout.connectionString("acme")).toMatch(
    new RegExp(
      `^postgresql://postgres:[A-Za-z0-9]{32}@acme\\.pgs\\.localhost:${checkout.port}/acme\\?sslmode=require$`,
    ),
  );
});

test("stack prod lives beside dev on one host, with the configuration of Pulumi.prod.yaml", async () => {
  // As long as the other: a prefix has a limit.
  const prefix = checkout.prefix.replace(/.$/, (last) => (last === "p" ? "q" : "p"));
  const port = await freePort();
  await checkout.pulumi("stack", "init", "prod");
  expect(await checkout.pulumi("config", "get", "domain")).toBe("pgs.example.com\n");
  // Apart from what must not meet others on this machine, the file's own settings count.
  await checkout.pulumi("config", "set", "prefix", prefix);
  await checkout.pulumi("config", "set", "port", String(port));
  try {
    await checkout.up();
    expect(await checkout.tenants()).toMatchObject({ acme: { host: "acme.pgs.example.com", port } });
    await checkout.query("acme", "SELECT 1");
    await checkout.pulumi("preview", "--expect-no-changes");
    await checkout.pulumi("stack", "select", "dev");
    await checkout.query("acme", "CREATE TABLE dev_only ()");
    await checkout.pulumi("stack", "select", "prod");
    expect(await checkout.query("acme", "SELECT to_regclass('dev_only') AS found")).toEqual([
      { found: null },
    ]);
  } finally {
    await checkout.pulumi("destroy", "--yes", "--skip-preview", "--stack", "prod");
    await checkout.pulumi("stack", "select", "dev");
  }
  await checkout.query("acme", "SELECT 1");
});

test("a lost state is recovered as docs/disaster.md says, and no container restarts", async () => {
  const started = async () => {
    const all = await succeed("docker", ["ps", "--all", "--quiet", "--filter", `name=^${checkout.prefix}-`]);
    const format = "{{.Name}} {{.Id}} {{.State.StartedAt}}";
    return (await succeed("docker", ["inspect", "--format", format, ...all.trim().split("\n")]))
      .split("\n")
      .sort();
  };
  const [before, password] = [await started(), await checkout.password("acme")];
  const recovery = blocksOf("docs/disaster.md")
    .map(commandsOf)
    .find((commands) => commands.startsWith("id=$(docker ps"));
  const commands = (recovery ?? "false")
    .replaceAll("name=^pgs-", `name=^${checkout.prefix}-`)
    // The configuration is in Pulumi.dev.yaml still.
    .replace("pulumi config set …", "")
    .replace("pulumi up", "pulumi up --yes --skip-preview");
  await succeed("bash", ["-euo", "pipefail", "-c", commands], checkout.options());
  checkout.forgetOutputs();
  expect(await started()).toEqual(before);
  expect(await checkout.password("acme")).not.toBe(password);
  await checkout.query("acme", "SELECT 1");
  await checkout.pulumi("preview", "--expect-no-changes");
});

test("destroy takes containers and networks away and keeps the data", async () => {
  await checkout.query("acme", "CREATE TABLE kept AS SELECT 42 AS answer");
  await checkout.pulumi("destroy", "--yes", "--skip-preview");
  const left = async (kind: string, format: string) =>
    (await succeed("docker", [kind, "ls", ...(kind === "container" ? ["-a"] : []), "--format", format]))
      .split("\n")
      .filter((name) => name.startsWith(`${checkout.prefix}-`));
  expect(await left("container", "{{.Names}}")).toEqual([]);
  expect(await left("network", "{{.Name}}")).toEqual([]);
  expect(await left("volume", "{{.Name}}")).toEqual([checkout.name("acme"), checkout.name("globex")]);
});

test("up after destroy takes the data up again, with a working password", async () => {
  await checkout.up();
  expect(await checkout.query("acme", "SELECT answer FROM kept")).toEqual([{ answer: 42 }]);
});
