import Docker from "dockerode";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Checkout, withBackups } from "./support/checkout";
import { eventually, succeed } from "./support/command";

interface Resource {
  urn: string;
  type: string;
  id?: string;
  parent?: string;
  dependencies?: string[];
  inputs: Record<string, unknown>;
  outputs: Record<string, unknown>;
}

let checkout: Checkout;
const inBarman = (...command: string[]) =>
  succeed("docker", ["exec", checkout.name("-backups"), "bash", "-c", ...command]);

beforeAll(async () => {
  checkout = await Checkout.create("tenants: { acme: {}, globex: {} }\n", withBackups);
  await checkout.up();
});
afterAll(() => checkout?.remove());

test("a stack whose containers, routes and backups were resources of their own goes on with its data", async () => {
  await checkout.query("acme", "CREATE TABLE kept AS SELECT 1 AS n");
  const containers: Record<string, string> = {};
  for (const id of ["acme", "globex"]) {
    await asBefore(id);
    containers[id] = await containerAsBefore(id);
  }
  await checkout.pulumi("stack", "import", "--file", await stateAsBefore(containers));
  const plan = await checkout.pulumi("preview");
  expect(plan).toContain(`${checkout.name("acme")} is restarted once: its container is made anew`);

  const output = await checkout.apply("tenants: { acme: {} }\n");
  expect(output).toMatch(/^ ~ {2}pgs:index:PostgresServer acme updated/m);
  expect(await checkout.query("acme", "SELECT n FROM kept")).toEqual([{ n: 1 }]);
  const log = await succeed("docker", ["logs", checkout.name("acme")]);
  expect(log).not.toMatch(/not properly shut down|recovery/);
  expect(await succeed("docker", ["ps", "--all", "--format", "{{.Names}}"])).not.toMatch(/_former|_new/);
  expect((await files()).filter((name) => /acme|globex/.test(name))).toEqual(["route-acme.yml"]);
  expect(await inBarman("cat /var/lib/barman/servers.d/tenant-acme.conf")).not.toContain("active = false");
  // It was removed in the same `up`.
  expect(await inBarman("cat /var/lib/barman/servers.d/tenant-globex.conf")).toContain("active = false");
  await checkout.query("acme", "CREATE TABLE written AS SELECT 1; SELECT pg_switch_wal()");
  await eventually(60, async () =>
    expect(await inBarman("pgs-backups status")).toMatch(/"acme".*"behind":0,/),
  );
  await checkout.up("--expect-no-changes");
});

const folder = "/etc/traefik/dynamic";

async function files(): Promise<string[]> {
  return (await succeed("docker", ["exec", checkout.name("proxy"), "ls", folder])).trim().split("\n");
}

/** Its files as they were written then. */
async function asBefore(id: string): Promise<void> {
  const move = ["mv", `${folder}/route-${id}.yml`, `${folder}/tenant-${id}.yml`];
  await succeed("docker", ["exec", checkout.name("proxy"), ...move]);
  await inBarman(`sed -i '/^; part of PostgresServer/d' /var/lib/barman/servers.d/tenant-${id}.conf`);
}

/** Its container as the Docker provider made it. @returns its id */
async function containerAsBefore(id: string): Promise<string> {
  const docker = new Docker();
  const container = docker.getContainer(checkout.name(id));
  const { Config, HostConfig } = await container.inspect();
  await container.stop({ t: 60 });
  await container.remove();
  const Labels = without(Config.Labels, ["pgs.made"]) as Record<string, string>;
  const made = await docker.createContainer({ ...Config, HostConfig, Labels, name: checkout.name(id) });
  await made.start();
  return made.id;
}

/**
 * @param containers their ids by tenant
 * @returns the file with the stack's state as it was written then
 */
async function stateAsBefore(containers: Record<string, string>): Promise<string> {
  const state = JSON.parse(await checkout.pulumi("stack", "export"));
  const resources: Resource[] = state.deployment.resources;
  const another = resources.find(({ type }) => type === "docker:index/container:Container") as Resource;
  state.deployment.resources = resources.flatMap((one) => {
    if (one.type !== "pgs:index:PostgresServer") return [one];
    const { backup, route } = one.inputs;
    const id = one.inputs.database as string;
    const containerId = containers[id];
    const inputs: Record<string, unknown> = { ...without(one.inputs, added), containerId };
    const outputs = { ...without(one.outputs, added), containerId };
    const { content, container } = route as { content: string; container: string };
    const file = { container, path: `${folder}/tenant-${id}.yml`, content };
    const kept = {
      ...(backup as object),
      tenant: id,
      server: inputs.container,
      serverId: containerId,
      network: inputs.network,
      password: inputs.barmanPassword,
    };
    const part = (type: string, dependencies: string[], fields: Record<string, unknown>) => ({
      ...one,
      urn: one.urn.replace("PostgresServer", type),
      type: `pgs:index:${type}`,
      id: `former-${type}-${id}`,
      dependencies,
      propertyDependencies: {},
      inputs: fields,
      outputs: fields,
    });
    const urn = one.urn.replace("pgs:index:PostgresServer", "docker:index/container:Container");
    const network = one.urn.replace("PostgresServer", "Network");
    return [
      {
        ...another,
        urn,
        parent: one.parent,
        id: containerId,
        outputs: { ...another.outputs, id: containerId },
        dependencies: [network],
        propertyDependencies: {},
      },
      part("TraefikFile", [], file),
      { ...one, inputs, outputs, dependencies: [...(one.dependencies ?? []), urn] },
      part("Backup", [one.urn], kept),
    ];
  });
  checkout.write("state-as-before.json", JSON.stringify(state));
  return "state-as-before.json";
}

/** What a PostgresServer has now, and had not then. */
const added = ["adopted", "backup", "definition", "farewell", "image", "route", "stack", "state"];

function without<T>(fields: Record<string, T>, names: string[]): Record<string, T> {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));
}
