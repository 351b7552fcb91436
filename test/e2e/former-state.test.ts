import { afterAll, beforeAll, expect, test } from "vitest";
import { Checkout, withBackups } from "./support/checkout";
import { eventually, succeed } from "./support/command";

interface Resource {
  urn: string;
  type: string;
  id?: string;
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

test("a stack whose routes and backups were resources of their own goes on as it is", async () => {
  for (const id of ["acme", "globex"]) await asBefore(id);
  await checkout.pulumi("stack", "import", "--file", await stateAsBefore());
  const session = await checkout.client("acme");

  const output = await checkout.apply("tenants: { acme: {} }\n");
  expect(output).toMatch(/^ ~ {2}pgs:index:PostgresServer acme updated/m);
  await session.query("SELECT 1");
  await session.end();
  await checkout.query("acme", "SELECT 1");
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

/** @returns the file with the stack's state as it was written then */
async function stateAsBefore(): Promise<string> {
  const state = JSON.parse(await checkout.pulumi("stack", "export"));
  const resources: Resource[] = state.deployment.resources;
  state.deployment.resources = resources.flatMap((one) => {
    if (one.type !== "pgs:index:PostgresServer") return [one];
    const { backup, route } = one.inputs;
    const [inputs, outputs] = [without(one.inputs), without(one.outputs)];
    const { content, container } = route as { content: string; container: string };
    const id = inputs.database as string;
    const file = { container, path: `${folder}/tenant-${id}.yml`, content };
    const kept = {
      ...(backup as object),
      tenant: id,
      server: inputs.container,
      serverId: inputs.containerId,
      network: inputs.network,
      password: inputs.barmanPassword,
    };
    const part = (type: string, dependencies: string[], fields: object) => ({
      ...one,
      urn: one.urn.replace("PostgresServer", type),
      type: `pgs:index:${type}`,
      id: `former-${type}-${id}`,
      dependencies,
      propertyDependencies: {},
      inputs: fields,
      outputs: fields,
    });
    return [part("TraefikFile", [], file), { ...one, inputs, outputs }, part("Backup", [one.urn], kept)];
  });
  checkout.write("state-as-before.json", JSON.stringify(state));
  return "state-as-before.json";
}

function without(fields: Record<string, unknown>): Record<string, unknown> {
  const parts = ["backup", "farewell", "route"];
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !parts.includes(name)));
}
