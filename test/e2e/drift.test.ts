import { afterAll, beforeAll, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { eventually, succeed } from "./support/command";

const ids = [
  "removed",
  "stopped",
  "paused",
  "renamed",
  "detached",
  "netless",
  "apart",
  "rerouted",
  "changed",
  "still",
] as const;

let checkout: Checkout;
let starts: string;
beforeAll(async () => {
  checkout = await Checkout.create(
    `defaults: { memory: 256Mi, settings: { work_mem: 5MB } }
tenants:
${ids.map((id) => `  ${id}: { init: [init/row.sql] }`).join("\n")}
`,
  );
  checkout.write("init/row.sql", "CREATE TABLE kept AS SELECT current_database() AS tenant;");
  await checkout.up();
  starts = await startOf("still");
});
afterAll(() => checkout?.remove());

const docker = (...args: string[]) => succeed("docker", args);
const inspect = async (name: string, format: string) =>
  (await docker("inspect", "--format", format, name)).trim();
const startOf = (id: string) => inspect(checkout.name(id), "{{.State.StartedAt}}");
const asSuperuser = (id: string, sql: string) =>
  docker("exec", checkout.name(id), "psql", "-U", "postgres", "-c", sql);
const fromTemplate = (id: string, sql: string) =>
  docker("exec", checkout.name(id), "psql", "-U", "postgres", "-d", "template1", "-c", sql);
const routeFile = (id: string) => `/etc/traefik/dynamic/route-${id}.yml`;

/** They log in by the public port and have their rows. */
async function expectLogins(tenants: readonly string[]): Promise<void> {
  for (const id of tenants) {
    await eventually(60, async () => {
      expect(await checkout.query(id, "SELECT * FROM kept")).toEqual([{ tenant: id }]);
    });
  }
}

async function expectAllWell(): Promise<void> {
  await expectLogins(ids);
  await checkout.pulumi("preview", "--expect-no-changes");
}

test("an up notices what was done to tenants by hand, and puts all of it right at once", async () => {
  await docker("rm", "--force", checkout.name("removed"));
  await docker("stop", checkout.name("stopped"));
  await docker("pause", checkout.name("paused"));
  await docker("rename", checkout.name("renamed"), checkout.name("otherwise"));
  await remakeWithoutVolume("detached");
  await docker("network", "disconnect", "--force", checkout.name("netless"), checkout.name("netless"));
  await docker("network", "disconnect", "--force", checkout.name("netless"), checkout.name("proxy"));
  await docker("network", "rm", checkout.name("netless"));
  await docker("network", "disconnect", checkout.name("apart"), checkout.name("apart"));
  await docker("exec", checkout.name("proxy"), "rm", routeFile("rerouted"));
  await docker("exec", checkout.name("proxy"), "sh", "-c", `echo '# nothing' >${routeFile("changed")}`);
  await asSuperuser("changed", "ALTER ROLE postgres PASSWORD 'mine'");
  await asSuperuser("changed", "ALTER SYSTEM SET work_mem = '1MB'");
  await docker(
    "update",
    "--memory",
    "300m",
    "--memory-swap",
    "300m",
    "--cpus",
    "0.5",
    "--restart",
    "no",
    checkout.name("changed"),
  );
  await fromTemplate("rerouted", "DROP DATABASE postgres");
  await fromTemplate("changed", "ALTER DATABASE postgres ALLOW_CONNECTIONS false");
  for (const id of ids.filter((id) => id !== "still" && id !== "paused")) {
    await expect(checkout.query(id, "SELECT 1"), id).rejects.toThrow();
  }
  expect((await checkout.tryPulumi("preview", "--expect-no-changes")).code).not.toBe(0);

  const up = await checkout.tryUp();
  expect(up.output).not.toMatch(/error:/);
  expect(up.code).toBe(0);
  console.log(
    `drift: fifteen changes by hand on nine tenants put right by one up in ${up.seconds.toFixed(1)} s`,
  );
  await expectAllWell();
  const limits = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.RestartPolicy.Name}}";
  expect(await inspect(checkout.name("changed"), limits)).toBe(
    `${256 * 1024 * 1024} 1000000000 unless-stopped`,
  );
  expect(await checkout.query("changed", "SHOW work_mem")).toEqual([{ work_mem: "5MB" }]);
});

