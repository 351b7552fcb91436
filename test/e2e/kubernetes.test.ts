import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { TestCluster } from "./support/cluster";
import { eventually } from "./support/command";
import { login, psql } from "./support/psql";

/** Small, for a machine with two processors. */
const defaults = "defaults: { memory: 256Mi, cpus: 0.1, disk: 1Gi }\n";

let cluster: TestCluster;
let checkout: Checkout;
let address: string;

beforeAll(async () => {
  cluster = await TestCluster.start();
  address = await cluster.nodeAddress();
  checkout = await Checkout.create(`${defaults}tenants: { acme: {}, globex: {} }`, {
    platform: "kubernetes",
    "kubernetes.kubeconfig": cluster.kubeconfig,
    "kubernetes.operatorManifest": cluster.operatorManifest,
    "kubernetes.proxyManifest": cluster.proxyManifest,
    "kubernetes.exposure": "hostPort",
    "kubernetes.proxyReplicas": "1",
  });
}, 1_900_000);
afterAll(async () => {
  await cluster?.remove();
  await checkout?.remove();
}, 300_000);

const namespace = (id: string) => `${checkout.prefix}-${id}`;

/** A command that must succeed. */
async function pgs(...args: string[]): Promise<string> {
  const { code, stdout, output } = await checkout.pgs(args);
  expect(code, output).toBe(0);
  return stdout;
}

function apply(tenants: string): Promise<string> {
  checkout.write("tenants.yaml", `${defaults}tenants: ${tenants}`);
  return pgs("up", "--yes");
}

async function expectNoChanges(): Promise<void> {
  await checkout.pulumi("preview", "--refresh", "--expect-no-changes");
}

/** A session through the proxy, which verifies the server's certificate. */
async function connect(id: string): Promise<Client> {
  const client = new Client({ ...(await checkout.clientConfig(id)), host: address });
  client.on("error", () => {});
  await client.connect();
  return client;
}

