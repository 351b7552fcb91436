import { afterAll, beforeAll, expect, test } from "vitest";
import { stringify } from "yaml";
import { Checkout, withBackups } from "./support/checkout";
import { ClientLoad } from "./support/client-load";
import { eventually } from "./support/command";

type Entry = Record<string, unknown>;

/** A tenant's life: each step is one change of the entry before it, and the last leads back to the first. */
const life: [change: string, entry: (id: string) => Entry | undefined][] = [
  ["add", () => ({})],
  ["access off", () => ({ access: false })],
  ["access on", () => ({})],
  ["stop", () => ({ state: "stopped" })],
  ["start", () => ({})],
  ["password", () => ({ passwordVersion: 2 })],
  ["memory", () => ({ passwordVersion: 2, memory: "192Mi" })],
  ["cpus", () => ({ passwordVersion: 2, memory: "192Mi", cpus: 0.5 })],
  ["setting", () => ({ passwordVersion: 2, cpus: 0.5, memory: "192Mi", settings: { work_mem: "8MB" } })],
  ["setting with a restart", () => ({ cpus: 0.5, passwordVersion: 2, settings: { max_connections: 30 } })],
  ["hostname", (id) => ({ hostname: `${id}-new`, settings: { max_connections: 30 } })],
  ["remove", () => undefined],
];

/** Each of the others is at another step of its life, so that one `up` brings changes of many kinds. */
const others = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];
const stepOf = (tenant: number, round: number) => (tenant * 3 + round) % life.length;

function tenantsFile(round: number): string {
  const entries: Record<string, Entry> = { acme: {} };
  others.forEach((id, tenant) => {
    const entry = life[stepOf(tenant, round)]?.[1](id);
    if (entry) entries[id] = entry;
  });
  return stringify({ defaults: { memory: "128Mi" }, tenants: entries });
}

let checkout: Checkout;
beforeAll(async () => {
  checkout = await Checkout.create(tenantsFile(0), withBackups);
  await checkout.up();
});
afterAll(() => checkout?.remove());

test("fifty changes of other tenants fail no query, drop no session and refuse no connection", async () => {
  const rounds = 7;
  const load = await ClientLoad.start(await checkout.clientConfig("acme"), { sessions: 5, newcomers: 2 });
  const changes: string[] = [];
  const seconds: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    const started = performance.now();
    await checkout.apply(tenantsFile(round));
    seconds.push((performance.now() - started) / 1000);
    changes.push(...others.map((_, tenant) => life[stepOf(tenant, round)]?.[0] ?? ""));
    expect(load.failures).toEqual([]);
    // The clients are still at work: a silence would hide what they fail to do.
    const { queries, connections } = load.counts;
    await eventually(10, async () => {
      expect(load.counts.queries).toBeGreaterThan(queries);
      expect(load.counts.connections).toBeGreaterThan(connections);
    });
  }
  await load.stop();

  const { counts, failures } = load;
  console.log(
    `neighbours: ${changes.length} changes of other tenants in ${rounds} ups (${seconds.map((s) => s.toFixed(0)).join(", ")} s); ` +
      `${counts.sessions} open sessions asked ${counts.queries} queries (slowest ${counts.slowestQuery.toFixed(2)} s), ` +
      `${counts.connections} new connections (slowest ${counts.slowestConnection.toFixed(2)} s), ${failures.length} failures`,
  );
  expect(failures).toEqual([]);
  expect(changes.length).toBeGreaterThanOrEqual(50);
  expect(new Set(changes)).toEqual(new Set(life.map(([change]) => change)));
});

test("and what was changed is in force for those others", async () => {
  const tenants = await checkout.tenants();
  expect(Object.keys(tenants).sort()).toEqual(
    ["acme", ...others.filter((_, tenant) => life[stepOf(tenant, 7)]?.[0] !== "remove")].sort(),
  );
  for (const [id, { access, state }] of Object.entries(tenants)) {
    const answer = checkout.query(id, "SELECT current_database() AS name");
    if (access && state === "running") expect(await answer).toEqual([{ name: id }]);
    else await expect(answer).rejects.toThrow();
  }
});
