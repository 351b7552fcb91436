import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { inspect } from "./support/inside";
import { killAll, RunningUp } from "./support/running";

let checkout: Checkout;
const pgs = (...args: string[]) => checkout.pgs(args);
/** The outputs with all secrets. */
const outputs = async () => JSON.parse(await checkout.pulumi("stack", "output", "--json", "--show-secrets"));
const summaries = (output: string) =>
  [...output.matchAll(/pgs:index:PostgresServer\s+(\w+)/g)].map(([, id = ""]) => id);

beforeAll(async () => {
  checkout = await Checkout.create("tenants:\n  acme: {}\n  globex: {}\n");
  await checkout.up();
  await checkout.query("acme", "CREATE TABLE kept ()");
});
afterAll(() => checkout?.remove());

test("an edit's up is of its tenant alone, and leaves the outputs as a whole one would", async () => {
  const before = await outputs();
  const { code, output } = await pgs("set", "acme", "cpus", "0.5", "--verbose");
  expect(code, output).toBe(0);
  expect(new Set(summaries(output))).toEqual(new Set(["acme"]));
  const after = await outputs();
  before.tenants.acme.cpus = 0.5;
  expect({ ...after, digest: undefined }).toEqual({ ...before, digest: undefined });
  expect(after.digest.stack).toBe(before.digest.stack);
  expect(after.digest.tenants.globex).toBe(before.digest.tenants.globex);
  expect(after.digest.tenants.acme).not.toBe(before.digest.tenants.acme);
  await checkout.up();
  expect(await outputs()).toEqual(after);
  const shown = JSON.parse(await checkout.pulumi("stack", "output", "--json"));
  expect(shown).toMatchObject({ digest: "[secret]", connectionStrings: "[secret]" });
});

test("a password of one's own for a new tenant leaves the up limited to it", async () => {
  const made = await run("./pgs", ["create", "hooli", "--yes", "--verbose", "--password", "-"], {
    ...checkout.options(),
    stdin: "my own\n",
  });
  expect(made.code, made.output).toBe(0);
  expect(new Set(summaries(made.output))).toEqual(new Set(["hooli"]));
  await checkout.query("acme", "SELECT * FROM kept");
});

test("PGS_LIMITED_TO with ids alone, or with a digest of another stack, set by hand, takes no tenant away", async () => {
  const options = checkout.options();
  for (const variable of ["acme", `acme:${"0".repeat(64)}`]) {
    const wrong = { ...options, env: { ...options.env, PGS_LIMITED_TO: variable } };
    const { code, output } = await run(
      "pulumi",
      ["up", "--yes", "--skip-preview", "--non-interactive"],
      wrong,
    );
    expect(code, variable).not.toBe(0);
    expect(output).toContain("PGS_LIMITED_TO does not fit this stack's configuration and tenants");
    expect(output).not.toMatch(/delet/);
    await checkout.query("globex", "SELECT 1");
  }
  // It left nothing in the state.
  await checkout.pulumi("preview", "--expect-no-changes");
});

const withBad = "tenants:\n  acme: { cpus: 0.5 }\n  globex: {}\n  bad: { init: [bad.sql] }\n";

test("a tenant that fails keeps no other's change from being made, a removal included", async () => {
  checkout.write("bad.sql", "SELECT no_such_function();\n");
  checkout.write("tenants.yaml", withBad.replace("globex: {}", "globex: { cpus: 0.4 }"));
  const { code, stdout, stderr } = await pgs("up");
  expect(code).toBe(1);
  expect(stdout).toMatch(/^✗ bad +failed/m);
  expect(stdout).toMatch(/^✓ globex +changed/m);
  expect(stdout).toMatch(/^✓ hooli +removed .* The data of hooli stays/m);
  expect(stderr).toMatch(/^bad failed; applying the changes of the others\.$/m);
  expect(stderr.match(/init script bad\.sql failed/g)).toHaveLength(1);
  expect(await succeed("docker", ["ps", "--all", "--format", "{{.Names}}"])).not.toContain(
    checkout.name("hooli"),
  );
  const [list, connect, doctor] = await Promise.all([
    pgs("list"),
    pgs("connect", "bad"),
    pgs("doctor", "--quick", "--json"),
  ]);
  expect(list.stdout).toMatch(/^bad .* incomplete /m);
  expect(connect.stderr).toMatch(/^bad is not complete/);
  expect(doctor.code).toBe(1);
  expect(JSON.parse(doctor.stdout).filter(({ level }: { level: string }) => level === "problem")).toEqual([
    {
      check: "server",
      level: "problem",
      tenant: "bad",
      message: expect.stringContaining("not complete"),
      advice: expect.stringContaining("./pgs up"),
    },
  ]);
});

test.each([
  ["before the changes of the others", 0, 0.2],
  ["during the changes of the others", 3000, 0.3],
])("Ctrl-C %s says what is missing, and the next up makes it", async (_, delay, cpus) => {
  checkout.write("tenants.yaml", withBad.replace("globex: {}", `globex: { cpus: ${cpus} }`));
  const { env } = checkout.options();
  // A terminal sends it to the command and to all that the command runs.
  const up = spawn("bash", ["-c", "exec ./pgs up"], { cwd: checkout.folder, env, detached: true });
  let output = "";
  up.stdout.on("data", (text) => {
    output += text;
  });
  up.stderr.on("data", (text) => {
    output += text;
    if (!/applying the changes of the others/.test(String(text))) return;
    setTimeout(() => process.kill(-(up.pid ?? 0), "SIGINT"), delay);
  });
  const [code, signal] = await once(up, "close");
  expect(code === 0 || signal === "SIGKILL", output).toBe(false);
  if (code !== 1) expect(signal).toBe("SIGINT");
  const next = await pgs("up");
  expect(next.output).not.toMatch(/locked|Waiting for/);
  expect(next.stdout).toMatch(/^✗ bad +failed/m);
  expect((await inspect(checkout.name("globex"))).HostConfig.NanoCpus).toBe(cpus * 1e9);
});

