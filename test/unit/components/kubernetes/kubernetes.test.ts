import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { find, inTheClear } from "../../support/graph";
import {
  type Graph,
  generatedPassword,
  type Registration,
  runProgram,
  stackId,
  temporaryFolder,
} from "../../support/program";
import { isSecret, plain } from "../../support/wire";

const onCluster = { "pgs:platform": "kubernetes" };

function run(fields = "", kubernetes: object = {}, config: Record<string, string> = {}): Promise<Graph> {
  return runProgram(`tenants: { acme: { ${fields} } }`, {
    ...onCluster,
    "pgs:kubernetes": JSON.stringify(kubernetes),
    ...config,
  });
}

// biome-ignore lint/suspicious/noExplicitAny: the objects are of many kinds
type Manifest = Record<string, any>;

function registered(graph: Graph, kind: string, name = "acme"): Registration | undefined {
  return graph.resources.find(
    (one) => one.type.startsWith("kubernetes:") && one.type.endsWith(`:${kind}`) && one.name === name,
  );
}

/** An object as its manifest says it, without what is Pulumi's. */
function manifest(graph: Graph, kind: string, name = "acme"): Manifest {
  const { inputs } = registered(graph, kind, name) ?? {};
  expect(inputs, `${kind} ${name}`).toBeDefined();
  return plain(inputs) as Manifest;
}

const kindsOf = (graph: Graph, name = "acme") =>
  graph.resources
    .filter((one) => one.type.startsWith("kubernetes:") && one.parent === `pgs:index:PgTenant ${name}`)
    .map(({ type }) => type.split(":").at(-1));

