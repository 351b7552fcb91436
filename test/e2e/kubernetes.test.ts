import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Checkout, connect } from "./support/checkout";
import { TestCluster } from "./support/cluster";
import { eventually } from "./support/command";
import { login, psql } from "./support/psql";

/** Small, for a machine with two processors. */
const defaults = "defaults: { memory: 256Mi, cpus: 0.1, disk: 1Gi }\n";

/** A table of its own, a role for the application and one for reports, and an extension. */
const rich = `
    init: [init/schema.sql]
    extensions: [hstore]
    roles: { app: { grants: readwrite, settings: { work_mem: 3MB } }, reports: { grants: readonly } }`;

const scripts = {
  broken: "CREATE TABLE made_once AS SELECT 1 AS i;\nCREATE TABL none ();\n",
  right: "CREATE TABLE made_once AS SELECT 1 AS i;\n",
};

let cluster: TestCluster;
let checkout: Checkout;
let address: string;

beforeAll(async () => {
  cluster = await TestCluster.start();
  address = await cluster.nodeAddress();
  checkout = await Checkout.create(`${defaults}tenants:\n  acme:${rich}\n  globex: {}\n`, cluster.config);
  checkout.address = address;
}, 1_900_000);
afterAll(async () => {
  await cluster?.remove(checkout);
  await checkout?.remove();
}, 300_000);

const pgs = (...args: string[]) => checkout.succeedPgs(...args);

function apply(tenants: string): Promise<string> {
  checkout.write("tenants.yaml", `${defaults}tenants: ${tenants}`);
  return pgs("up", "--yes");
}

async function expectNoChanges(): Promise<void> {
  await checkout.pulumi("preview", "--refresh", "--expect-no-changes");
}

const query = (id: string, sql: string, role?: string) => checkout.query(id, sql, role);

describe("from nothing", () => {
  test("./pgs up brings operator, proxy and tenants up, but a tenant whose init script fails", async () => {
    checkout.write("init/schema.sql", scripts.broken);
    const { code, output } = await checkout.pgs(["up", "--yes"]);
    expect(code).toBe(1);
    expect(output).toMatch(/init script schema\.sql failed: line 2: ERROR: +syntax error/);
    expect(output).toMatch(/globex +created/);
    expect(JSON.parse(await pgs("list", "--json"))).toMatchObject([{ id: "acme", state: "incomplete" }, {}]);
  }, 900_000);

  test("the next up makes its database again, and runs the corrected script once", async () => {
    checkout.write("init/schema.sql", scripts.right);
    expect(await pgs("up", "--yes")).toMatch(/acme +\w+/);
    expect(await query("acme", "SELECT i FROM made_once")).toEqual([{ i: 1 }]);
  });

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

  test("its roles read and write as their grants say, also what is made later, and its extension is there", async () => {
    await query("acme", "CREATE TABLE later (i int)");
    await query("acme", "INSERT INTO later VALUES (2)", "app");
    expect(await query("acme", "SELECT i FROM later", "reports")).toEqual([{ i: 2 }]);
    await expect(query("acme", "INSERT INTO later VALUES (3)", "reports")).rejects.toThrow(
      "permission denied",
    );
    expect(await query("acme", "SHOW work_mem", "app")).toEqual([{ work_mem: "3MB" }]);
    expect(await query("acme", "SELECT 'a=>1'::hstore -> 'a' AS v")).toEqual([{ v: "1" }]);
  });

  test("a second up does nothing", async () => {
    await expectNoChanges();
    expect(await pgs("up", "--yes")).toContain("No changes (2 tenants).");
  });

  test("a pod of another namespace reaches no server past the proxy, and another tenant's neither", async () => {
    const { spec } = await cluster.get("cluster", "acme", checkout.name("acme"));
    const { clusterIP } = (await cluster.get("service", "acme-rw", checkout.name("acme"))).spec;
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
    expect(await cluster.kubectl("--namespace", checkout.name("globex"), ...pod)).toMatch(/timeout expired/);
  });
});