test("an edit that fails says how to take it back, which helps; one that only meets another's failure is made", async () => {
  const made = await pgs("set", "acme", "cpus", "0.9");
  expect(made.code).toBe(1);
  expect(made.stdout).toMatch(/^✓ acme +changed/m);
  expect(made.output).not.toContain("To take it back");
  checkout.write("tenants.yaml", "tenants:\n  acme: { cpus: 0.9 }\n  globex: {}\n");
  await checkout.up();

  const wrong = await pgs("set", "globex", "settings.timezone", "Nowhere/Land");
  expect(wrong.code).not.toBe(0);
  expect(wrong.stdout).toMatch(/^[+-].*globex/m);
  expect(wrong.stderr).toMatch(/To take it back, reverse the lines shown above for globex, then \.\/pgs up/);
  checkout.write("tenants.yaml", "tenants:\n  acme: { cpus: 0.9 }\n  globex: {}\n");
  expect((await pgs("up")).code).toBe(0);
  await checkout.pulumi("preview", "--expect-no-changes");
});

test("after an up that failed, the edit of another tenant is a whole up", async () => {
  expect((await checkout.tryApply(withBad)).code).not.toBe(0);
  const failed = await pgs("set", "acme", "cpus", "0.6", "--verbose");
  expect(failed.code).not.toBe(0);
  expect(summaries(failed.output)).toContain("bad");

  expect((await checkout.tryApply(withBad, "--continue-on-error")).code).not.toBe(0);
  const again = await pgs("set", "acme", "cpus", "0.7", "--verbose");
  expect(again.code).not.toBe(0);
  expect(summaries(again.output)).toContain("bad");

  await checkout.apply("tenants:\n  acme: { cpus: 0.7 }\n  globex: {}\n");
  const { code, output } = await pgs("set", "acme", "cpus", "0.8", "--verbose");
  expect(code, output).toBe(0);
  expect(new Set(summaries(output))).toEqual(new Set(["acme"]));
});

test("with another prefix pending, the edit of one tenant is a whole up, and every tenant is there after it", async () => {
  await checkout.pulumi("config", "set", "pgs:prefix", `${checkout.prefix}-b`);
  const { code, output } = await pgs("set", "acme", "memory", "300Mi", "--verbose");
  expect(code, output).toBe(0);
  expect(await checkout.query("acme", "SELECT * FROM kept")).toEqual([]);
  await checkout.query("globex", "SELECT 1");
  await checkout.pulumi("preview", "--expect-no-changes");
  const names = (await succeed("docker", ["ps", "--format", "{{.Names}}"])).split("\n");
  expect(names.filter((name) => name.startsWith(`${checkout.prefix}-`)).sort()).toEqual(
    ["-cancel", "acme", "globex", "proxy"].map((name) => `${checkout.prefix}-b-${name}`),
  );
});

describe("another prefix that does not take hold, and is taken back: the next up converges on what was there,", () => {
  const usePrefix = (end: string) =>
    checkout.pulumi("config", "set", "pgs:prefix", `${checkout.prefix}-${end}`);
  const present = async (...list: string[]) =>
    (await succeed("docker", list)).split("\n").filter((name) => name.startsWith(`${checkout.prefix}-`));

  async function expectBack(): Promise<void> {
    expect(await checkout.query("acme", "SELECT * FROM kept")).toEqual([]);
    await checkout.query("globex", "SELECT 1");
    await checkout.pulumi("preview", "--expect-no-changes");
    const own = (names: string[]) => names.map((name) => `${checkout.prefix}-b-${name}`);
    const containers = await present("ps", "--all", "--format", "{{.Names}}");
    expect(containers.sort()).toEqual(own(["-cancel", "acme", "globex", "proxy"]));
    const networks = await present("network", "ls", "--format", "{{.Name}}");
    expect(networks.sort()).toEqual(own(["acme", "globex", "proxy"]));
  }

  test("after an up that was killed between the new network and the new container", async () => {
    await usePrefix("c");
    const up = new RunningUp(checkout);
    await eventually(400, async () => {
      expect(await present("network", "ls", "--format", "{{.Name}}")).toContain(`${checkout.prefix}-c-acme`);
    });
    killAll(up.descendants());
    up.kill();
    await up.ended;
    await checkout.tryPulumi("cancel", "--yes");
    await usePrefix("b");
    await checkout.up();
    const { stdout } = await pgs("doctor", "--quick");
    for (const [, command = ""] of stdout.matchAll(/while no up runs: docker (.*)/g)) {
      await succeed("docker", command.split(" "));
    }
    await expectBack();
  });

  test("after an up that failed for one tenant, and made the others", async () => {
    await usePrefix("c");
    expect((await checkout.tryApply(withBad)).code).not.toBe(0);
    expect(await present("ps", "--format", "{{.Names}}")).toContain(`${checkout.prefix}-c-acme`);
    await usePrefix("b");
    await checkout.apply("tenants:\n  acme: { memory: 300Mi }\n  globex: {}\n");
    await expectBack();
  });
});
