import { Checkout, rowsOf } from "../../test/e2e/support/checkout";
import { TestCluster } from "../../test/e2e/support/cluster";
import { eventually } from "../../test/e2e/support/command";
import { atATime, ids, median, medianSeconds, seconds } from "../support";
import { type Row, ratioOf } from "./row";

/** A manifest as Pulumi has it in its state, secrets included. */
interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string };
}

const defaults = "{ memory: 256Mi, cpus: 0.1, disk: 1Gi, onRemove: delete }";

const file = (tenants: string[]) =>
  `defaults: ${defaults}\ntenants: ${JSON.stringify(Object.fromEntries(tenants.map((id) => [id, {}])))}\n`;

/** Tenants from nothing; those of a preview; those whose objects alone are made. PGS_BENCH_TENANTS=2,3,10 for a try. */
const [some = 10, more = 20, many = 500] = (process.env.PGS_BENCH_TENANTS ?? "10,20,500")
  .split(",")
  .map(Number);

/**
 * A stack on the toolchain's cluster against `kubectl apply` of the same manifests, which Pulumi's state has: the operator,
 * the proxy and the images are there already.
 */
export async function kubernetes(): Promise<Row[]> {
  const cluster = await TestCluster.start();
  const checkout = await Checkout.create(file([]), cluster.config);
  checkout.address = await cluster.nodeAddress();
  const bench = new Bench(cluster, checkout);
  try {
    await checkout.up();
    // Images are on the node, and all plugins were started once.
    await bench.byPulumi(["warm"]);
    await checkout.apply(file([]));
    const rows = [
      ...(await bench.fromNothing(some)),
      ...(await bench.oneMore()),
      ...(await bench.unchanged(more)),
    ];
    await checkout.apply(file([]));
    rows.push(...(await bench.objects(many)));
    return rows;
  } finally {
    await cluster.remove(checkout);
    await checkout.remove();
  }
}

class Bench {
  constructor(
    private readonly cluster: TestCluster,
    private readonly checkout: Checkout,
  ) {}

  /** Seconds until all can log in. */
  byPulumi(tenants: string[], others: string[] = []): Promise<number> {
    return seconds(async () => {
      await this.checkout.apply(file([...others, ...tenants]));
      await this.logIn(tenants);
    });
  }

  async fromNothing(count: number): Promise<Row[]> {
    const tenants = ids(count);
    const byPulumi = await this.byPulumi(tenants);
    const manifests = await this.manifests();
    const logins = await this.logins(tenants);
    await this.checkout.apply(file([]));
    const byKubectl = await this.byKubectl(manifests, logins);
    return [
      ratioOf(
        `${count} tenants on Kubernetes from nothing to every login`,
        byPulumi,
        { what: "kubectl apply of the same manifests", measured: byKubectl },
        { atMost: 1.5 },
      ),
    ];
  }

  /** Beside one that is there. Leaves the one. */
  async oneMore(): Promise<Row[]> {
    await this.byPulumi(["t0"]);
    const pairs: [number, number][] = [];
    for (const id of ["one", "two", "three"]) {
      const before = new Set((await this.manifests()).map(keyOf));
      const byPulumi = await this.byPulumi([id], ["t0"]);
      const manifests = (await this.manifests()).filter((manifest) => !before.has(keyOf(manifest)));
      const logins = await this.logins([id]);
      await this.checkout.apply(file(["t0"]));
      pairs.push([byPulumi, await this.byKubectl(manifests, logins)]);
    }
    return [
      ratioOf(
        "one tenant more on Kubernetes until it can log in (medians of 3)",
        median(pairs.map(([byPulumi]) => byPulumi)),
        { what: "kubectl apply of the same manifests", measured: median(pairs.map(([, other]) => other)) },
        { atMost: 2 },
      ),
    ];
  }

  /** A preview of one tenant and of so many, and what is beside the servers. */
  async unchanged(count: number): Promise<Row[]> {
    const preview = () => this.checkout.pulumi("preview", "--expect-no-changes");
    const ofOne = await medianSeconds(3, preview);
    const besideOne = await this.besideServers();
    await this.byPulumi(ids(count));
    const ofAll = await medianSeconds(3, preview);
    const besideAll = await this.besideServers();
    const memory = (besideAll.memory - besideOne.memory) / (count - 1) / 2 ** 20;
    const cpu = (besideAll.cpu - besideOne.cpu) / (count - 1);
    return [
      ratioOf(
        `preview of ${count} tenants on Kubernetes, nothing to do (medians of 3)`,
        ofAll,
        { what: "of one", measured: ofOne },
        { atMost: 3 },
      ),
      {
        figure: "memory and processor of operator, proxy, DNS and API server for each tenant more",
        measured: `${memory.toFixed(1)} MiB, ${(cpu * 100).toFixed(2)} % of a core`,
        against: `with one: ${(besideOne.memory / 2 ** 20).toFixed(0)} MiB, ${(besideOne.cpu * 100).toFixed(1)} %`,
        aim: "–",
      },
    ];
  }