describe("a tenant on Kubernetes", () => {
  it("is a namespace with a Cluster, its password and a NetworkPolicy, and a route beside the proxy", async () => {
    expect(kindsOf(await run())).toEqual([
      "Namespace",
      "Secret",
      "NetworkPolicy",
      "Cluster",
      "Service",
      "IngressRouteTCP",
    ]);
  });

  it("has what is inside of its server in one resource: passwords are secrets, and a new server says that it is new", async () => {
    const graph = await run("extensions: [hstore], roles: { app: { grants: owner } }, superuser: off");
    const database = graph.resources.find(({ type }) => type === "pgs:index:TenantDatabase");
    expect(plain(database?.inputs)).toMatchObject({
      namespace: "pgs-acme",
      user: "acme",
      roles: { app: { grants: "owner" } },
      extensions: { hstore: "" },
    });
    for (const field of ["password", "rolePasswords"]) expect(isSecret(database?.inputs[field])).toBe(true);
    expect(manifest(graph, "Cluster").spec.bootstrap.initdb.postInitSQL).toEqual([
      "ALTER DATABASE postgres SET pgs.creating = 'acme'",
    ]);
  });

  it("has a namespace of its own with restricted pods, which says whose it is", async () => {
    const { metadata } = manifest(await run("", {}, { "pgs:prefix": "dev" }), "Namespace");
    expect(metadata).toMatchObject({
      name: "dev-acme",
      labels: {
        "pgs.stack": stackId,
        "pgs.tenant": "acme",
        "pod-security.kubernetes.io/enforce": "restricted",
      },
    });
  });

  it("is the Cluster that its fields say", async () => {
    const fields =
      "memory: 1Gi, cpus: 1.5, replicas: 2, disk: 20Gi, settings: { work_mem: 16MB, jit: false }";
    const { metadata, spec } = manifest(await run(fields, { storageClass: "fast" }), "Cluster");
    expect(metadata).toMatchObject({ name: "acme", namespace: "pgs-acme", labels: { "pgs.version": "18" } });
    const limits = { memory: "1Gi", cpu: "1500m" };
    expect(spec).toMatchObject({
      instances: 3,
      imageName: expect.stringMatching(/\/postgresql:18\./),
      enableSuperuserAccess: true,
      superuserSecret: { name: "acme-login" },
      bootstrap: { initdb: { database: "acme", owner: "acme" } },
      storage: { size: "20Gi", storageClass: "fast" },
      resources: { requests: limits, limits },
      postgresql: {
        parameters: expect.objectContaining({ work_mem: "16MB", jit: "off", shared_buffers: "256MB" }),
        synchronous: { method: "any", number: 1, failoverQuorum: true },
      },
    });
  });

  it.each([
    ["", undefined],
    ["replicas: 1", undefined],
    ["replicas: 1, sync: on", { method: "any", number: 1, failoverQuorum: true }],
    ["replicas: 2", { method: "any", number: 1, failoverQuorum: true }],
    ["replicas: 2, sync: off", undefined],
  ])("waits for a replica where it says so, and with two by default: %s", async (fields, expected) => {
    const { spec } = manifest(await run(fields), "Cluster");
    expect((spec.postgresql as { synchronous?: object }).synchronous).toEqual(expected);
  });

  it("logs in as its server's superuser, or with superuser: off as the owner of its database", async () => {
    const decoded = (graph: Graph) => {
      const { data } = manifest(graph, "Secret") as unknown as { data: Record<string, string> };
      return Object.values(plain<Record<string, unknown>>(data)).map((text) =>
        Buffer.from(plain<string>(text), "base64").toString(),
      );
    };
    expect(decoded(await run())).toEqual([generatedPassword("acme"), "postgres"]);
    const graph = await run("superuser: off");
    expect(decoded(graph)).toEqual([generatedPassword("acme"), "acme"]);
    const { spec } = manifest(graph, "Cluster");
    expect(spec).toMatchObject({
      enableSuperuserAccess: false,
      bootstrap: { initdb: { secret: { name: "acme-login" } } },
    });
    expect(spec).not.toHaveProperty("superuserSecret");
  });

  it("is reached by its hostname, through the name of its primary's Service", async () => {
    const graph = await run("hostname: db", {}, { "pgs:domain": "pgs.example.com", "pgs:port": "6432" });
    expect(manifest(graph, "IngressRouteTCP")).toMatchObject({
      metadata: { name: "acme", namespace: "pgs-proxy" },
      spec: {
        entryPoints: ["postgres"],
        routes: [{ match: "HostSNI(`db.pgs.example.com`)", services: [{ name: "acme", port: 5432 }] }],
        tls: {},
      },
    });
    expect(manifest(graph, "Service").spec).toMatchObject({
      type: "ExternalName",
      externalName: "acme-rw.pgs-acme.svc.cluster.local",
    });
    expect(plain(graph.outputs.connectionStrings)).toEqual({
      acme: `postgresql://postgres:${generatedPassword("acme")}@db.pgs.example.com:6432/acme?sslmode=require`,
    });
  });

  it("whose access is off has no route, and its server refuses clients before it ends their sessions", async () => {
    const graph = await run("access: false");
    expect(kindsOf(graph)).toEqual(["Namespace", "Secret", "NetworkPolicy", "Cluster"]);
    const { spec } = manifest(graph, "Cluster");
    expect((spec.postgresql as { pg_hba: string[] }).pg_hba).toEqual(["host all all all reject"]);
    const rollout = graph.resources.find(({ type }) => type === "pgs:index:ClusterRollout");
    expect(rollout?.inputs.closed).toBe("host all all all reject");
    expect(rollout?.dependencies).toContain("kubernetes:postgresql.cnpg.io/v1:Cluster acme");
  });

  it("that is stopped is hibernated, without a route", async () => {
    const graph = await run("state: stopped");
    expect(manifest(graph, "Cluster").metadata).toMatchObject({
      annotations: { "cnpg.io/hibernation": "on" },
    });
    expect(kindsOf(graph)).not.toContain("IngressRouteTCP");
  });

  it("keeps Cluster, namespace and NetworkPolicy when its entry goes, unless onRemove: delete was applied", async () => {
    const retained = (graph: Graph) =>
      graph.resources
        .filter(({ retainOnDelete }) => retainOnDelete)
        .map(({ type }) => type.split(":").at(-1));
    expect(retained(await run()).sort()).toEqual(["Cluster", "Namespace", "NetworkPolicy"]);
    expect(retained(await run("onRemove: delete"))).toEqual([]);
  });

  it("is checked before its namespace is made, and its servers are shut down after its route is gone", async () => {
    const graph = await run();
    const data = "pgs:index:TenantData acme";
    expect(registered(graph, "Namespace")?.dependencies).toContain(data);
    expect(registered(graph, "IngressRouteTCP")?.dependencies).toContain("pgs:index:TenantDatabase acme");
    const own = graph.resources.find(({ type }) => type === "pgs:index:TenantData");
    expect(own?.ignoreChanges).toEqual(["namespace"]);
  });

  it("lets in the proxy, the operator and its own servers, and out to nothing of other tenants", async () => {
    const { spec } = manifest(await run(), "NetworkPolicy");
    expect(spec).toMatchObject({
      podSelector: {},
      policyTypes: ["Ingress", "Egress"],
      ingress: [
        { from: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "pgs-proxy" } } }] },
        { from: [{ podSelector: { matchLabels: { "app.kubernetes.io/name": "cloudnative-pg" } } }] },
        { from: [{ podSelector: {} }] },
      ],
    });
    const toOthers = (spec.egress as { to?: { namespaceSelector?: object }[]; ports: { port: number }[] }[])
      .filter(({ to }) => to === undefined || to.some(({ namespaceSelector }) => namespaceSelector))
      .flatMap(({ ports }) => ports.map(({ port }) => port));
    expect(toOthers).not.toContain(5432);
  });

  it("has its password in secrets alone", async () => {
    const graph = await run();
    const secret = new RegExp(
      [generatedPassword("acme"), Buffer.from(generatedPassword("acme")).toString("base64")].join("|"),
    );
    expect(JSON.stringify(graph)).toMatch(secret);
    expect(inTheClear(graph)).not.toMatch(secret);
    expect(isSecret(registered(graph, "Secret")?.inputs.data)).toBe(true);
  });
});

