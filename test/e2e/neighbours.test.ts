import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { Checkout, withBackups } from "./support/checkout";
import { ClientLoad } from "./support/client-load";
import { eventually, succeed } from "./support/command";

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
    await eventually(60, async () => {
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

describe("a tenant that fills its disk budget", () => {
  const budget = (disk: string) =>
    stringify({
      defaults: { memory: "128Mi" },
      tenants: { acme: {}, full: { disk, cpus: 2, memory: "256Mi", backup: { schedule: "off" } } },
    });
  let load: ClientLoad;
  let begun: Record<string, unknown>[];

  const started = () => checkout.query("full", "SELECT pg_postmaster_start_time()::text AS at");
  const insert = (rows: number) =>
    `INSERT INTO filler SELECT repeat('x', 1000000) FROM generate_series(1, ${rows})`;
  const writable = () => eventually(30, () => checkout.query("full", insert(1)));
  const disk = async () => {
    const all = JSON.parse((await checkout.pgs(["list", "--usage", "--json"])).stdout);
    return all.find(({ id }: { id: string }) => id === "full").disk;
  };
  /** Until the server refuses it. @returns why */
  async function fill(session = ""): Promise<string> {
    for (let megabytes = 0; megabytes < 2000; megabytes += 20) {
      const refused = await checkout
        .query("full", `${session} ${insert(20)}; COMMIT`)
        .catch(({ message }) => message);
      if (typeof refused === "string") return refused;
    }
    return "";
  }

  beforeAll(async () => {
    await checkout.apply(budget("512Mi"));
    load = await ClientLoad.start(await checkout.clientConfig("acme"), { sessions: 2, newcomers: 1 });
    await checkout.query("full", "CREATE TABLE filler (x text STORAGE EXTERNAL)");
    begun = await started();
  });
  afterAll(() => load?.stop());

  test("becomes read-only before it has used it up, which is no drift", async () => {
    expect(await fill()).toMatch(/in a read-only transaction|canceling statement due to user request/);
    await eventually(60, async () => expect((await disk()).readOnly).toBe(true));
    const { used, limit } = await disk();
    expect(limit).toBe(512 * 2 ** 20);
    // A checkpoint may have given some back meanwhile.
    expect(used).toBeGreaterThan(0.9 * limit);
    await expect(checkout.query("full", insert(1))).rejects.toThrow(/read-only transaction/);
    expect(await started()).toEqual(begun);
    expect(await checkout.query("full", "SELECT current_setting('pgs.read_only') AS why")).toEqual([
      { why: "budget" },
    ]);
    await checkout.pulumi("preview", "--refresh", "--expect-no-changes");
    const { code, stdout } = await checkout.pgs(["doctor", "--quick"]);
    expect(stdout).toMatch(/✗ disk +full: its sessions are read-only: its disk budget is used up/);
    expect(code).toBe(1);
  });

  test("is so after a restart, and writes within seconds of a larger budget", async () => {
    await succeed("docker", ["restart", checkout.name("full")]);
    await eventually(60, () =>
      expect(checkout.query("full", insert(1))).rejects.toThrow(/read-only transaction/),
    );
    begun = await started();
    await checkout.apply(budget("1Gi"));
    const raised = performance.now();
    await writable();
    console.log(
      `disk: writable ${((performance.now() - raised) / 1000).toFixed(1)} s after the up that raised its budget`,
    );
    expect(await started()).toEqual(begun);
  });

  test("is told what a smaller budget does, and makes room by itself", async () => {
    await checkout.query("full", insert(80));
    checkout.write("tenants.yaml", budget("512Mi"));
    expect((await checkout.pgs(["preview"])).stdout).toMatch(
      /becomes read-only at once: it uses \d+Mi, .* 512Mi/,
    );
    await checkout.up();
    await eventually(90, () =>
      expect(checkout.query("full", insert(1))).rejects.toThrow(/read-only transaction/),
    );
    const session = await checkout.client("full");
    await session.query("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE");
    // What writes in the moment in which it becomes read-only is cancelled.
    await eventually(60, () => session.query("DELETE FROM filler"));
    await session.query("VACUUM filler");
    await session.end();
    await writable();
    await eventually(60, async () => expect(await disk()).toMatchObject({ readOnly: false }));
  });

  test("that overrides it is cancelled a fifth later, and no neighbour has noticed", async () => {
    const override = "BEGIN READ WRITE;";
    expect(await fill(override)).toMatch(/canceling statement due to user request|terminating connection/);
    expect(await started()).toEqual(begun);
    await load.stop();
    expect(load.counts.queries).toBeGreaterThan(100);
    expect(load.failures).toEqual([]);
  });
});
