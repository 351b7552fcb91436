import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { Checkout } from "./support/checkout";
import { TestCluster } from "./support/cluster";
import { eventually } from "./support/command";
import { accessKeyId, S3Server, secretAccessKey } from "./support/s3";

const bucket = "cluster-backups";
/** The host's, on the link to the cluster's machines. */
const host = "10.254.254.1";
/** `superuser: on`, since only then a restore has another name. */
const defaults = { memory: "256Mi", cpus: 0.3, disk: "1Gi", superuser: "on" };

let cluster: TestCluster;
let checkout: Checkout;
let s3: S3Server;
/** Of the stack on the cluster, by id. */
let entries: Record<string, object> = { acme: {} };

beforeAll(async () => {
  cluster = await TestCluster.start();
  s3 = await S3Server.start(bucket);
  checkout = await Checkout.create(file(entries, defaults), {
    ...backups(),
    ...cluster.config,
  });
  checkout.address = await cluster.nodeAddress();
  await setCredentials(checkout);
}, 1_900_000);
afterAll(async () => {
  await cluster?.remove(checkout);
  await checkout?.remove();
  s3?.stop();
}, 300_000);

describe("a tenant's backups", () => {
  test("are in the bucket after its first up, which the server is asked to encrypt", async () => {
    await pgs("up", "--yes");
    await query("acme", "CREATE TABLE written AS SELECT generate_series(1, 1000) AS n");
    await eventually(120, async () => {
      const [status] = await statuses();
      expect(status).toMatchObject({ tenant: "acme", state: "running", problem: null, pending: null });
    });
    const keys = await s3.list(bucket, "of/pgs/tenant-acme/");
    expect(
      keys.filter((key) => /\/cluster-[0-9a-f-]+\/base\/\d{8}T\d{6}\/backup\.info$/.test(key)),
    ).toHaveLength(1);
    expect(
      keys.filter((key) => /\/cluster-[0-9a-f-]+\/wals\/[0-9A-F]{16}\/[0-9A-F]{24}\.gz$/.test(key)),
    ).not.toEqual([]);
    for (const key of keys) expect(await s3.encryption(bucket, key), key).toBe("AES256");
    expect(await pgs("backups")).toMatch(/^TENANT +BASE BACKUP +WAL +PROBLEM\nacme +\d+s ago /);
  });

  test("follow what the configuration says, and a second up does nothing", async () => {
    const { spec } = await cluster.get("cluster", "acme", checkout.name("acme"));
    expect(spec.backup.retentionPolicy).toBe("7d");
    const schedule = await cluster.get("scheduledbackup", "acme", checkout.name("acme"));
    expect(schedule.spec).toMatchObject({ schedule: "0 30 2 * * *", immediate: true, suspend: false });
    await checkout.pulumi("preview", "--refresh", "--expect-no-changes");
  });

  test("are reached by credentials that are in no state, Cluster or log", async () => {
    expect(await checkout.pulumi("stack", "export")).not.toContain(secretAccessKey);
    const all = await cluster.kubectl("get", "clusters,scheduledbackups,pods,configmaps", "-A", "-o", "yaml");
    expect(all).not.toContain(secretAccessKey);
    expect(await cluster.kubectl("-n", checkout.name("acme"), "logs", "acme-1")).not.toContain(
      secretAccessKey,
    );
  });

  test("that do not get there are a problem, until they do", async () => {
    s3.away = true;
    await query("acme", "CREATE TABLE waiting AS SELECT 1 AS n; SELECT pg_switch_wal()");
    await eventually(180, async () => {
      const { code, stdout } = await checkout.pgs(["backups", "--json"]);
      expect(JSON.parse(stdout)[0].problem).toMatch(/ContinuousArchiving/);
      expect(code).toBe(1);
    });
    s3.away = false;
    await eventually(180, async () => expect((await statuses())[0]?.problem).toBe(null));
  });
});

describe("a restore", () => {
  let at: string;

  test("to a second has what was there then, under the copy's name, and leaves the tenant as it is", async () => {
    const [{ now } = {}] = await query("acme", "SELECT pg_catalog.clock_timestamp() AS now");
    at = (now as Date).toISOString();
    await query("acme", "INSERT INTO written VALUES (2000)");
    await query("acme", "SELECT pg_switch_wal()");
    await eventually(60, async () => expect((await statuses())[0]?.behind).toBeLessThan(1 << 20));
    await pgs("restore", "acme", "--at", at, "--as", "early", "--yes");
    entries = { acme: {}, early: { restoreFrom: { tenant: "acme", at } } };
    expect(await count("early")).toEqual({ rows: 1000, last: 1000 });
    expect(await query("early", "SELECT current_database() AS name")).toEqual([{ name: "early" }]);
    expect(await count("acme")).toEqual({ rows: 1001, last: 2000 });
    await checkout.pulumi("preview", "--refresh", "--expect-no-changes");
  }, 600_000);

  test("counts once: taken out, nothing changes; of a tenant with data, it is refused at its line", async () => {
    checkout.write("tenants.yaml", file({ acme: { restoreFrom: { tenant: "acme" } }, early: {} }, defaults));
    const { code, output } = await checkout.tryPulumi("preview");
    expect(code).not.toBe(0);
    expect(output).toMatch(/tenants\.yaml:\d+:\d+: tenants\.acme\.restoreFrom: the tenant has data/);
    entries = { acme: {}, early: {} };
    await apply();
    expect(await count("early")).toEqual({ rows: 1000, last: 1000 });
    await checkout.pulumi("preview", "--refresh", "--expect-no-changes");
  }, 600_000);

  test("of what is not there, or to a time that the WAL does not reach, fails and says so", async () => {
    const late = new Date(Date.now() - 1000).toISOString();
    const refused = {
      none: { restoreFrom: { tenant: "nobody" } },
      late: { restoreFrom: { tenant: "acme", at: late } },
    };
    checkout.write("tenants.yaml", file({ ...entries, ...refused }, defaults));
    const { code, output } = await checkout.pgs(["up", "--yes"]);
    expect(code).not.toBe(0);
    expect(output).toContain(`there is no base backup of nobody at s3://${bucket}/of/pgs`);
    expect(output).toContain(
      `restore of acme into ${checkout.name("late")}: recovery ended before configured recovery target was reached`,
    );
    await apply();
    expect(await count("acme")).toEqual({ rows: 1001, last: 2000 });
  }, 600_000);
});

