import { afterAll, beforeAll, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { succeed } from "./support/command";
import { addressOf, inspectNetworks } from "./support/inside";

/** A tenant that is stopped keeps its network: 100 of them without 100 servers. */
const ids = Array.from({ length: 100 }, (_, index) => `t${index}`);
const running = ["t0", "t99"];
const tenants = ids
  .map((id) => `  ${id}: { state: ${running.includes(id) ? "running" : "stopped"}, memory: 128Mi }\n`)
  .join("");

let checkout: Checkout;

beforeAll(async () => {
  checkout = await Checkout.create(`tenants:\n${tenants}`);
  // The checkpoint of 400 resources, written at every step, would be most of the time.
  checkout.env.PULUMI_SKIP_CHECKPOINTS = "true";
});
afterAll(() => checkout?.remove(), 600_000);

test("100 tenants have 100 networks on one host, with the engine's address pools as they are", async () => {
  const started = performance.now();
  await checkout.up();
  console.log(
    `100 tenants, 98 of them stopped: up took ${Math.round((performance.now() - started) / 1000)} s`,
  );
  const names = (await succeed("docker", ["network", "ls", "--format", "{{.Name}}"])).split("\n");
  expect(ids.filter((id) => !names.includes(checkout.name(id)))).toEqual([]);
  const networks = await inspectNetworks(ids.map((id) => checkout.name(id)));
  expect(networks.filter((network) => !network.Internal)).toEqual([]);
  const subnets = new Set(networks.map((network) => network.IPAM.Config[0]?.Subnet));
  expect(subnets.size).toBe(100);
});

test("the proxy is attached to each of them", async () => {
  const networks = await inspectNetworks(ids.map((id) => checkout.name(id)));
  const attached = networks.map((network) => Object.values(network.Containers).map(({ Name }) => Name));
  expect(attached.filter((containers) => !containers.includes(checkout.name("proxy")))).toEqual([]);
});

test("those that run log in, and hold only their own server and the proxy", async () => {
  for (const id of running) {
    expect(await checkout.query(id, "SELECT current_database() AS name")).toEqual([{ name: id }]);
    const [network] = await inspectNetworks([checkout.name(id)]);
    const names = Object.values(network?.Containers ?? {}).map(({ Name }) => Name);
    expect(names.sort()).toEqual([checkout.name("proxy"), checkout.name(id)].sort());
    expect(await addressOf(checkout.name("proxy"), checkout.name(id))).not.toBe("");
  }
});

test("nothing is left to change", async () => {
  await checkout.pulumi("preview", "--expect-no-changes");
});