describe("the proxy on Kubernetes", () => {
  it("reads the objects of its own namespace alone", async () => {
    const graph = await run();
    const kinds = graph.resources.map(({ type }) => type);
    expect(kinds.filter((type) => /ClusterRole/.test(type))).toEqual([]);
    const { spec } = manifest(graph, "Deployment", "proxy/traefik");
    expect(JSON.stringify(spec)).toContain("--providers.kubernetesCRD.namespaces=pgs-proxy");
  });

  it.each([
    ["LoadBalancer", "5432", { type: "LoadBalancer", ports: [{ port: 5432 }] }],
    ["NodePort", "30432", { type: "NodePort", ports: [{ nodePort: 30_432 }] }],
  ])("is exposed by a Service of type %s", async (exposure, port, expected) => {
    const graph = await run("", { exposure }, { "pgs:port": port });
    expect(manifest(graph, "Service", "proxy/traefik").spec).toMatchObject(expected);
  });

  it("is exposed by a port of its nodes without a Service, and then makes room for its successor", async () => {
    const graph = await run("", { exposure: "hostPort", proxyReplicas: 1 });
    expect(registered(graph, "Service", "proxy/traefik")).toBeUndefined();
    expect(manifest(graph, "Deployment", "proxy/traefik").spec).toMatchObject({
      replicas: 1,
      strategy: { rollingUpdate: { maxSurge: 0 } },
      template: { spec: { containers: [{ ports: [{ hostPort: 5432 }] }] } },
    });
  });

  it("has the key of its certificate in a secret", async () => {
    const graph = await run();
    expect(isSecret(registered(graph, "Secret", "proxy/certificate")?.inputs.data)).toBe(true);
    expect(inTheClear(graph)).not.toContain(Buffer.from("server key\n").toString("base64"));
  });
});