describe("moving up", () => {
  let docker: Checkout;

  beforeAll(async () => {
    docker = await Checkout.create(file({ hooli: {} }, { memory: "256Mi" }), backups());
    await setCredentials(docker);
    await docker.up();
  });
  afterAll(() => docker?.remove());

  test("a tenant of a stack on Docker comes up on the cluster from the bucket, with every row", async () => {
    await docker.query("hooli", "CREATE TABLE written AS SELECT generate_series(1, 1000) AS n");
    await eventually(120, async () => {
      const keys = await s3.list(bucket, "of/pgs/tenant-hooli/");
      expect(keys.some((key) => key.endsWith("/backup.info"))).toBe(true);
    });
    await docker.query("hooli", "INSERT INTO written VALUES (2000)");
    const { code, output } = await docker.pgs(["disable-access", "hooli", "--yes"]);
    expect(code, output).toBe(0);
    // The last of it is in a segment that the server still fills.
    await eventually(150, async () =>
      expect((await docker.pgs(["backups"])).stdout).toMatch(/^hooli .* all there +all there /m),
    );
    entries = { ...entries, hooli: { restoreFrom: { tenant: "hooli" } } };
    await apply();
    expect(await count("hooli")).toEqual({ rows: 1001, last: 2000 });
    expect(await query("hooli", "SHOW shared_buffers")).toEqual([{ shared_buffers: "64MB" }]);
    await checkout.pulumi("preview", "--refresh", "--expect-no-changes");
    // It is backed up there from then on.
    await eventually(180, async () => {
      const found = (await statuses()).find(({ tenant }) => tenant === "hooli");
      expect(found).toMatchObject({ problem: null, pending: null });
    });
  }, 900_000);
});

test("./pgs up says which rights the user of the kubeconfig lacks, those for the bucket too", async () => {
  const name = `${checkout.prefix}-user`;
  const proxy = checkout.name("proxy");
  const resources = [
    ...["namespaces", "secrets", "serviceaccounts", "services", "pods/exec", "deployments"],
    ...["networkpolicies", "poddisruptionbudgets", "roles", "rolebindings", "clusterroles", "clusters"],
    ...["ingressroutetcps", "middlewaretcps", "tlsoptions", "tlsstores", "endpointslices"],
    "customresourcedefinitions",
  ];
  await cluster.apply(
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace: proxy } },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name },
      rules: [{ apiGroups: ["*"], resources, verbs: ["*"] }],
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name },
      subjects: [{ kind: "ServiceAccount", name, namespace: proxy }],
    },
  );
  const useKubeconfig = (path: string) =>
    checkout.pulumi("config", "set", "--path", "pgs:kubernetes.kubeconfig", path);
  try {
    const token = (await cluster.kubectl("-n", proxy, "create", "token", name)).trim();
    const admin = JSON.parse(await cluster.kubectl("config", "view", "--raw", "-o", "json"));
    admin.users[0].user = { token };
    checkout.write("user.json", JSON.stringify(admin));
    await useKubeconfig("user.json");
    const { code, output } = await checkout.pgs(["up", "--yes"]);
    expect(code).toBe(1);
    expect(output).toMatch(
      /may not do what an up does: create scheduledbackups\.postgresql\.cnpg\.io, create pods, create configmaps$/m,
    );
  } finally {
    await useKubeconfig(cluster.kubeconfig);
    await cluster.kubectl("delete", "clusterrole,clusterrolebinding", name);
  }
});

function backups(): Record<string, string> {
  return {
    "backups.schedule": "02:30",
    "backups.destination": `s3://${bucket}/of/pgs`,
    "backups.endpoint": `http://${host}:${s3.port}`,
  };
}

async function setCredentials(on: Checkout): Promise<void> {
  for (const [key, value] of Object.entries({ accessKeyId, secretAccessKey })) {
    await on.pulumi("config", "set", "--secret", "--path", `pgs:backupCredentials.${key}`, value);
  }
}

function file(tenants: Record<string, object>, defaults: object): string {
  return stringify({ defaults, tenants });
}

const pgs = (...args: string[]) => checkout.succeedPgs(...args);

function apply(): Promise<string> {
  checkout.write("tenants.yaml", file(entries, defaults));
  return pgs("up", "--yes");
}

interface Status {
  tenant: string;
  problem: string | null;
  behind: number;
}

async function statuses(): Promise<Status[]> {
  return JSON.parse((await checkout.pgs(["backups", "--json"])).stdout);
}

const query = (id: string, sql: string) => checkout.query(id, sql);

async function count(id: string) {
  return (await query(id, "SELECT count(*)::int AS rows, max(n) AS last FROM written"))[0];
}