async function query(id: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = await connect(id);
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

describe("from nothing", () => {
  test("./pgs up brings operator, proxy and tenants up", async () => {
    const output = await pgs("up", "--yes");
    expect(output).toMatch(/acme +created/);
    expect(output).toMatch(/globex +created/);
  }, 900_000);

  test("psql logs in with verify-full, by the hostname alone", async () => {
    const parameters = { hostaddr: address, sslmode: "verify-full", sslrootcert: await checkout.caFile() };
    for (const id of ["acme", "globex"]) {
      const { code, output } = await login(checkout, psql[18], id, parameters);
      expect(code, output).toBe(0);
      expect(output.trim()).toBe(id);
    }
    const wrong = await login(checkout, psql[18], "acme", { ...parameters, host: "none.pgs.localhost" });
    expect(wrong.code).not.toBe(0);
  });

  test("the tenant has the memory, settings and encoding that its entry and defaults ask for", async () => {
    const shown = async (name: string) => Object.values((await query("acme", `SHOW ${name}`))[0] ?? {})[0];
    expect(await shown("shared_buffers")).toBe("64MB");
    expect(await shown("server_encoding")).toBe("UTF8");
  });

  test("a second up does nothing", async () => {
    await expectNoChanges();
    expect(await pgs("up", "--yes")).toContain("No changes (2 tenants).");
  });

  test("a pod of another namespace reaches no server past the proxy, and another tenant's neither", async () => {
    const { spec } = await cluster.get("cluster", "acme", namespace("acme"));
    const { clusterIP } = (await cluster.get("service", "acme-rw", namespace("acme"))).spec;
    const ask = `psql 'host=${clusterIP} user=postgres sslmode=require connect_timeout=5' -c 'SELECT 1' 2>&1; true`;
    const run = [
      "run",
      "stranger",
      "--image",
      spec.imageName,
      "--restart=Never",
      "--attach",
      "--rm",
      "--quiet",
    ];
    const said = await cluster.kubectl("--namespace", "default", ...run, "--command", "--", "sh", "-c", ask);
    expect(said).toMatch(/timeout expired/);
    const pod = ["exec", "globex-1", "--container", "postgres", "--", "sh", "-c", ask];
    expect(await cluster.kubectl("--namespace", namespace("globex"), ...pod)).toMatch(/timeout expired/);
  });
});

describe("the commands", () => {
  test("list has the tenants as their Clusters tell", async () => {
    const listed = JSON.parse(await pgs("list", "--json"));
    expect(listed).toMatchObject([
      { id: "acme", state: "running", servers: { ready: 1, wanted: 1 }, memory: { limit: 256 * 2 ** 20 } },
      { id: "globex", state: "running" },
    ]);
    expect(await pgs("list")).toMatch(/acme .*running +1\/1/);
  });

  test("url and password give what logs in, and connect opens a session", async () => {
    const url = new URL((await pgs("url", "acme")).trim());
    expect(decodeURIComponent(url.password)).toBe((await pgs("password", "acme")).trim());
    expect(url.searchParams.get("hostaddr") ?? address).toBe(address);
    expect((await pgs("connect", "acme", "--", "-Atc", "SELECT current_user")).trim()).toBe("postgres");
  });

  test("logs shows what the server wrote", async () => {
    expect(await pgs("logs", "acme", "--tail", "200")).toContain("postgres");
  });

  test.each([["doctor"], ["top", "acme"], ["dump", "acme"], ["metrics"]])(
    "%s is not there yet, says so, and changes nothing",
    async (...args) => {
      const { code, output } = await checkout.pgs(args);
      expect(output).toContain(`./pgs ${args[0]} is not there yet on Kubernetes: docs/kubernetes.md`);
      expect(code).toBe(1);
    },
  );
});

describe("an edit", () => {
  test("of a Cluster by hand is seen in a preview, and put right", async () => {
    const patch =
      '{"spec":{"postgresql":{"parameters":{"work_mem":"1MB"}},"resources":{"limits":{"memory":"300Mi"}}}}';
    await cluster.kubectl(
      "-n",
      namespace("acme"),
      "patch",
      "cluster",
      "acme",
      "--type",
      "merge",
      "-p",
      patch,
    );
    const preview = await pgs("preview");
    expect(preview).toMatch(/acme/);
    expect(preview).toContain("1 tenant unchanged");
    await pgs("up", "--yes");
    const { spec } = await cluster.get("cluster", "acme", namespace("acme"));
    expect(spec.resources.limits.memory).toBe("256Mi");
    expect(spec.postgresql.parameters.work_mem).not.toBe("1MB");
    await expectNoChanges();
  });

  test("of memory and a setting counts when the command ends; the neighbour's session goes on", async () => {
    await query("acme", "CREATE TABLE kept AS SELECT 1 AS i");
    const neighbour = await connect("globex");
    const { code, output } = await checkout.pgs(["set", "acme", "memory", "384Mi", "--yes"]);
    expect(code, output).toBe(0);
    expect(output).toMatch(/acme +restarted/);
    expect(await query("acme", "SHOW shared_buffers")).toEqual([{ shared_buffers: "96MB" }]);
    await pgs("set", "acme", "settings.work_mem", "7MB", "--yes");
    expect(await query("acme", "SHOW work_mem")).toEqual([{ work_mem: "7MB" }]);
    expect((await neighbour.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    await neighbour.end();
    await expectNoChanges();
  });

  test("disable-access ends the open sessions, and lets nobody in; enable-access does again", async () => {
    const session = await connect("acme");
    let ended = false;
    session.on("end", () => {
      ended = true;
    });
    await pgs("disable-access", "acme", "--yes");
    expect(ended).toBe(true);
    await expect(connect("acme")).rejects.toThrow();
    await query("globex", "SELECT 1");
    await pgs("enable-access", "acme", "--yes");
    expect(await query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
  });

  test("of passwordVersion changes the password, and the session goes on", async () => {
    const [session, old] = [await connect("acme"), await checkout.clientConfig("acme")];
    await pgs("rotate-password", "acme", "--yes");
    await eventually(30, () => query("acme", "SELECT 1"));
    await session.query("SELECT 1");
    await session.end();
    await expect(new Client({ ...old, host: address }).connect()).rejects.toThrow(
      "password authentication failed",
    );
  });

  test("that another major version, a smaller volume or a field of Docker's needs is refused at its line", async () => {
    const refused = async (fields: string, message: RegExp) => {
      checkout.write("tenants.yaml", `${defaults}tenants: { acme: { ${fields} }, globex: {} }`);
      const { code, output } = await checkout.tryPulumi("preview");
      expect(code).not.toBe(0);
      expect(output).toMatch(message);
    };
    await checkout.pulumi("config", "set", "--path", "pgs:kubernetes.images.19", "registry.local/pg:19.0");
    await refused(
      "version: 19",
      /tenants\.yaml:2:\d+: tenants\.acme\.version: the tenant's data is that of PostgreSQL 18/,
    );
    await checkout.pulumi("config", "rm", "--path", "pgs:kubernetes.images");
    await refused(
      "disk: 512Mi",
      /tenants\.yaml:2:\d+: tenants\.acme\.disk: a volume grows and does not shrink/,
    );
    await refused("init: []", /tenants\.yaml:2:\d+: tenants\.acme\.init: there is no init on Kubernetes/);
  });
});

describe("data outlives", () => {
  const both = "{ acme: { memory: 384Mi }, globex: {} }";

  test("its entry: its servers are gone, and written again it is there with a new password", async () => {
    const output = await apply("{ globex: {} }");
    expect(output).toContain(`The data of acme stays in the namespace ${namespace("acme")}.`);
    expect(await cluster.kubectl("-n", namespace("acme"), "get", "pods", "-o", "name")).toBe("");
    await expect(connect("acme")).rejects.toThrow();
    await apply(both);
    expect(await query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
    await expectNoChanges();
  });

  test("a stop: no server runs, and started again it is there", async () => {
    await pgs("stop", "acme", "--yes");
    expect(await cluster.kubectl("-n", namespace("acme"), "get", "pods", "-o", "name")).toBe("");
    await pgs("start", "acme", "--yes");
    expect(await query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
  });

  test("the stack: after destroy and up it is there", async () => {
    await pgs("destroy", "--yes");
    expect(await cluster.kubectl("get", "namespace", namespace("proxy"), "--ignore-not-found")).toBe("");
    await apply(both);
    expect(await query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
    await expectNoChanges();
  }, 600_000);

  test("nothing after onRemove: delete was applied", async () => {
    await apply("{ acme: { memory: 384Mi }, globex: { onRemove: delete } }");
    await apply("{ acme: { memory: 384Mi } }");
    expect(await cluster.kubectl("get", "namespace", namespace("globex"), "--ignore-not-found")).toBe("");
  });
});

describe("a tenant with a replica", () => {
  test("is written to again after its primary's pod is deleted, with every committed row", async () => {
    await pgs("set", "acme", "replicas", "1", "--yes");
    await pgs("set", "acme", "sync", "on", "--yes");
    expect(JSON.parse(await pgs("list", "--json"))[0].servers).toEqual({ ready: 2, wanted: 2 });
    await query("acme", "CREATE TABLE written (n int PRIMARY KEY)");
    const { status } = await cluster.get("cluster", "acme", namespace("acme"));
    const committed: number[] = [];
    const write = async (n: number) => {
      await query("acme", `INSERT INTO written VALUES (${n})`);
      committed.push(n);
    };
    for (let n = 0; n < 20; n++) await write(n);
    await cluster.kubectl(
      ...["-n", namespace("acme"), "delete", "pod", status.currentPrimary],
      ...["--wait=false", "--grace-period=0", "--force"],
    );
    const lost = performance.now();
    for (let n = 20; ; n++) {
      const written = await write(n).then(
        () => true,
        () => false,
      );
      if (written && (await primary()) !== status.currentPrimary) break;
      if (performance.now() - lost > 120_000) throw new Error("no write for two minutes");
    }
    console.log(
      `kubernetes: written again ${((performance.now() - lost) / 1000).toFixed(1)} s after the primary was lost`,
    );
    const rows = await query("acme", "SELECT n FROM written");
    const present = new Set(rows.map(({ n }) => n));
    expect(committed.filter((n) => !present.has(n))).toEqual([]);
  });

  async function primary(): Promise<string> {
    return (await cluster.get("cluster", "acme", namespace("acme"))).status.currentPrimary;
  }
});

test("another stack with the same prefix is refused before anything changes", async () => {
  const other = await Checkout.create(`${defaults}tenants: { acme: {} }`, {
    platform: "kubernetes",
    prefix: checkout.prefix,
    "kubernetes.kubeconfig": cluster.kubeconfig,
  });
  try {
    const { code, output } = await other.tryPulumi("preview");
    expect(code).not.toBe(0);
    expect(output).toContain(`the namespace ${namespace("proxy")} is of the stack dev-`);
  } finally {
    await other.remove();
  }
});

test("./pgs up says what is wrong with the cluster before it begins", async () => {
  await checkout.pulumi(
    "config",
    "set",
    "--path",
    "pgs:kubernetes.kubeconfig",
    join(checkout.folder, "none"),
  );
  const { code, output } = await checkout.pgs(["up", "--yes"]);
  expect(code).toBe(1);
  expect(output).toContain(`the kubeconfig ${join(checkout.folder, "none")} cannot be read`);
});