test("a tenant may drop the database postgres: preview sees it, the up makes it again and restarts nothing", async () => {
  await fromTemplate("still", "DROP DATABASE postgres");
  expect((await checkout.tryPulumi("preview", "--diff", "--expect-no-changes")).code).not.toBe(0);
  await checkout.up();
  await asSuperuser("still", "SELECT 1");
  await asSuperuser("rerouted", "SELECT 1");
  await checkout.pulumi("preview", "--expect-no-changes");
});

test("and leaves alone the tenant that nobody touched", async () => {
  expect(await startOf("still")).toBe(starts);
});

test("a server that joined its network again finds it after a restart as well", async () => {
  for (const id of ["netless", "apart"]) await docker("restart", checkout.name(id));
  await expectLogins(["netless", "apart"]);
});

test("a container of the same name that the stack did not make is not touched, and the up says which it is", async () => {
  await docker("rm", "--force", checkout.name("removed"));
  const foreign = await docker(
    "run",
    "--detach",
    "--network",
    "none",
    "--name",
    checkout.name("removed"),
    "--env",
    "POSTGRES_PASSWORD=x",
    "postgres:18.6-bookworm",
  );
  const up = await checkout.tryUp();
  expect(up.code).not.toBe(0);
  expect(up.output).toContain(
    `the container ${checkout.name("removed")} on the Docker host was not made by pgs`,
  );
  expect(await inspect(checkout.name("removed"), "{{.Id}} {{.State.Running}}")).toBe(
    `${foreign.trim()} true`,
  );
  await docker("rm", "--force", "--volumes", checkout.name("removed"));
  await checkout.up();
  await expectAllWell();
});

test.each([
  ["stopped", () => docker("stop", checkout.name("proxy"))],
  [
    "taken out of its own network",
    () => docker("network", "disconnect", checkout.name("proxy"), checkout.name("proxy")),
  ],
  ["removed", () => docker("rm", "--force", checkout.name("proxy"))],
  [
    "removed with its network",
    async () => {
      await docker("rm", "--force", checkout.name("proxy"), checkout.name("-cancel"));
      await docker("network", "rm", checkout.name("proxy"));
    },
  ],
])("a proxy that was %s is back after an up", async (what, sabotage) => {
  await sabotage();
  await expect(checkout.query("still", "SELECT 1")).rejects.toThrow();
  const up = await checkout.tryUp();
  expect(up.output).not.toMatch(/error:/);
  expect(up.code).toBe(0);
  console.log(`drift: proxy ${what}: put right in ${up.seconds.toFixed(1)} s`);
  await expectAllWell();
  expect(await startOf("still")).toBe(starts);
});

test("a volume that is gone is not made anew in silence: the up names it, and goes on when somebody has made it", async () => {
  await docker("rm", "--force", checkout.name("proxy"), checkout.name("-cancel"));
  await docker("volume", "rm", checkout.name("proxy"));
  const up = await checkout.tryUp();
  expect(up.code).not.toBe(0);
  expect(up.output).toContain(`No such volume: ${checkout.name("proxy")}`);
  await docker("volume", "create", checkout.name("proxy"));
  await checkout.up();
  await expectAllWell();
});

/** As a tool does that makes a container anew from its own notes: same name, network and labels, no volume. */
async function remakeWithoutVolume(id: string): Promise<void> {
  const name = checkout.name(id);
  const mark = await inspect(name, '{{index .Config.Labels "pgs.stack"}}');
  await docker("rm", "--force", name);
  await docker(
    "run",
    "--detach",
    "--name",
    name,
    "--network",
    name,
    "--label",
    `pgs.stack=${mark}`,
    "--env",
    "POSTGRES_PASSWORD=x",
    "postgres:18.6-bookworm",
  );
}
