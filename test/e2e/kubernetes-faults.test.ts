import type { ClientConfig } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Checkout, rowsOf } from "./support/checkout";
import { ClientLoad } from "./support/client-load";
import { TestCluster } from "./support/cluster";
import { eventually } from "./support/command";
import { SeededRandom } from "./support/random";
import { converge, type Descendant, killAll, RunningUp } from "./support/running";
import { Writer } from "./support/writer";

/** PGS_TEST_SEED=NUMBER repeats the faults, their order, and the moments of the kills. */
const seed = Number(process.env.PGS_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
console.log(`kubernetes-faults: PGS_TEST_SEED=${seed}`);

const defaults = "defaults: { memory: 256Mi, cpus: 0.2, disk: 1Gi }\n";

let cluster: TestCluster;
let checkout: Checkout;
let addresses: string[];
/** The last of three nodes. It is cut off: operator, DNS and a tenant without replicas are on the others. */
let last: Node;

interface Node {
  name: string;
  address: string;
}

beforeAll(async () => {
  cluster = await TestCluster.start(3);
  const all = await nodes();
  addresses = all.map(({ address }) => address);
  last = all.at(-1) as Node;
  await cluster.kubectl("cordon", last.name);
  await restart("kube-system", "coredns");
  checkout = await Checkout.create(`${defaults}tenants: { globex: {} }\n`, cluster.config);
  checkout.write("init/one.sql", "CREATE TABLE ran (n int); INSERT INTO ran VALUES (1); SELECT pg_sleep(1);");
  await checkout.up("--refresh");
}, 1_900_000);
afterAll(async () => {
  if (last) await cluster.kubectl("uncordon", last.name);
  await cluster?.remove(checkout);
  await checkout?.remove();
}, 300_000);

async function nodes(): Promise<Node[]> {
  const { items } = JSON.parse(await cluster.kubectl("get", "nodes", "-o", "json"));
  const named = items.map(({ metadata, status }: { metadata: { name: string }; status: Addresses }) => ({
    name: metadata.name,
    address: status.addresses.find(({ type }) => type === "InternalIP")?.address ?? "",
  }));
  return named.toSorted((a: Node, b: Node) => a.name.localeCompare(b.name));
}

interface Addresses {
  addresses: { type: string; address: string }[];
}

async function restart(inNamespace: string, deployment: string): Promise<void> {
  await cluster.kubectl("-n", inNamespace, "rollout", "restart", `deployment/${deployment}`);
  await cluster.kubectl("-n", inNamespace, "rollout", "status", `deployment/${deployment}`);
}

interface Pod {
  metadata: { name: string };
  spec: { nodeName: string };
  status: { hostIP: string; conditions?: { type: string; status: string }[] };
}

async function pods(inNamespace: string, selector: string): Promise<Pod[]> {
  return JSON.parse(await cluster.kubectl("-n", inNamespace, "get", "pods", "-l", selector, "-o", "json"))
    .items;
}

async function proxies(): Promise<Pod[]> {
  const all = await pods(checkout.name("proxy"), "app=traefik");
  return all.filter(({ status }) =>
    status.conditions?.some((one) => one.type === "Ready" && one.status === "True"),
  );
}

/** By a proxy that runs. */
async function configOf(id: string): Promise<ClientConfig> {
  const [proxy] = await proxies();
  return { ...(await checkout.clientConfig(id)), host: proxy?.status.hostIP };
}

describe("an up that is killed", () => {
  const random = new SeededRandom(seed);
  const victims = {
    cli: undefined,
    program: /@pulumi\/pulumi\/cmd\/run/,
    kubernetes: /pulumi-resource-kubernetes/,
    pgs: /provider\/main\.ts/,
  } as const;
  const kinds = Object.keys(victims) as (keyof typeof victims)[];
  const kills = Array.from({ length: 10 }, (_, index) => ({
    number: index + 1,
    kind: random.pick(kinds),
    percent: Math.floor(100 * random.next()),
  }));

  const orphans = new Set<Descendant>();
  afterAll(() => killAll(orphans));
  let writer: Writer;

  /** A tenant comes, another goes, and one that is written to changes. */
  function edit(number: number): void {
    const globex = `globex: { settings: { work_mem: ${4 + number}MB }, passwordVersion: ${1 + (number % 2)} }`;
    const fields = "{ init: [init/one.sql], onRemove: delete }";
    checkout.write("tenants.yaml", `${defaults}tenants: { ${globex}, t${number}: ${fields} }\n`);
  }

  /** How long an up takes that nothing cuts off: the kills are spread over as much. */
  let whole = 0;
  test("the run to be cut off brings a tenant with an init script and changes another", async () => {
    const plain = await configOf("globex");
    await rowsOf(plain, "CREATE TABLE written (n int PRIMARY KEY)");
    // By a role of its own, as the up changes the superuser's password.
    await rowsOf(plain, "CREATE ROLE writes LOGIN PASSWORD 'writes'; GRANT INSERT ON written TO writes");
    writer = new Writer({ ...plain, user: "writes", password: "writes" }, addresses);
    edit(0);
    const started = performance.now();
    await checkout.up("--refresh");
    whole = performance.now() - started;
  }, 600_000);

  test.each(kills)(
    "$number of 10, its $kind at $percent % of the time, or Pulumi where that does not run: the next up converges, and the one after it does nothing",
    async ({ number, kind, percent }) => {
      const moment = (whole * percent) / 100;
      edit(number);
      const up = new RunningUp(checkout, "--refresh");
      await new Promise((resolve) => setTimeout(resolve, moment));
      const below = up.descendants();
      for (const process of below) orphans.add(process);
      const found = below.filter(({ command }) => victims[kind]?.test(command));
      const wasRunning = up.isRunning;
      killAll(found);
      if (found.length === 0) up.kill();
      await up.ended;
      checkout.forgetOutputs();
      const seconds = await converge(checkout, "--refresh");
      await checkout.pulumi("preview", "--refresh", "--expect-no-changes");
      expect(await rowsOf(await configOf(`t${number}`), "SELECT n FROM ran")).toEqual([{ n: 1 }]);
      expect(await rowsOf(await configOf("globex"), "SHOW work_mem")).toEqual([
        { work_mem: `${4 + number}MB` },
      ]);
      console.log(
        `kubernetes-faults: kill ${number}: ${found.length > 0 ? kind : "cli"} after ${(moment / 1000).toFixed(1)} s, ${wasRunning ? "at work" : "too late"}; next up ${seconds.toFixed(1)} s`,
      );
    },
    900_000,
  );

  test("after all of them, all that was committed meanwhile is there, and the removed tenants' namespaces are not", async () => {
    await writer.stop();
    const rows = await rowsOf(await configOf("globex"), "SELECT n FROM written");
    const present = new Set(rows.map(({ n }) => n));
    expect(writer.committed.filter((n) => !present.has(n))).toEqual([]);
    expect(writer.committed.length).toBeGreaterThan(100);
    const left = (await cluster.kubectl("get", "namespaces", "-o", "name")).match(
      new RegExp(`${checkout.prefix}-t\\d+`, "g"),
    );
    expect(left).toEqual([checkout.name("t10")]);
    await checkout.apply(`${defaults}tenants: { globex: {} }\n`, "--refresh");
  }, 600_000);
});

describe("20 faults in random order", () => {
  /** A tenant, and the same Cluster made by kubectl alone. */
  const ids = ["acme", "plain"] as const;
  const kinds = {
    "the primary's pod is deleted": deletePrimary,
    "the primary's PostgreSQL is killed": killPostgres,
    "the primary's node is cut off": cutOffNode,
    "the operator is away for 10 s": stopOperator,
    "a proxy's pod is deleted": deleteProxy,
  };
  type Kind = keyof typeof kinds;
  const random = new SeededRandom(seed + 1);
  const faults = random
    .shuffled(Array.from({ length: 4 }, () => Object.keys(kinds) as Kind[]).flat())
    .map((kind, index) => ({ kind, number: index + 1 }));
  const pauses = Object.fromEntries(
    Object.keys(kinds).map((kind) => [kind, { acme: [] as number[], plain: [] as number[] }]),
  );
  const writers: Partial<Record<(typeof ids)[number], Writer>> = {};

  beforeAll(async () => {
    await cluster.kubectl("uncordon", last.name);
    await checkout.pulumi("config", "set", "--path", "pgs:kubernetes.proxyReplicas", "2");
    await checkout.apply(`${defaults}tenants: { globex: {}, acme: { replicas: 2 } }\n`, "--refresh");
    await createPlain();
    await eventually(600, expectHealthy);
    for (const id of ids) {
      await rowsOf(await login(id), "CREATE TABLE written (n int PRIMARY KEY)");
      writers[id] = new Writer(await login(id), addresses);
    }
  }, 900_000);
  afterAll(async () => {
    await cluster.network(last.name, "connect");
    await cluster.kubectl(...operator, "--replicas=1");
    for (const writer of Object.values(writers)) await writer.stop();
  });

  /** Name and password of both are acme's. */
  async function login(id: (typeof ids)[number]): Promise<ClientConfig> {
    const acme = await configOf("acme");
    return { ...acme, ssl: { ...Object(acme.ssl), servername: `${id}.pgs.localhost` } };
  }

  async function createPlain(): Promise<void> {
    const from = checkout.name("acme");
    const own = { namespace: checkout.name("plain") };
    const copy = async (kind: string, name: string, called = name) => {
      const { apiVersion, spec, data, type } = await cluster.get(kind, name, from);
      return { apiVersion, kind, metadata: { name: called, ...own }, spec, data, type };
    };
    const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
    await cluster.apply(
      { apiVersion: "v1", kind: "Namespace", metadata: { name: own.namespace, labels } },
      await copy("Secret", "acme-login"),
      await copy("NetworkPolicy", "tenant"),
      await copy("Cluster", "acme", "plain"),
    );
    const route = { name: "plain", namespace: checkout.name("proxy") };
    const service = await cluster.get("Service", "acme", route.namespace);
    const ingress = await cluster.get("IngressRouteTCP", "acme", route.namespace);
    const { type, ports } = service.spec;
    const externalName = `plain-rw.${own.namespace}.svc.cluster.local`;
    const routes = [{ match: "HostSNI(`plain.pgs.localhost`)", services: [{ name: "plain", port: 5432 }] }];
    await cluster.apply(
      { apiVersion: "v1", kind: "Service", metadata: route, spec: { type, ports, externalName } },
      {
        apiVersion: ingress.apiVersion,
        kind: ingress.kind,
        metadata: route,
        spec: { ...ingress.spec, routes },
      },
    );
  }

  async function status(id: string) {
    return (await cluster.get("cluster", id, checkout.name(id))).status;
  }

  async function expectHealthy(): Promise<void> {
    for (const id of ids) {
      const { phase, readyInstances, currentPrimary, targetPrimary } = await status(id);
      expect({ id, phase, readyInstances }).toEqual({
        id,
        phase: "Cluster in healthy state",
        readyInstances: 3,
      });
      expect(currentPrimary).toBe(targetPrimary);
    }
    expect(await proxies()).toHaveLength(2);
    const notReady = (await cluster.kubectl("get", "nodes", "--no-headers")).match(/^.*NotReady.*$/gm);
    expect(notReady).toBe(null);
    const { spec } = await cluster.get("deployment", "cnpg-controller-manager", "cnpg-system");
    expect(spec.replicas).toBe(1);
  }

  const operator = ["-n", "cnpg-system", "scale", "deployment/cnpg-controller-manager"];
  const writingAgain = () =>
    Promise.all(
      ids.map(async (id) => {
        const before = writers[id]?.committed.length ?? 0;
        await eventually(300, async () => expect(writers[id]?.committed.length).toBeGreaterThan(before + 20));
      }),
    );
  const kill = ["--grace-period=0", "--force", "--wait=false"];

  /** Each brings its fault about, and takes it back where it does not end by itself. @returns the address that is lost */
  async function deletePrimary(): Promise<undefined> {
    await Promise.all(
      ids.map(async (id) =>
        cluster.kubectl("-n", checkout.name(id), "delete", "pod", (await status(id)).currentPrimary, ...kill),
      ),
    );
  }

  async function killPostgres(): Promise<undefined> {
    const inside = ["--container", "postgres", "--", "sh", "-c", "kill -9 $(head -1 $PGDATA/postmaster.pid)"];
    await Promise.all(
      ids.map(async (id) =>
        cluster.kubectl("-n", checkout.name(id), "exec", (await status(id)).currentPrimary, ...inside),
      ),
    );
  }

  async function stopOperator(): Promise<undefined> {
    await cluster.kubectl(...operator, "--replicas=0");
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    await cluster.kubectl(...operator, "--replicas=1");
  }

  async function deleteProxy(): Promise<void> {
    const pod = (await proxies()).find(({ status }) => status.hostIP === lost);
    await cluster.kubectl("-n", checkout.name("proxy"), "delete", "pod", pod?.metadata.name ?? "", ...kill);
  }

  async function cutOffNode(): Promise<void> {
    await cluster.network(last.name, "disconnect");
    try {
      // For as long as its primaries need to be given up.
      await eventually(300, async () => {
        for (const id of ids) expect(await primaryNode(id)).not.toBe(last.name);
      });
      await writingAgain();
    } finally {
      await cluster.network(last.name, "connect");
    }
  }

  async function primaryNode(id: string): Promise<string | undefined> {
    const { currentPrimary } = await status(id);
    const all = await pods(checkout.name(id), "cnpg.io/podRole=instance");
    return all.find(({ metadata }) => metadata.name === currentPrimary)?.spec.nodeName;
  }

  /** Both primaries, as `kubectl cnpg promote` does it. */
  async function moveTo(node: string): Promise<void> {
    for (const id of ids) {
      if ((await primaryNode(id)) === node) continue;
      const all = await pods(checkout.name(id), "cnpg.io/podRole=instance");
      const targetPrimary = all.find(({ spec }) => spec.nodeName === node)?.metadata.name;
      const now = new Date().toISOString();
      const patch = {
        status: { targetPrimary, targetPrimaryTimestamp: now, phase: "Switchover in progress" },
      };
      const as = ["--subresource=status", "--type=merge", "--patch", JSON.stringify(patch)];
      await cluster.kubectl("-n", checkout.name(id), "patch", "cluster", id, ...as);
      await eventually(300, async () => expect(await primaryNode(id)).toBe(node));
    }
    await eventually(300, expectHealthy);
  }

  /** Address of the proxy that the fault takes away. */
  let lost: string | undefined;

  test.each(faults)(
    "$number: $kind",
    async ({ kind, number }) => {
      lost = undefined;
      if (kind === "the primary's node is cut off") {
        await moveTo(last.name);
        lost = last.address;
      }
      const addresses = (await proxies()).map((pod) => pod.status.hostIP);
      const via = random.pick(addresses.filter((address) => address !== lost));
      if (kind === "a proxy's pod is deleted") lost = via;
      // Limits that a busy machine does not reach.
      const patient = { connectionTimeoutMillis: 60_000, query_timeout: 60_000 };
      const globex = { ...(await checkout.clientConfig("globex")), ...patient };
      const loads = await Promise.all(
        addresses.map(async (host) => ({
          host,
          load: await ClientLoad.start({ ...globex, host }, { sessions: 2, newcomers: 1 }),
        })),
      );
      for (const id of ids) writers[id]?.via(via);
      await writingAgain();
      for (const id of ids) writers[id]?.longestPause();
      await kinds[kind]();
      await writingAgain();
      for (const id of ids) pauses[kind]?.[id].push(writers[id]?.longestPause() ?? Number.NaN);
      for (const { load } of loads) await load.stop();
      for (const { host, load } of loads) {
        if (host !== lost) expect(load.failures).toEqual([]);
        else if (kind === "a proxy's pod is deleted") expect(load.failures).not.toEqual([]);
      }
      await eventually(600, expectHealthy);
      const [tenant, plain] = ids.map((id) => pauses[kind]?.[id].at(-1)?.toFixed(1));
      console.log(
        `kubernetes-faults: fault ${number}: ${kind}: no write for ${tenant} s, by kubectl ${plain} s`,
      );
    },
    1_200_000,
  );

  test("after all of them, every committed row is there, on each server, and no replica was written to", async () => {
    for (const writer of Object.values(writers)) await writer.stop();
    for (const id of ids) {
      const written = writers[id]?.committed ?? [];
      expect(written.length).toBeGreaterThan(1000);
      const rows = await rowsOf(await login(id), "SELECT n FROM written");
      const present = new Set(rows.map(({ n }) => n));
      expect(written.filter((n) => !present.has(n))).toEqual([]);
      expect(writers[id]?.toReplicas).toEqual([]);
      const count = ["--", "psql", "-Atc", "SELECT count(*) FROM written", id === "plain" ? "acme" : id];
      for (const { metadata } of await pods(checkout.name(id), "cnpg.io/podRole=instance")) {
        await eventually(60, async () => {
          const counted = await cluster.kubectl(
            ...["-n", checkout.name(id), "exec", metadata.name, "--container", "postgres", ...count],
          );
          expect(Number(counted)).toBe(rows.length);
        });
      }
    }
    await checkout.pulumi("preview", "--refresh", "--expect-no-changes");
    for (const [kind, { acme, plain }] of Object.entries(pauses)) {
      const text = (all: number[]) => all.map((one) => one.toFixed(1)).join(" ");
      console.log(
        `kubernetes-faults: ${kind}: seconds without a write: ${text(acme)}; by kubectl ${text(plain)}`,
      );
    }
  }, 300_000);
});