  /** What the API server and Pulumi take at a size that no operator looks after here. */
  async objects(count: number): Promise<Row[]> {
    await this.byPulumi(["t0"]);
    const pattern = await this.manifests("t0");
    const system = "cnpg-system";
    await this.cluster.kubectl("-n", system, "scale", "deployment", "--all", "--replicas", "0");
    // Only the operator answers webhooks.
    for (const kind of ["mutating", "validating"]) {
      await this.cluster.kubectl("delete", `${kind}webhookconfiguration`, "--all");
    }
    const all = ids(count, 1000).flatMap((id) =>
      JSON.parse(JSON.stringify(pattern).replaceAll(/\bt0\b/g, id)),
    );
    const applied = await seconds(() => this.cluster.apply(...all));
    const listed = await seconds(() =>
      this.cluster.kubectl("get", "clusters", "--all-namespaces", "-o", "json"),
    );
    const planned = await seconds(async () => {
      this.checkout.write("tenants.yaml", file(["t0", ...ids(count, 5000)]));
      await this.checkout.pulumi("preview");
    });
    this.checkout.write("tenants.yaml", file(["t0"]));
    await this.cluster.kubectl("delete", "namespaces", "--wait=false", ...namespacesOf(all));
    return [
      {
        figure: `${count} tenants' objects on the API server, without the operator and without a server`,
        measured: `preview of all as new: ${planned.toFixed(0)} s; a list of all Clusters: ${listed.toFixed(1)} s`,
        against: `kubectl apply of ${all.length} objects: ${applied.toFixed(0)} s`,
        aim: "–",
      },
    ];
  }

  /** Seconds from `kubectl apply` until these log in. Takes them away again. */
  private async byKubectl(manifests: Manifest[], logins: Login[]): Promise<number> {
    await eventually(120, async () => {
      const there = (await this.cluster.kubectl("get", "namespaces", "-o", "name")).split("\n");
      const left = namespacesOf(manifests).filter((name) => there.includes(`namespace/${name}`));
      if (left.length > 0) throw new Error(`${left} are there`);
    });
    const took = await seconds(async () => {
      await this.cluster.apply(...manifests);
      await atATime(16, logins, (login) => eventually(600, () => logIn(login)));
    });
    const routes = manifests.filter(({ kind }) => /TCP$/.test(kind));
    for (const { kind, metadata } of routes) {
      await this.cluster.kubectl("-n", metadata.namespace ?? "", "delete", kind, metadata.name);
    }
    await this.cluster.kubectl("delete", "namespaces", ...namespacesOf(manifests));
    return took;
  }

  /** Of all tenants, or of one. */
  private async manifests(id?: string): Promise<Manifest[]> {
    const state = JSON.parse(await this.checkout.pulumi("stack", "export", "--show-secrets"));
    return (state.deployment.resources as { type: string; urn: string; inputs?: unknown }[])
      .filter(({ type, urn }) => /^kubernetes:/.test(type) && /PgTenant\$/.test(urn))
      .map(({ inputs }) => plain(inputs) as Manifest)
      .filter(
        (manifest) => id === undefined || new RegExp(`\\b${id}\\b`).test(JSON.stringify(manifest.metadata)),
      );
  }

  private logins(tenants: string[]): Promise<Login[]> {
    return Promise.all(tenants.map((id) => this.checkout.clientConfig(id)));
  }

  private async logIn(tenants: string[]): Promise<void> {
    await atATime(16, await this.logins(tenants), (login) => eventually(60, () => logIn(login)));
  }

  /** Memory in bytes and cores of all pods that are no tenant's, as the kubelets count them. */
  private async besideServers(): Promise<{ memory: number; cpu: number }> {
    const nodes = (await this.cluster.kubectl("get", "nodes", "-o", "name")).trim().split("\n");
    let [memory, cpu] = [0, 0];
    for (const node of nodes) {
      const path = `/api/v1/nodes/${node.replace("node/", "")}/proxy/stats/summary`;
      const { pods } = JSON.parse(await this.cluster.kubectl("get", "--raw", path));
      for (const pod of pods) {
        if (!/^(cnpg-system|kube-system|.*-proxy)$/.test(pod.podRef.namespace)) continue;
        memory += pod.memory?.workingSetBytes ?? 0;
        cpu += (pod.cpu?.usageNanoCores ?? 0) / 1e9;
      }
    }
    return { memory, cpu };
  }
}

const logIn = (login: Login) => rowsOf(login, "SELECT 1");

type Login = Awaited<ReturnType<Checkout["clientConfig"]>>;

function keyOf({ kind, metadata }: Manifest): string {
  return [kind, metadata.namespace, metadata.name].join(" ");
}

function namespacesOf(manifests: Manifest[]): string[] {
  return manifests.filter(({ kind }) => kind === "Namespace").map(({ metadata }) => metadata.name);
}

/** Without what marks secrets in a state, and without what Pulumi's provider alone understands. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  const { "4dabf18193072939515e22adb298388d": mark, plaintext, ...rest } = value as Record<string, unknown>;
  if (mark !== undefined) return plain(JSON.parse(String(plaintext)));
  const entries = Object.entries(rest).filter(([key]) => !/^(__|pulumi\.com\/)/.test(key));
  return Object.fromEntries(entries.map(([key, part]) => [key, plain(part)]));
}
