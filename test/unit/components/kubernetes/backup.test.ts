import { describe, expect, it } from "vitest";
import { type Graph, runProgram } from "../../support/program";
import { isSecret, plain } from "../../support/wire";

const bucket = {
  "pgs:platform": "kubernetes",
  "pgs:backups": JSON.stringify({
    schedule: "02:30",
    destination: "s3://bucket/of/pgs",
    endpoint: "http://10.0.0.1:9000",
  }),
  "pgs:backupCredentials": JSON.stringify({ accessKeyId: "who", secretAccessKey: "never-shown" }),
};

const run = (fields: string, config: Record<string, string> = bucket): Promise<Graph> =>
  runProgram(`defaults: { superuser: on }\ntenants: { acme: { ${fields} } }`, config);

// biome-ignore lint/suspicious/noExplicitAny: the objects are of many kinds
function inputsOf(graph: Graph, type: string, name = "acme"): any {
  const found = graph.resources.find((one) => one.type.endsWith(`:${type}`) && one.name === name);
  return found && plain(found.inputs);
}

describe("a tenant's backups on Kubernetes", () => {
  it("are its Cluster's, by the credentials of a Secret", async () => {
    const graph = await run("backup: { schedule: 05:07, retention: 30d }");
    const key = (name: string) => ({ name: "acme-backup", key: name });
    expect(inputsOf(graph, "Cluster").spec.backup).toMatchObject({
      retentionPolicy: "30d",
      barmanObjectStore: {
        destinationPath: "s3://bucket/of/pgs/tenant-acme",
        endpointURL: "http://10.0.0.1:9000",
        s3Credentials: { accessKeyId: key("accessKeyId"), secretAccessKey: key("secretAccessKey") },
        wal: { compression: "gzip", encryption: "AES256" },
      },
    });
    expect(inputsOf(graph, "ScheduledBackup").spec).toMatchObject({
      schedule: "0 7 5 * * *",
      suspend: false,
    });
    const secret = graph.resources.find(({ name }) => name === "acme-backup");
    expect(isSecret(secret?.inputs.data)).toBe(true);
  });

  it("get out to the bucket's port", async () => {
    /** Those that are open to any address. */
    const ports = (graph: Graph) =>
      inputsOf(graph, "NetworkPolicy")
        .spec.egress.filter((rule: object) => !("to" in rule))
        .flatMap((rule: { ports: { port: number }[] }) => rule.ports.map(({ port }) => port));
    expect(ports(await run(""))).toEqual([9000]);
    const off = { "pgs:platform": "kubernetes", "pgs:backups": '{"schedule":"off"}' };
    expect(ports(await run("", off))).toEqual([]);
  });

  it("need it said that a superuser is trusted with the bucket", async () => {
    const untold = (fields: string) => runProgram(`tenants: { acme: { ${fields} } }`, bucket);
    const reason = /tenants\.yaml:1:12: tenants\.acme\.superuser: it has no default on Kubernetes/;
    await expect(untold("")).rejects.toThrow(reason);
    await expect(untold("restoreFrom: { tenant: acme }, backup: { schedule: off }")).rejects.toThrow(reason);
    await untold("superuser: off");
    await untold("superuser: on");
    await expect(untold("backup: { schedule: off }")).rejects.toThrow(reason);
  });

  it("are none where the entry says so, and pause while it is stopped", async () => {
    const none = await run("backup: { schedule: off }");
    expect(inputsOf(none, "Cluster").spec).not.toHaveProperty("backup");
    expect(inputsOf(none, "ScheduledBackup")).toBeUndefined();
    expect(inputsOf(none, "Secret", "acme-backup")).toBeUndefined();
    expect(inputsOf(await run("state: stopped"), "ScheduledBackup").spec.suspend).toBe(true);
  });
});

describe("restoreFrom on Kubernetes", () => {
  it("makes the Cluster from the other's folder in the bucket, as of that second", async () => {
    const graph = await run("restoreFrom: { tenant: globex, at: 2026-11-23T10:15:00Z }");
    const { metadata, spec } = inputsOf(graph, "Cluster");
    expect(metadata.annotations["pgs.restored-from"]).toBe("globex at 2026-11-23T10:15:00Z");
    expect(spec.bootstrap).toEqual({
      recovery: {
        source: "backups",
        database: "globex",
        owner: "globex",
        recoveryTarget: { targetTime: "2026-11-23 10:15:00.000000+00" },
      },
    });
    expect(spec.externalClusters[0].barmanObjectStore.destinationPath).toBe(
      "s3://bucket/of/pgs/tenant-globex",
    );
    expect(inputsOf(graph, "RestoreSource")).toMatchObject({ from: "globex", credentials: "acme-backup" });
    expect(inputsOf(graph, "ClusterRollout").restoredFrom).toBe("globex");
  });

  it("with superuser: off is of its own backups alone", async () => {
    await expect(run("superuser: off, restoreFrom: { tenant: globex }")).rejects.toThrow(
      /tenants\.yaml:2:\d+: tenants\.acme\.restoreFrom: a tenant with superuser: off/,
    );
    const { spec } = inputsOf(await run("superuser: off, restoreFrom: { tenant: acme }"), "Cluster");
    expect(spec.bootstrap.recovery).toMatchObject({ owner: "acme", secret: { name: "acme-login" } });
  });
});