describe("who may come in", () => {
  it("goes by middlewares of the route, and the load balancer shows the clients' own addresses", async () => {
    const graph = await run(
      "allow: [10.0.0.0/8], maxConnectionsPerClient: 3",
      {},
      { "pgs:allow": '["10.1.0.0/16"]' },
    );
    expect(manifest(graph, "MiddlewareTCP", "acme/allow").spec).toEqual({
      ipAllowList: { sourceRange: ["10.1.0.0/16"] },
    });
    expect(manifest(graph, "MiddlewareTCP", "acme/per-client").spec).toEqual({ inFlightConn: { amount: 3 } });
    expect(manifest(graph, "IngressRouteTCP").spec.routes[0].middlewares).toEqual([
      { name: "acme--allow" },
      { name: "acme--per-client" },
    ]);
    expect(manifest(graph, "Service", "proxy/traefik").spec.externalTrafficPolicy).toBe("Local");
  });

  it("is refused where a port of all nodes hides the clients' addresses", async () => {
    const exposed = { exposure: "NodePort" };
    const port = { "pgs:port": "30432" };
    await expect(run("allow: [10.0.0.0/8]", exposed, port)).rejects.toThrow(
      /tenants\.acme\.allow: with pgs:kubernetes\.exposure NodePort, the proxy does not see/,
    );
    await expect(run("", exposed, { ...port, "pgs:allow": '["10.0.0.0/8"]' })).rejects.toThrow(
      /^pgs:allow: with/m,
    );
  });
});

describe("the pooler", () => {
  it("is a Pooler with the tenant's fields, reached by a hostname and a route of its own", async () => {
    const graph = await run("pooler: { mode: session, size: 7 }", {
      images: { pooler: "registry.local/b:1.25" },
    });
    const { metadata, spec } = manifest(graph, "Pooler");
    expect(metadata).toMatchObject({ name: "acme-pooler", namespace: "pgs-acme" });
    expect(metadata.annotations).toMatchObject({ "pulumi.com/deletionPropagationPolicy": "background" });
    expect(spec).toMatchObject({ cluster: { name: "acme" }, type: "rw", pgbouncer: { poolMode: "session" } });
    expect(spec.pgbouncer.parameters).toMatchObject({ default_pool_size: "7", max_db_connections: "7" });
    expect(spec.template.spec.containers[0].image).toBe("registry.local/b:1.25");
    expect(manifest(graph, "Service", "acme/pooler").spec.externalName).toBe(
      "acme-pooler.pgs-acme.svc.cluster.local",
    );
    expect(manifest(graph, "IngressRouteTCP", "acme/pooler").spec.routes[0].match).toBe(
      "HostSNI(`acme-pooler.pgs.localhost`)",
    );
  });

  it("is none without the field, and of a tenant that is closed or stopped", async () => {
    for (const fields of ["", "pooler: {}, access: false", "pooler: {}, state: stopped"]) {
      const graph = await run(fields);
      expect(registered(graph, "Pooler"), fields).toBeUndefined();
      expect(registered(graph, "IngressRouteTCP", "acme/pooler"), fields).toBeUndefined();
    }
  });
});

describe("the replicas", () => {
  it("have a hostname and a route of their own", async () => {
    const graph = await run("replicas: 1");
    expect(manifest(graph, "Service", "acme/replicas").spec.externalName).toBe(
      "acme-ro.pgs-acme.svc.cluster.local",
    );
    expect(manifest(graph, "IngressRouteTCP", "acme/replicas").spec.routes[0].match).toBe(
      "HostSNI(`acme-ro.pgs.localhost`)",
    );
    expect(registered(await run(), "IngressRouteTCP", "acme/replicas")).toBeUndefined();
  });

  it("keep their hostname from other tenants", async () => {
    const tenants = "tenants: { acme: { replicas: 1 }, acme-ro: {} }";
    await expect(runProgram(tenants, onCluster)).rejects.toThrow(
      /the hostname acme-ro is that of the replicas of tenants\.acme/,
    );
  });
});