test("a server reaches the API server, and no other address at its port", async () => {
  const { spec } = await cluster.get("networkpolicy", "tenant", checkout.name("acme"));
  const { clusterIP } = (await cluster.get("service", "kubernetes", "default")).spec;
  const ranges = JSON.stringify(spec.egress);
  expect(ranges).toContain(`"${clusterIP}/32"`);
  const gateway = address.replace(/\.\d+$/, ".1");
  const ask = `psql 'host=${gateway} port=6443 user=x connect_timeout=4' -c 'SELECT 1' 2>&1; true`;
  const pod = ["exec", "acme-1", "--container", "postgres", "--", "sh", "-c", ask];
  expect(await cluster.kubectl("--namespace", checkout.name("acme"), ...pod)).toMatch(/timeout expired/);
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

  test("doctor finds all in order, and says what is not", async () => {
    const { code, stdout, output } = await checkout.pgs(["doctor", "--json"]);
    expect(code, output).toBe(0);
    const findings: { check: string; level: string; message: string }[] = JSON.parse(stdout);
    const good = findings.filter(({ level }) => level === "good").map(({ check }) => check);
    const looked = ["engine", "operator", "webhooks", "storage", "proxy", "server", "route", "login", "disk"];
    expect(good).toEqual(expect.arrayContaining([...looked, "failover", "drift"]));
    const scale = (replicas: number) =>
      cluster.kubectl(
        "-n",
        checkout.name("proxy"),
        "scale",
        "deployment",
        "traefik",
        `--replicas=${replicas}`,
      );
    await scale(0);
    const broken = await checkout.pgs(["doctor"]);
    expect(broken.code).toBe(1);
    expect(broken.output).toMatch(/✗ drift .*an up would change 1: proxy\/traefik/);
    expect(broken.output).toMatch(/✗ port /);
    await pgs("up", "--yes");
    await eventually(60, () => query("acme", "SELECT 1"));
  });

  test.each([["try-restores"], ["alerts"], ["metrics"]])(
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
      checkout.name("acme"),
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
    const { spec } = await cluster.get("cluster", "acme", checkout.name("acme"));
    expect(spec.resources.limits.memory).toBe("256Mi");
    expect(spec.postgresql.parameters.work_mem).not.toBe("1MB");
    await expectNoChanges();
  });

  test("of memory and a setting counts when the command ends; the neighbour's session goes on", async () => {
    await query("acme", "CREATE TABLE kept AS SELECT 1 AS i");
    const neighbour = await checkout.client("globex");
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
    const session = await checkout.client("acme");
    let ended = false;
    session.on("end", () => {
      ended = true;
    });
    await pgs("disable-access", "acme", "--yes");
    expect(ended).toBe(true);
    await expect(checkout.client("acme")).rejects.toThrow();
    await query("globex", "SELECT 1");
    await pgs("enable-access", "acme", "--yes");
    expect(await query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
  });

  test("of passwordVersion counts when the command ends, and the session goes on", async () => {
    const [session, old] = [await checkout.client("acme"), await checkout.clientConfig("acme")];
    await pgs("rotate-password", "acme", "--yes");
    await query("acme", "SELECT 1");
    await session.query("SELECT 1");
    await session.end();
    await expect(new Client(old).connect()).rejects.toThrow("password authentication failed");
  });

  test("of disk has grown the volume when the command ends", async () => {
    await pgs("set", "acme", "disk", "2Gi", "--yes");
    const { status } = await cluster.get("pvc", "acme-1", checkout.name("acme"));
    expect(status.capacity.storage).toMatch(/^2Gi$/);
  });

  test("of allow lets clients from there in, and ends the others' sessions", async () => {
    const [session, neighbour] = [await checkout.client("acme"), await checkout.client("globex")];
    let ended = false;
    session.on("end", () => {
      ended = true;
    });
    const { output } = await checkout.pgs(["set", "acme", "allow", "[192.0.2.0/24]", "--yes"]);
    expect(output).toContain("all open sessions");
    await eventually(5, async () => expect(ended).toBe(true));
    await expect(checkout.client("acme")).rejects.toThrow();
    await neighbour.query("SELECT 1");
    await neighbour.end();
    const here = address.replace(/\.\d+$/, ".0/24");
    await pgs("set", "acme", "allow", `[${here}]`, "--yes");
    await eventually(5, () => query("acme", "SELECT 1"));
  });

  test("of maxConnectionsPerClient lets no more in at a time from one address", async () => {
    await pgs("set", "acme", "maxConnectionsPerClient", "3", "--yes");
    const sessions = [
      await checkout.client("acme"),
      await checkout.client("acme"),
      await checkout.client("acme"),
    ];
    await eventually(5, () => expect(checkout.client("acme")).rejects.toThrow());
    for (const session of sessions) await session.end();
    await eventually(5, () => query("acme", "SELECT 1"));
  });

  test("that takes a role out ends its sessions, and lets it in no more; a password by hand is put right", async () => {
    const session = await checkout.client("acme", undefined, "app");
    const old = await checkout.clientConfig("acme", "app");
    let ended = false;
    session.on("end", () => {
      ended = true;
    });
    await query("acme", "ALTER ROLE reports PASSWORD 'by hand'");
    expect(await pgs("preview")).toMatch(/acme +change/);
    await apply(
      "\n  acme: { memory: 384Mi, disk: 2Gi, roles: { reports: { grants: readonly } } }\n  globex: {}\n",
    );
    await eventually(5, async () => expect(ended).toBe(true));
    await expect(new Client(old).connect()).rejects.toThrow("authentication failed");
    expect(await query("acme", "SELECT i FROM later", "reports")).toEqual([{ i: 2 }]);
    await expect(query("acme", "SELECT 'a=>1'::hstore")).rejects.toThrow("does not exist");
    await expectNoChanges();
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
    const allow = (expansion: boolean) =>
      cluster.kubectl("patch", "storageclass", "folders", "-p", `{"allowVolumeExpansion":${expansion}}`);
    await allow(false);
    await refused(
      "disk: 9Gi",
      /tenants\.acme\.disk: volumes of the StorageClass folders cannot grow/,
    ).finally(() => allow(true));
    await refused("icu: und", /tenants\.yaml:2:\d+: tenants\.acme\.icu: there is no icu on Kubernetes/);
    await refused("roles: { acme: {} }", /tenants\.acme\.roles\.acme: CloudNativePG has a role of this name/);
  });
});

describe("data outlives", () => {
  const both = "{ acme: { memory: 384Mi, disk: 2Gi, init: [init/schema.sql] }, globex: {} }";

  test("its entry: its servers are gone, and written again it is there with a new password", async () => {
    const output = await apply("{ globex: {} }");
    expect(output).toContain(`The data of acme stays in the namespace ${checkout.name("acme")}.`);
    expect(await cluster.kubectl("-n", checkout.name("acme"), "get", "pods", "-o", "name")).toBe("");
    await expect(checkout.client("acme")).rejects.toThrow();
    await apply(both);
    expect(await query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
    await expectNoChanges();
  }, 900_000);

  test("a stop: no server runs, and started again it is there", async () => {
    await pgs("stop", "acme", "--yes");
    expect(await cluster.kubectl("-n", checkout.name("acme"), "get", "pods", "-o", "name")).toBe("");
    await pgs("start", "acme", "--yes");
    expect(await query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
  }, 900_000);

  test("the stack: after destroy and up it is there", async () => {
    await pgs("destroy", "--yes");
    expect(await cluster.kubectl("get", "namespace", checkout.name("proxy"), "--ignore-not-found")).toBe("");
    await apply(both);
    expect(await query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
    await expectNoChanges();
  }, 600_000);

  test("nothing after onRemove: delete was applied", async () => {
    await apply("{ acme: { memory: 384Mi, disk: 2Gi }, globex: { onRemove: delete } }");
    await apply("{ acme: { memory: 384Mi, disk: 2Gi } }");
    expect(await cluster.kubectl("get", "namespace", checkout.name("globex"), "--ignore-not-found")).toBe("");
  });
});

describe("a tenant with a replica", () => {
  test("has it when the command ends, waits for it, and is read at ID-ro.DOMAIN, where nothing can be written", async () => {
    await pgs("set", "acme", "replicas", "1", "--yes");
    await pgs("set", "acme", "sync", "on", "--yes");
    expect(await query("acme", "SELECT sync_state FROM pg_stat_replication")).toEqual([
      { sync_state: "quorum" },
    ]);
    expect(JSON.parse(await pgs("list", "--json"))[0].servers).toEqual({ ready: 2, wanted: 2 });
    const { acme } = JSON.parse(await checkout.pulumi("stack", "output", "tenants", "--json"));
    expect(acme.readOnly).toBe("acme-ro.pgs.localhost");
    const config = await checkout.clientConfig("acme");
    const ssl = { ...Object(config.ssl), servername: acme.readOnly };
    const client = await connect({ ...config, ssl });
    expect((await client.query("SELECT pg_is_in_recovery() AS replica")).rows).toEqual([{ replica: true }]);
    await expect(client.query("CREATE TABLE none ()")).rejects.toThrow("read-only transaction");
    await client.end();
    expect(await pgs("doctor", "--quick")).toMatch(/✓ replication .*1 of 1 replicas/);
  });

  test("is written to again after its primary's pod is deleted, with every committed row", async () => {
    await query("acme", "CREATE TABLE written (n int PRIMARY KEY)");
    const { status } = await cluster.get("cluster", "acme", checkout.name("acme"));
    const committed: number[] = [];
    const write = async (n: number) => {
      await query("acme", `INSERT INTO written VALUES (${n})`);
      committed.push(n);
    };
    for (let n = 0; n < 20; n++) await write(n);
    await cluster.kubectl(
      ...["-n", checkout.name("acme"), "delete", "pod", status.currentPrimary],
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
    const doctor = await checkout.pgs(["doctor", "--quick"]);
    expect(doctor.output).toMatch(/! failover .*acme: (Failing|Current primary)/);
    const rows = await query("acme", "SELECT n FROM written");
    const present = new Set(rows.map(({ n }) => n));
    expect(committed.filter((n) => !present.has(n))).toEqual([]);
  });

  async function primary(): Promise<string> {
    return (await cluster.get("cluster", "acme", checkout.name("acme"))).status.currentPrimary;
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
    expect(output).toContain(`the namespace ${checkout.name("proxy")} is of the stack dev-`);
  } finally {
    await other.remove();
  }
});

test("a stack whose state is lost is made again by its id, and no server restarts", async () => {
  const pod = async () => (await cluster.get("pod", "globex-1", checkout.name("globex"))).metadata.uid;
  await apply("{ globex: {} }");
  await query("globex", "CREATE TABLE outlives AS SELECT 7 AS n");
  const before = { pod: await pod(), password: await checkout.password("globex") };
  const { metadata } = await cluster.get("namespace", checkout.name("globex"), "default");
  const [, stack = "", id = ""] = /^(.*)-(\w+)$/.exec(metadata.labels["pgs.stack"]) ?? [];
  await checkout.pulumi("stack", "rm", stack, "--force", "--yes", "--preserve-config");
  await checkout.pulumi("stack", "init", stack);
  await checkout.pulumi(
    ...["import", "random:index/randomId:RandomId", "stack"],
    `${stack}-,${Buffer.from(id, "hex").toString("base64url")}`,
    ...["--protect=false", "--generate-code=false", "--yes"],
  );
  await pgs("up", "--yes");
  expect(await query("globex", "SELECT n FROM outlives")).toEqual([{ n: 7 }]);
  expect(await pod()).toBe(before.pod);
  expect(await checkout.password("globex")).not.toBe(before.password);
  await expectNoChanges();
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