describe("the operator", () => {
  const definition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: clusters.postgresql.cnpg.io }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: cnpg-controller-manager, namespace: cnpg-system }
`;

  it("is installed from its manifest, and nothing takes it, or the definition of Clusters, away again", async () => {
    const operatorManifest = join(temporaryFolder(), "cnpg.yaml");
    writeFileSync(operatorManifest, definition);
    const graph = await run("", { operatorManifest });
    const crd = registered(
      graph,
      "CustomResourceDefinition",
      "CustomResourceDefinition/clusters.postgresql.cnpg.io",
    );
    expect(crd?.retainOnDelete).toBe(true);
    const deployment = registered(graph, "Deployment", "Deployment/cnpg-system/cnpg-controller-manager");
    expect(deployment?.retainOnDelete).toBe(true);
    expect(deployment?.dependencies).toContain(`${crd?.type} ${crd?.name}`);
    expect(registered(graph, "Cluster")?.dependencies).toContain("pgs:index:KubernetesOperator operator");
  });

  it("that is no manifest is refused", async () => {
    const operatorManifest = join(temporaryFolder(), "none.yaml");
    writeFileSync(operatorManifest, "a: b");
    await expect(run("", { operatorManifest })).rejects.toThrow(
      /pgs:kubernetes\.operatorManifest: .*expected a manifest/,
    );
  });
});

describe("what a platform does not have", () => {
  it.each([
    ["icu: und", /tenants\.yaml:1:\d+: tenants\.acme\.icu: there is no icu on Kubernetes: make a database/],
    [
      "roles: { acme: {} }",
      /tenants\.acme\.roles\.acme: CloudNativePG has a role of this name in the server/,
    ],
    ["restoreFrom: { tenant: globex }", /tenants\.acme\.restoreFrom: it is restored from a bucket/],
    [
      "tls: passthrough",
      /tenants\.acme\.tls: there is no tls: "passthrough" on Kubernetes: TLS ends at the proxy/,
    ],
    ['disk: "off"', /tenants\.acme\.disk: there is no disk: "off" on Kubernetes: a volume has a size/],
    ["sync: on", /tenants\.acme\.sync: sync: on needs a replica/],
  ])("is refused on Kubernetes at its line: %s", async (fields, message) => {
    await expect(run(fields)).rejects.toThrow(message);
  });

  it.each([
    [
      '{"barman":"registry.local/barman:3.19.1"}',
      /pgs:images\.barman: Kubernetes has no such key: nothing uses it/,
    ],
    ['{"18":"registry.local/pg:18.1"}', /pgs:images\.18: .*it is one of pgs:kubernetes\.images there/],
  ])("is refused among pgs:images: %s", async (images, message) => {
    await expect(run("", {}, { "pgs:images": images })).rejects.toThrow(message);
  });

  it("may be written where it means the same", async () => {
    await run("tls: terminate");
  });

  it("is refused on Docker at its line, and what defaults say too", async () => {
    await expect(runProgram("defaults: { sync: off }\ntenants: { acme: { replicas: 1 } }")).rejects.toThrow(
      /:1:13: defaults\.sync: there is no sync on Docker.*\n.*:2:20: tenants\.acme\.replicas: there is no replicas on Docker/,
    );
  });
});

it("a stack on Docker has nothing of Kubernetes", async () => {
  const { resources } = await runProgram("tenants: { acme: {} }");
  expect(resources.filter(({ type }) => /kubernetes|Cluster|TenantData/i.test(type))).toEqual([]);
  expect(find(await runProgram("tenants: { acme: {} }"), "server").parent).toBe("pgs:index:PgTenant acme");
});
