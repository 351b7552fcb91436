import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import * as pulumi from "@pulumi/pulumi";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { containerOptions, type ServerContainer } from "../../provider/postgres-server/container";
import { unwrap } from "../../provider/wire";
import { certificateFiles } from "./support/certificates";
import {
  type Graph,
  generatedPassword,
  imageId,
  proxyAddress,
  type Registration,
  runProgram,
  temporaryFolder,
} from "./support/program";
import { isSecret, plain } from "./support/wire";

const types = {
  attachment: "pgs:index:Attachment",
  backups: "pgs:index:Backups",
  certificate: "pgs:index:WildcardCertificate",
  container: "docker:index/container:Container",
  file: "pgs:index:TraefikFile",
  image: "docker:index/remoteImage:RemoteImage",
  images: "pgs:index:PostgresImages",
  mark: "pgs:index:StackMark",
  network: "pgs:index:Network",
  networks: "pgs:index:TenantNetworks",
  password: "random:index/randomPassword:RandomPassword",
  provider: "pulumi:providers:pgs",
  proxy: "pgs:index:PostgresProxy",
  restore: "pgs:index:Restore",
  server: "pgs:index:PostgresServer",
  stack: "pulumi:pulumi:Stack",
  tenant: "pgs:index:PgTenant",
  volume: "docker:index/volume:Volume",
} as const;

function find(graph: Graph, kind: keyof typeof types, name = "acme"): Registration {
  const found = graph.resources.filter((one) => one.type === types[kind] && one.name === name);
  expect(found, `${kind} ${name}`).toHaveLength(1);
  return found[0] as Registration;
}

/** What the engine is told of a tenant's container. */
function containerOf(graph: Graph, id = "acme") {
  return containerOptions(unwrap(find(graph, "server", id).inputs) as ServerContainer);
}

/** `TYPE NAME` of the resources below one, sorted. */
function childrenOf(graph: Graph, kind: keyof typeof types, name: string): string[] {
  return graph.resources
    .filter((one) => one.parent === `${types[kind]} ${name}`)
    .map((one) => `${one.type} ${one.name}`)
    .sort();
}

/** One tenant, acme, with these fields in YAML's one-line form. */
function runTenant(fields = "", config: Record<string, string> = {}): Promise<Graph> {
  return runProgram(`tenants: { acme: { ${fields} } }`, config);
}

interface Route {
  tcp: {
    routers: Record<string, Record<string, unknown>>;
    services: Record<string, { loadBalancer: { servers: { address: string }[] } }>;
  };
}

interface RouteFile {
  container: string;
  path: string;
  content: string;
}

function routeFileOf(graph: Graph, name = "acme"): RouteFile {
  return find(graph, "server", name).inputs.route as RouteFile;
}

function routeOf(graph: Graph, name = "acme"): Route | null {
  return parse(routeFileOf(graph, name).content);
}

function connectionString(graph: Graph, id = "acme"): string | undefined {
  return plain<Record<string, string>>(graph.outputs.connectionStrings)[id];
}

function sorted(graph: Graph): Registration[] {
  const key = (one: Registration) => `${one.type} ${one.name}`;
  return graph.resources.toSorted((a, b) => key(a).localeCompare(key(b)));
}

/** The registration without the inputs that Pulumi ignores once the resource is made. */
function counting(one: Registration | undefined): unknown {
  const inputs = Object.entries(one?.inputs ?? {}).filter(([key]) => !one?.ignoreChanges.includes(key));
  return { ...one, inputs };
}

describe("the stack", () => {
  it("is a provider, a certificate, a mark, a proxy, networks, images, and one component a tenant", async () => {
    const graph = await runProgram("tenants: { acme: {}, globex: {} }");
    expect(childrenOf(graph, "stack", "pgs-test")).toEqual(
      [
        `${types.certificate} certificate`,
        `${types.images} images`,
        `${types.mark} stack`,
        `${types.networks} networks`,
        `${types.proxy} proxy`,
        `${types.provider} pgs`,
        `${types.tenant} acme`,
        `${types.tenant} globex`,
      ].sort(),
    );
  });

  it.each(["network", "shared"])(
    "hands every pgs resource to the explicit provider, whose state holds no configuration (isolation: %s)",
    async (isolation) => {
      const config = { "pgs:isolation": isolation, "pgs:passwords": '{"acme":"own"}' };
      const graph = await runTenant("", config);
      expect(find(graph, "provider", "pgs").inputs).toEqual({});
      const custom = graph.resources.filter((one) => one.custom && one.type.startsWith("pgs:"));
      expect(new Set(custom.map(({ type }) => type))).toEqual(
        new Set([types.attachment, types.network, types.file, types.server]),
      );
      for (const one of custom) expect(one.provider, one.type).toBe(`${types.provider} pgs`);
    },
  );

  it("has the certificate in its own component, signed by a CA of its own", async () => {
    const graph = await runTenant();
    expect(childrenOf(graph, "certificate", "certificate")).toEqual([
      "tls:index/certRequest:CertRequest server",
      "tls:index/locallySignedCert:LocallySignedCert server",
      "tls:index/privateKey:PrivateKey ca",
      "tls:index/privateKey:PrivateKey server",
      "tls:index/selfSignedCert:SelfSignedCert ca",
    ]);
  });

  it("has an image for each version that a server runs, and no other", async () => {
    const images = JSON.stringify({
      proxy: "traefik:v3.7.15",
      16: "postgres:16.9-bookworm",
      17: "postgres:17.5-bookworm",
      18: "postgres:18.6-bookworm",
    });
    const graph = await runProgram(
      "tenants: { a: {}, b: {}, c: { version: 17 }, d: { version: 16, state: stopped } }",
      { "pgs:images": images },
    );
    expect(childrenOf(graph, "images", "images")).toEqual([
      `${types.image} postgres-17`,
      `${types.image} postgres-18`,
    ]);
    expect(find(graph, "server", "c").inputs.image).toBe(imageId("postgres:17.5-bookworm"));
  });

  it("keeps images that other stacks may use", async () => {
    const graph = await runTenant();
    const images = graph.resources.filter(({ type }) => type === types.image);
    expect(images.map(({ inputs }) => [inputs.name, inputs.keepLocally])).toEqual(
      expect.arrayContaining([
        ["postgres:18.6-bookworm", true],
        ["traefik:v3.7.15", true],
      ]),
    );
  });

  it("passes the Docker provider's host on to the pgs resources, and none when there is none", async () => {
    const remote = await runTenant("", { "docker:host": "ssh://root@docker.example.com" });
    const local = await runTenant();
    for (const kind of ["network", "server"] as const) {
      expect(find(remote, kind).inputs.host, kind).toBe("ssh://root@docker.example.com");
      expect(find(local, kind).inputs, kind).not.toHaveProperty("host");
    }
    expect(find(remote, "file", "certificate").inputs.host).toBe("ssh://root@docker.example.com");
    expect(find(remote, "network", "proxy").inputs.host).toBe("ssh://root@docker.example.com");
  });
});

describe("a tenant", () => {
  it("is a password, a volume, a network and a server with its container and route, all below its component", async () => {
    const graph = await runTenant();
    expect(childrenOf(graph, "tenant", "acme")).toEqual(
      [
        `${types.network} acme`,
        `${types.password} acme`,
        `${types.server} acme`,
        `${types.volume} acme`,
      ].sort(),
    );
  });

  it("records nothing in the state of its component", async () => {
    expect(find(await runTenant(), "tenant").inputs).toEqual({});
  });

  it("has names that start with the prefix, so that two stacks share a Docker host", async () => {
    const graph = await runTenant("", { "pgs:prefix": "dev" });
    for (const kind of ["network", "volume"] as const) {
      expect(find(graph, kind).inputs.name, kind).toBe("dev-acme");
    }
    expect(find(graph, "server").inputs.container).toBe("dev-acme");
  });

  it("is one server on its own network with its own volume", async () => {
    const { HostConfig } = containerOf(await runTenant());
    expect(HostConfig?.NetworkMode).toBe("pgs-acme");
    expect(HostConfig?.Mounts).toEqual([
      { Type: "volume", Source: "pgs-acme", Target: "/var/lib/postgresql" },
    ]);
    expect(HostConfig).not.toHaveProperty("Binds");
  });

  it("has an internal network of its own, with the proxy attached", async () => {
    const graph = await runTenant("", { "pgs:tenantSubnets": "10.9.0.0/16" });
    expect(find(graph, "network").inputs).toEqual({
      internal: true,
      name: "pgs-acme",
      pool: "10.9.0.0/16",
      prefixLength: 29,
      proxy: "id-of-proxy",
    });
    expect(find(graph, "server").inputs.clients).toBe("all");
    // Its server is still in the old one when another prefix makes a new one.
    expect(find(graph, "network").deleteBeforeReplace).toBe(false);
  });

  it("shares one internal network when the stack says so, and then lets only the proxy in", async () => {
    const graph = await runProgram("tenants: { acme: {}, globex: {} }", { "pgs:isolation": "shared" });
    expect(childrenOf(graph, "networks", "networks")).toEqual([`${types.network} tenants`]);
    expect(childrenOf(graph, "tenant", "acme")).not.toContain(`${types.network} acme`);
    const network = find(graph, "network", "tenants").inputs;
    expect(network).toMatchObject({ internal: true, proxy: "id-of-proxy" });
    for (const id of ["acme", "globex"]) {
      expect(find(graph, "server", id).inputs.network).toBe(network.name);
      expect(find(graph, "server", id).inputs.clients).toBe(`${proxyAddress}/32`);
    }
  });

  it("hands all that can change live to its server", async () => {
    const { inputs } = find(await runTenant("memory: 1Gi, cpus: 2.5, access: false"), "server");
    expect(inputs).toMatchObject({
      access: false,
      container: "pgs-acme",
      adopted: false,
      image: imageId("postgres:18.6-bookworm"),
      stack: "0123456789abcdef",
      state: "running",
      cpus: 2.5,
      database: "acme",
      init: [],
      memory: 2 ** 30,
      version: 18,
    });
  });

  it("hands its settings to its server by when a change of them counts, with sizes for those not set", async () => {
    const settings = "settings: { work_mem: 16MB, jit: false, max_connections: 50 }";
    const { inputs } = find(await runTenant(`memory: 1Gi, ${settings}`), "server");
    expect(inputs).toMatchObject({
      settings: { work_mem: "16MB", jit: "off", effective_cache_size: expect.stringMatching(/MB$/) },
      settingsWithRestart: { max_connections: "50" },
      settingsAtNextStart: { shared_buffers: "256MB" },
    });
    expect(inputs.settings).not.toHaveProperty("max_connections");
    expect(inputs.settingsAtNextStart).not.toHaveProperty("max_connections");
    const positions = inputs.positions as Record<string, string>;
    expect(Object.keys(positions).toSorted()).toEqual(["jit", "max_connections", "work_mem"]);
    expect(new Set(Object.values(positions)).size).toBe(3);
    for (const position of Object.values(positions)) expect(position).toMatch(/tenants\.yaml:1:\d+$/);
  });

  it("has the paths of its init scripts on this machine", async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "a.sql"), "SELECT 1;");
    writeFileSync(join(folder, "hosts.yaml"), "tenants: { acme: { init: [a.sql] } }");
    const graph = await runProgram("", { "pgs:tenantsFile": join(folder, "hosts.yaml") });
    expect(find(graph, "server").inputs.init).toEqual([join(folder, "a.sql")]);
  });

  it("has a route only when the proxy is there and has its certificate", async () => {
    expect(find(await runTenant(), "server").dependencies).toEqual(
      expect.arrayContaining([`${types.container} proxy`, `${types.file} certificate`]),
    );
  });

  it("says when its entry is removed what becomes of its data", async () => {
    const farewell = async (fields: string) => find(await runTenant(fields), "server").inputs.farewell;
    expect(await farewell("")).toContain("stays in the Docker volume pgs-acme");
    expect(await farewell("state: stopped")).toContain("stays in the Docker volume pgs-acme");
    expect(await farewell("onRemove: delete")).toContain("is deleted");
  });

  it("stopped keeps its volume, password and network, and has neither container nor router", async () => {
    const graph = await runTenant("state: stopped");
    expect(childrenOf(graph, "tenant", "acme")).toEqual(
      [
        `${types.network} acme`,
        `${types.password} acme`,
        `${types.server} acme`,
        `${types.volume} acme`,
      ].sort(),
    );
    expect(find(graph, "server").inputs).not.toHaveProperty("image");
    expect(find(graph, "server").inputs.state).toBe("stopped");
    expect(routeOf(graph)).toBeNull();
    expect(connectionString(graph)).toBe(connectionString(await runTenant()));
  });
});

describe("backups", () => {
  const on = { "pgs:backups": '{"schedule":"02:30"}' };
  const backupOf = (graph: Graph, name = "acme") => find(graph, "server", name).inputs.backup;

  it("are on, where nobody says otherwise", async () => {
    const declared = parse(readFileSync(join(__dirname, "../../Pulumi.yaml"), "utf8")).config.backups.default;
    expect(declared).toEqual({ schedule: "02:30", retention: "7d" });
    const graph = await runTenant("", { "pgs:backups": JSON.stringify(declared) });
    expect(backupOf(graph)).toMatchObject({ schedule: "02:30", retention: 7, stopped: false });
  });

  it("can be off, and then there is nothing of them", async () => {
    const graph = await runTenant();
    expect(graph.resources.filter(({ type }) => /Backup|Restore/.test(type))).toEqual([]);
    for (const key of ["backup", "barmanPassword"]) {
      expect(find(graph, "server").inputs).not.toHaveProperty(key);
    }
    expect(find(graph, "server").inputs.settings).not.toHaveProperty("summarize_wal");
  });

  it("are one container, hardened and without a port, whose volume outlives the stack", async () => {
    const graph = await runTenant("", on);
    const { inputs } = find(graph, "container", "backups");
    expect(inputs).toMatchObject({
      name: "pgs--backups",
      user: "999:999",
      readOnly: true,
      capabilities: { drops: ["ALL"] },
      securityOpts: ["no-new-privileges:true"],
      networksAdvanced: [{ name: "pgs--backups" }],
      volumes: [{ volumeName: "pgs--backups", containerPath: "/var/lib/barman" }],
    });
    for (const opening of ["ports", "envs", "command", "privileged"]) {
      expect(inputs).not.toHaveProperty(opening);
    }
    expect(find(graph, "network", "backups").inputs.internal).toBe(true);
    expect(find(graph, "volume", "backups").retainOnDelete).toBe(true);
  });

  it("are a part of each tenant's server, also of one that is stopped", async () => {
    const graph = await runProgram("tenants: { acme: {}, idle: { state: stopped } }", on);
    const backup = { barman: "id-of-backups", schedule: "02:30", retention: 7 };
    expect(backupOf(graph)).toEqual({ ...backup, stopped: false });
    expect(backupOf(graph, "idle")).toEqual({ ...backup, stopped: true });
  });

  it("have for each tenant a password of its own, a secret", async () => {
    const graph = await runProgram("tenants: { acme: {}, globex: {} }", on);
    const passwords = ["acme", "globex"].map((id) => {
      const { barmanPassword } = find(graph, "server", id).inputs;
      expect(isSecret(barmanPassword)).toBe(true);
      return plain<string>(barmanPassword);
    });
    expect(new Set(passwords).size).toBe(2);
    for (const password of passwords) expect(password).toMatch(/^[0-9a-f]{64}$/);
    const rotated = await runTenant("passwordVersion: 2", on);
    expect(passwords).not.toContain(plain(find(rotated, "server").inputs.barmanPassword));
  });

  it("set what a server needs live, and leave it to the operator where he sets it himself", async () => {
    const settings = async (fields: string) => find(await runTenant(fields, on), "server").inputs.settings;
    expect(await settings("")).toMatchObject({
      summarize_wal: "on",
      wal_compression: "lz4",
      max_slot_wal_keep_size: "2GB",
    });
    expect(await settings("settings: { max_slot_wal_keep_size: 9GB }")).toMatchObject({
      max_slot_wal_keep_size: "9GB",
    });
  });

  it("are a tenant's own where it or defaults say so, and are none of it where they are off", async () => {
    const graph = await runProgram(
      `defaults: { backup: { retention: 14d } }
tenants: { acme: {}, globex: { backup: { schedule: 03:00, retention: 30d } }, scratch: { backup: { schedule: off } } }`,
      on,
    );
    expect(backupOf(graph)).toMatchObject({ schedule: "02:30", retention: 14 });
    expect(backupOf(graph, "globex")).toMatchObject({ schedule: "03:00", retention: 30 });
    const { inputs } = find(graph, "server", "scratch");
    expect(inputs).not.toHaveProperty("backup");
    expect(inputs).not.toHaveProperty("barmanPassword");
    expect(inputs.settings).not.toHaveProperty("max_slot_wal_keep_size");
    expect((graph.outputs.tenants as Record<string, { backup: object }>).scratch?.backup).toEqual({
      schedule: "off",
      retention: "14d",
    });
    const restored = "restoreFrom: { tenant: gone }, backup: { schedule: off }";
    expect(find(await runTenant(restored, on), "restore").inputs.from).toBe("gone");
  });

  it("that a tenant wants are refused where the stack has none", async () => {
    await expect(runTenant("backup: { schedule: 03:00 }")).rejects.toThrow(
      /tenants\.yaml:1:\d+: tenants\.acme\.backup\.schedule: pgs:backups\.schedule is off/,
    );
    await runTenant("backup: { schedule: off, retention: 3d }");
  });

  it("are what a tenant is made from before its container", async () => {
    const entry = "restoreFrom: { tenant: gone, at: 2026-01-02T03:04:05Z }";
    const graph = await runTenant(entry, on);
    expect(find(graph, "restore").inputs).toMatchObject({
      volume: "pgs-acme",
      from: "gone",
      at: "2026-01-02T03:04:05Z",
      database: "acme",
      version: 18,
      barman: "pgs--backups",
      backups: "pgs--backups",
      settings: { shared_buffers: "128MB", summarize_wal: "on" },
    });
    expect(find(graph, "server").dependencies).toContain(`${types.restore} acme`);
    expect(find(graph, "server").inputs).toEqual(find(await runTenant("", on), "server").inputs);
    await expect(runTenant(entry)).rejects.toThrow(
      /tenants\.yaml:1:\d+: restoreFrom needs the stack's backups/,
    );
  });
});

describe("a route", () => {
  it("sends the tenant's hostname to its server, except from other tenants' networks", async () => {
    const graph = await runTenant("hostname: db", {
      "pgs:domain": "pgs.example.com",
      "pgs:prefix": "dev",
      "pgs:tenantSubnets": "10.9.0.0/16",
    });
    expect(routeOf(graph)).toEqual({
      tcp: {
        routers: {
          acme: {
            entryPoints: ["postgres"],
            rule: "HostSNI(`db.pgs.example.com`) && !ClientIP(`10.9.0.0/16`)",
            service: "acme",
            tls: {},
          },
        },
        services: { acme: { loadBalancer: { servers: [{ address: "dev-acme:5432" }] } } },
      },
    });
    expect(find(graph, "server").inputs.container).toBe("dev-acme");
  });

  it("uses the entry point that the proxy listens on", async () => {
    const graph = await runTenant();
    const command = find(graph, "container", "proxy").inputs.command as string[];
    expect(routeOf(graph)?.tcp.routers.acme?.entryPoints).toEqual(["postgres"]);
    expect(command).toContain("--entryPoints.postgres.address=:5432/tcp");
  });

  it("is a file of its own in the folder that the proxy watches", async () => {
    const graph = await runProgram("tenants: { acme: {}, globex: {} }");
    const folder = "/etc/traefik/dynamic";
    const { inputs } = find(graph, "container", "proxy");
    expect(inputs.volumes).toEqual([{ volumeName: "pgs-proxy", containerPath: folder }]);
    expect(inputs.command).toContain(`--providers.file.directory=${folder}`);
    for (const id of ["acme", "globex"]) {
      expect(routeFileOf(graph, id)).toMatchObject({
        container: inputs.name,
        path: `${folder}/route-${id}.yml`,
      });
    }
  });

  it("that is closed is a file without a router", async () => {
    const graph = await runTenant("access: false");
    expect(routeOf(graph)).toBeNull();
    expect(find(graph, "server").inputs.access).toBe(false);
  });
});

describe("a tenant whose TLS is passed through", () => {
  const fields = "tls: passthrough, hostname: db";

  it("has a certificate of its own for its hostname, signed by the stack's CA", async () => {
    const graph = await runTenant(fields);
    const made = childrenOf(graph, "tenant", "acme").filter((one) => one.startsWith("tls:"));
    expect(made).toEqual([
      "tls:index/certRequest:CertRequest acme",
      "tls:index/locallySignedCert:LocallySignedCert acme",
      "tls:index/privateKey:PrivateKey acme",
    ]);
    const inputs = (type: string) =>
      graph.resources.find((one) => one.type.endsWith(type) && one.name === "acme")?.inputs;
    expect(inputs(":CertRequest")).toMatchObject({ dnsNames: ["db.pgs.localhost"] });
    expect(inputs(":LocallySignedCert")).toMatchObject({
      caCertPem: "ca certificate\n",
      validityPeriodHours: 365 * 24,
    });
  });

  it("has it in its server, the key a secret, and in no container", async () => {
    const graph = await runTenant(fields);
    const server = find(graph, "server");
    expect(server.inputs.certificate).toBe("acme certificate\nca certificate\n");
    expect(isSecret(server.inputs.key)).toBe(true);
    expect(plain(server.inputs.key)).toBe("acme key\n");
    expect(server.additionalSecretOutputs).toContain("key");
    expect(containerOf(graph)).toEqual(containerOf(await runTenant()));
    for (const terminated of [await runTenant(), await runTenant("tls: terminate")]) {
      expect(find(terminated, "server").inputs).not.toHaveProperty("certificate");
      expect(find(terminated, "server").inputs).not.toHaveProperty("key");
    }
  });

  it("has a route that leaves TLS alone", async () => {
    const graph = await runTenant(fields);
    expect(routeOf(graph)?.tcp.routers.acme?.tls).toEqual({ passthrough: true });
    expect(routeOf(await runTenant(`${fields}, access: false`))).toBeNull();
  });

  it("never gets the operator's own certificate, and the stack's CA is an output then too", async () => {
    const files = certificateFiles(temporaryFolder(), "*.pgs.localhost");
    const graph = await runTenant(fields, { "pgs:certificate": JSON.stringify(files) });
    expect(find(graph, "server").inputs.certificate).toBe("acme certificate\nca certificate\n");
    expect(graph.outputs.caCertificate).toBe("ca certificate\n");
  });

  it("may be stopped", async () => {
    const graph = await runTenant(`${fields}, state: stopped`);
    expect(routeOf(graph)).toBeNull();
    expect(find(graph, "server").inputs).not.toHaveProperty("certificate");
  });
});

describe("a hostname with a random suffix", () => {
  const config = { "pgs:hostnameSuffix": "random" };

  it("is in the route, the connection string and the outputs alike", async () => {
    const graph = await runTenant("", config);
    expect(childrenOf(graph, "tenant", "acme")).toContain("random:index/randomString:RandomString acme");
    const host = "acme-3f9c1a.pgs.localhost";
    expect(routeOf(graph)?.tcp.routers.acme?.rule).toMatch(new RegExp(`^HostSNI\\(\`${host}\`\\)`));
    expect(new URL(connectionString(graph) ?? "").hostname).toBe(host);
    expect(graph.outputs.tenants).toMatchObject({ acme: { host } });
  });

  it("fits in a DNS label with the longest id", async () => {
    const id = "a".repeat(48);
    const graph = await runProgram(`tenants: { ${id}: {} }`, config);
    const { host } = (graph.outputs.tenants as Record<string, { host: string }>)[id] ?? { host: "" };
    expect(host.split(".")[0]?.length).toBeLessThanOrEqual(63);
  });

  it("keeps its suffix whatever else of the tenant changes", async () => {
    const suffix = async (fields: string) =>
      (await runTenant(fields, config)).resources.find(({ type }) => type.endsWith(":RandomString"));
    const before = await suffix("");
    for (const fields of ["state: stopped", "passwordVersion: 2", "access: false", "memory: 1Gi"]) {
      expect(await suffix(fields)).toEqual(before);
    }
  });

  it("is not made of one that the operator wrote", async () => {
    const graph = await runTenant("hostname: acme", config);
    expect(graph.outputs.tenants).toMatchObject({ acme: { host: "acme.pgs.localhost" } });
    expect(childrenOf(graph, "tenant", "acme")).not.toContain("random:index/randomString:RandomString acme");
  });
});

describe("a server's container", () => {
  it("is hardened", async () => {
    const { HostConfig, ...options } = containerOf(await runTenant());
    expect(options.User).toBe("999:999");
    expect(HostConfig).toMatchObject({
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges:true"],
    });
    for (const opening of [
      "Privileged",
      "PortBindings",
      "PublishAllPorts",
      "Devices",
      "ExtraHosts",
      "CapAdd",
    ]) {
      expect(HostConfig).not.toHaveProperty(opening);
    }
    expect(options).not.toHaveProperty("ExposedPorts");
  });

  it("is asked to shut down cleanly, and started again when it ends by itself", async () => {
    const { StopSignal, HostConfig } = containerOf(await runTenant());
    expect(StopSignal).toBe("SIGINT");
    expect(HostConfig?.RestartPolicy?.Name).toBe("unless-stopped");
  });

  it("is checked every two minutes or less often", async () => {
    const { Healthcheck } = containerOf(await runTenant());
    expect(Healthcheck?.Interval).toBeGreaterThanOrEqual(120e9);
  });

  it("runs an image by its id, not by a tag that moves", async () => {
    expect(containerOf(await runTenant()).Image).toBe(imageId("postgres:18.6-bookworm"));
  });

  it("has a first password that nobody knows, and no other", async () => {
    const graph = await runTenant("", { "pgs:passwords": '{"acme":"the-operators-own"}' });
    const options = containerOf(graph);
    expect(options.Env?.filter((one) => one.includes("PASSWORD"))).toEqual([
      "POSTGRES_PASSWORD_FILE=/proc/sys/kernel/random/uuid",
    ]);
    expect(JSON.stringify(options)).not.toContain("the-operators-own");
    expect(JSON.stringify(options)).not.toContain(generatedPassword("acme"));
  });

  it("first starts with the sizes that its server would give it next, but for those that the operator set", async () => {
    const envs = async (fields: string) => containerOf(await runTenant(fields)).Env?.join(" ");
    expect(await envs("memory: 1Gi")).toMatch(/--set max_connections=\d+ --set shared_buffers=256MB$/);
    expect(await envs("settings: { max_connections: 50 }")).not.toContain("max_connections");
  });

  it("has its limits from the first moment, and no swap", async () => {
    expect(containerOf(await runTenant("memory: 1Gi, cpus: 0.5")).HostConfig).toMatchObject({
      Memory: 2 ** 30,
      MemorySwap: 2 ** 30,
      NanoCpus: 5e8,
      PidsLimit: 2048,
    });
  });
});

describe("a volume", () => {
  it("is retained when its tenant is removed, unless the tenant says delete", async () => {
    expect(find(await runTenant(), "volume").retainOnDelete).toBe(true);
    expect(find(await runTenant("onRemove: retain"), "volume").retainOnDelete).toBe(true);
    expect(find(await runTenant("onRemove: delete"), "volume").retainOnDelete).toBe(false);
  });

  it("that came from elsewhere is the one that the server gets", async () => {
    const graph = await runTenant("volume: app_acme-data");
    expect(find(graph, "volume").inputs.name).toBe("app_acme-data");
    expect(find(graph, "volume").retainOnDelete).toBe(true);
    expect(find(graph, "server").inputs).toMatchObject({ adopted: true, volume: "app_acme-data" });
    expect(containerOf(graph).HostConfig?.Mounts).toMatchObject([{ Source: "app_acme-data" }]);
    const entrypoint = (of: Graph) => (containerOf(of).Entrypoint as string[])[2];
    expect(entrypoint(graph)).toContain("was not stopped cleanly");
    expect(entrypoint(await runTenant())).not.toContain("was not stopped cleanly");
  });

  it("of the stack's own is no other tenant's", async () => {
    await expect(runTenant("volume: pgs-globex")).rejects.toThrow(
      /tenants\.acme\.volume: names that start with pgs- are those of the stack's own volumes/,
    );
  });

  it("that a restore in place kept is the data of an entry that says so", async () => {
    const kept = "pgs--before-globex-20261123T101500";
    expect(find(await runTenant(`volume: ${kept}`), "volume").inputs.name).toBe(kept);
  });

  it("is not replaced by anything that it is made from", async () => {
    const volume = find(await runTenant(), "volume");
    expect(volume.ignoreChanges).toEqual(expect.arrayContaining(["name", "driver", "driverOpts", "labels"]));
    expect(volume.ignoreChanges).toEqual(expect.arrayContaining(Object.keys(volume.inputs)));
    expect(volume.replaceOnChanges).toEqual([]);
  });
});

describe("an edit", () => {
  it.each([
    ["access", "access: false", ["server"]],
    ["memory", "memory: 1Gi", ["server"]],
    ["cpus", "cpus: 2", ["server"]],
    ["settings", "settings: { work_mem: 16MB, max_connections: 50 }", ["server"]],
    ["hostname", "hostname: other", ["server"]],
    ["passwordVersion", "passwordVersion: 2", ["password"]],
    ["onRemove", "onRemove: delete", ["server", "volume"]],
  ] as const)(
    "of %s touches of all resources only the tenant's own that it is about",
    async (_, fields, expected) => {
      const before = sorted(await runProgram("tenants: { acme: {}, globex: {} }"));
      const after = sorted(await runProgram(`tenants: { acme: { ${fields} }, globex: {} }`));
      const changed = after.filter(
        (one, index) => !isDeepStrictEqual(counting(one), counting(before[index])),
      );
      expect(after).toHaveLength(before.length);
      expect(changed.map(({ type, name }) => `${type} ${name}`).sort()).toEqual(
        expected.map((kind) => `${types[kind]} acme`).sort(),
      );
    },
  );

  it("that adds a tenant touches no other resource", async () => {
    const before = await runProgram("tenants: { acme: {} }");
    const after = await runProgram("tenants: { globex: {}, acme: {} }");
    const others = after.resources.filter((one) => one.name !== "globex");
    expect(sorted({ ...after, resources: others })).toEqual(sorted(before));
  });
});

describe("a password", () => {
  it("reaches the server as a secret, and stays one in its state", async () => {
    const server = find(await runTenant(), "server");
    expect(isSecret(server.inputs.password)).toBe(true);
    expect(plain(server.inputs.password)).toBe(generatedPassword("acme"));
    expect(server.additionalSecretOutputs).toContain("password");
  });

  it("of the operator's own wins over the random one, for its tenant alone", async () => {
    const graph = await runProgram("tenants: { acme: {}, globex: {} }", {
      "pgs:passwords": '{"acme":"the-operators-own"}',
    });
    const { password } = find(graph, "server").inputs;
    expect(isSecret(password)).toBe(true);
    expect(plain(password)).toBe("the-operators-own");
    expect(plain(find(graph, "server", "globex").inputs.password)).toBe(generatedPassword("globex"));
    expect(connectionString(graph)).toContain("postgres:the-operators-own@");
  });

  it("is made up of 32 letters and digits, anew with each passwordVersion", async () => {
    const inputs = async (fields: string) => find(await runTenant(fields), "password").inputs;
    expect(await inputs("")).toEqual({ length: 32, special: false, keepers: { version: "1" } });
    expect(await inputs("passwordVersion: 2")).toMatchObject({ keepers: { version: "2" } });
  });

  it("is nowhere in the clear", async () => {
    const graph = await runProgram("tenants: { acme: {}, globex: {} }", {
      "pgs:passwords": '{"acme":"the-operators-own"}',
    });
    const clear = JSON.stringify([graph.resources.map(({ inputs }) => inputs), graph.outputs], (_, value) =>
      isSecret(value) ? "[secret]" : value,
    );
    expect(clear).toContain("[secret]");
    expect(clear).not.toContain("the-operators-own");
    expect(clear).not.toContain(generatedPassword("globex"));
  });
});

describe("the outputs", () => {
  it("have connection strings, a secret", async () => {
    const graph = await runTenant("hostname: db", { "pgs:domain": "pgs.example.com", "pgs:port": "6432" });
    expect(isSecret(graph.outputs.connectionStrings)).toBe(true);
    expect(plain(graph.outputs.connectionStrings)).toEqual({
      acme: `postgresql://postgres:${generatedPassword("acme")}@db.pgs.example.com:6432/acme?sslmode=require`,
    });
  });

  it("have connection strings that a URL parser understands, whatever the password", async () => {
    const password = "a b@c:d/e?f#g%h&i[j]";
    const graph = await runTenant("", { "pgs:passwords": JSON.stringify({ acme: password }) });
    const url = new URL(connectionString(graph) ?? "");
    expect(decodeURIComponent(url.password)).toBe(password);
    expect(url.host).toBe("acme.pgs.localhost:5432");
    expect(url.pathname).toBe("/acme");
  });

  it("have the tenants, not secret and without a password", async () => {
    const { outputs } = await runTenant("hostname: db, access: false, memory: 1Gi, cpus: 2", {
      "pgs:port": "6432",
    });
    expect(outputs.tenants).toEqual({
      acme: {
        host: "db.pgs.localhost",
        port: 6432,
        database: "acme",
        user: "postgres",
        access: false,
        state: "running",
        tls: "terminate",
        version: 18,
        memory: 2 ** 30,
        cpus: 2,
        backup: { schedule: "off", retention: "7d" },
      },
    });
  });

  it("have the certificate of the stack's own CA, not secret", async () => {
    expect((await runTenant()).outputs.caCertificate).toBe("ca certificate\n");
  });

  it("are there for no tenant at all", async () => {
    const { outputs } = await runProgram("tenants: {}");
    expect(plain(outputs.connectionStrings)).toEqual({});
    expect(outputs.tenants).toEqual({});
  });
});

describe("the proxy", () => {
  it("is the only container that publishes a port", async () => {
    const graph = await runProgram("tenants: { acme: {}, globex: {} }", { "pgs:port": "6432" });
    const publishing = graph.resources.filter(({ inputs }) => inputs.ports !== undefined);
    expect(publishing.map(({ type, name }) => `${type} ${name}`)).toEqual([`${types.container} proxy`]);
    expect(publishing[0]?.inputs.ports).toEqual([{ internal: 5432, external: 6432 }]);
  });

  it("has its image, network, volume, container, attachment and certificate below its component", async () => {
    expect(childrenOf(await runTenant(), "proxy", "proxy")).toEqual(
      [
        `${types.container} proxy`,
        `${types.network} proxy`,
        `${types.attachment} proxy`,
        `${types.image} proxy`,
        `${types.volume} proxy`,
        `${types.file} certificate`,
      ].sort(),
    );
  });

  it("publishes its port from a network that is not internal, and that no tenant is on", async () => {
    const graph = await runTenant();
    expect(find(graph, "network", "proxy").inputs).toEqual({ internal: false, name: "pgs-proxy" });
    expect(find(graph, "container", "proxy").inputs.networksAdvanced).toEqual([{ name: "pgs-proxy" }]);
  });

  it("is hardened, and the Docker socket is out of its reach", async () => {
    const { inputs } = find(await runTenant(), "container", "proxy");
    expect(inputs).toMatchObject({
      readOnly: true,
      capabilities: { drops: ["ALL"] },
      securityOpts: ["no-new-privileges:true"],
      image: imageId("traefik:v3.7.15"),
    });
    expect(inputs).not.toHaveProperty("privileged");
    expect(JSON.stringify(inputs)).not.toContain("docker.sock");
  });

  it("takes up a changed route well before two seconds are over", async () => {
    const command = find(await runTenant(), "container", "proxy").inputs.command as string[];
    const throttle = command.find((argument) =>
      argument.startsWith("--providers.providersThrottleDuration="),
    );
    expect(throttle).toMatch(/=\d{1,3}ms$/);
  });

  it("lets silent connections go within the six seconds that a refusal may take", async () => {
    const command = find(await runTenant(), "container", "proxy").inputs.command as string[];
    const timeout = command.find((argument) => argument.includes("respondingTimeouts.readTimeout="));
    expect(timeout).toMatch(/=[1-5]s$/);
  });

  it("keeps its certificate's file while it is made anew", async () => {
    const acme = { "pgs:acme": '{"email":"a@b.c","dnsProvider":"cloudflare"}' };
    for (const graph of [await runTenant(), await runTenant("", acme)]) {
      const { inputs, dependencies, propertyDependencies } = find(graph, "file", "certificate");
      expect(inputs.container).toBe("pgs-proxy");
      expect(propertyDependencies.container ?? []).toEqual([]);
      expect(dependencies.length).toBeGreaterThan(0);
    }
  });

  it("has no key in its container", async () => {
    const { inputs } = find(await runTenant(), "container", "proxy");
    expect(JSON.stringify(inputs)).not.toContain("server key");
    expect(JSON.stringify(inputs)).not.toContain(pulumi.runtime.specialSecretSig);
  });
});

describe("the certificate's file", () => {
  it("is a secret with the chain, leaf first, and the key", async () => {
    const { content } = find(await runTenant(), "file", "certificate").inputs;
    expect(isSecret(content)).toBe(true);
    expect(parse(plain(content)).tls.certificates).toEqual([
      { certFile: "server certificate\nca certificate\n", keyFile: "server key\n" },
    ]);
  });

  it("makes TLS 1.2, a known hostname and PostgreSQL's ALPN the rule", async () => {
    const { content } = find(await runTenant(), "file", "certificate").inputs;
    expect(parse(plain(content)).tls.options.default).toEqual({
      minVersion: "VersionTLS12",
      sniStrict: true,
      alpnProtocols: ["postgresql"],
    });
  });

  it("has the operator's own chain and key instead, still a secret, and keeps the CA for later", async () => {
    const certificate = certificateFiles(temporaryFolder(), "*.pgs.localhost");
    const graph = await runTenant("", { "pgs:certificate": JSON.stringify(certificate) });
    const { content } = find(graph, "file", "certificate").inputs;
    expect(isSecret(content)).toBe(true);
    expect(parse(plain(content)).tls.certificates).toEqual([
      { certFile: readFileSync(certificate.chain, "utf8"), keyFile: readFileSync(certificate.key, "utf8") },
    ]);
    expect(childrenOf(graph, "certificate", "certificate")).toEqual([
      "tls:index/privateKey:PrivateKey ca",
      "tls:index/selfSignedCert:SelfSignedCert ca",
    ]);
    expect(graph.outputs.caCertificate).toBeNull();
  });
});

describe("a copy of the backups at S3", () => {
  const backups = { schedule: "02:30", destination: "s3://off-site/pgs", endpoint: "https://s3.example.com" };
  const config = {
    "pgs:backups": JSON.stringify(backups),
    "pgs:backupCredentials": '{"accessKeyId":"the-id","secretAccessKey":"the-key"}',
  };
  const destination = (graph: Graph) =>
    graph.resources.find(({ type }) => type === "pgs:index:BackupDestination");

  it("is told to Barman alone, and its credentials are secrets", async () => {
    const graph = await runTenant("", config);
    const { inputs, additionalSecretOutputs } = destination(graph) as Registration;
    expect(inputs).toMatchObject({
      barman: "id-of-backups",
      destination: "s3://off-site/pgs",
      endpoint: "https://s3.example.com",
      encryption: "AES256",
    });
    expect(isSecret(inputs.accessKeyId) && isSecret(inputs.secretAccessKey)).toBe(true);
    expect(plain(inputs.secretAccessKey)).toBe("the-key");
    expect(additionalSecretOutputs).toEqual(expect.arrayContaining(["accessKeyId", "secretAccessKey"]));
  });

  it("gives Barman a way out, which it has not without one", async () => {
    const graph = await runTenant("", config);
    expect(find(graph, "network", "backups-out").inputs.internal).toBe(false);
    expect(find(graph, "container", "backups").inputs).not.toHaveProperty("dns");
    const without = await runTenant("", { "pgs:backups": '{"schedule":"02:30"}' });
    expect(destination(without)).toBeUndefined();
    expect(find(without, "network", "backups").inputs.internal).toBe(true);
  });
});

describe("a certificate by ACME", () => {
  const acme = { email: "operator@example.com", dnsProvider: "cloudflare", resolvers: ["9.9.9.9:53"] };
  const config = {
    "pgs:acme": JSON.stringify(acme),
    "pgs:acmeCredentials": '{"CF_DNS_API_TOKEN":"the-token","CF_ZONE_API_TOKEN":"another"}',
  };
  const acmeType = "pgs:index:AcmeCertificate";
  const ordered = (graph: Graph) => graph.resources.find(({ type }) => type === acmeType);

  it("is the proxy's own affair: it has a resolver that asks by DNS", async () => {
    const { inputs } = find(await runTenant("", config), "container", "proxy");
    const resolver = "--certificatesResolvers.acme.acme";
    expect((inputs.command as string[]).filter((argument) => argument.startsWith(resolver))).toEqual([
      `${resolver}.email=operator@example.com`,
      `${resolver}.storage=/etc/traefik/dynamic/acme.json`,
      `${resolver}.keyType=EC256`,
      `${resolver}.dnsChallenge.provider=cloudflare`,
      `${resolver}.dnsChallenge.resolvers=9.9.9.9:53`,
    ]);
    expect((await runTenant()).resources.some(({ type }) => type === acmeType)).toBe(false);
    expect(find(await runTenant(), "container", "proxy").inputs).not.toHaveProperty("envs");
  });

  it("has credentials in files alone, whose folder changes with them", async () => {
    const graph = await runTenant("", config);
    const { envs } = find(graph, "container", "proxy").inputs;
    const folder = "/etc/traefik/dynamic/acme-0123456789abcdef";
    expect(envs).toEqual([
      `CF_DNS_API_TOKEN_FILE=${folder}/CF_DNS_API_TOKEN`,
      `CF_ZONE_API_TOKEN_FILE=${folder}/CF_ZONE_API_TOKEN`,
    ]);
    expect(ordered(graph)?.inputs.filesFolder).toBe(folder);
    const files = ordered(graph)?.inputs.files;
    expect(isSecret(files)).toBe(true);
    expect(plain(files)).toEqual({
      CF_DNS_API_TOKEN: "the-token",
      CF_ZONE_API_TOKEN: "another",
    });
    expect(ordered(graph)?.additionalSecretOutputs).toContain("files");
    const version = graph.resources.find(
      ({ type, name }) => type.endsWith(":RandomId") && name === "acme",
    )?.inputs;
    expect(JSON.stringify(version?.keepers)).toContain("the-token");
    const clear = JSON.stringify(
      graph.resources.map(({ inputs }) => inputs),
      (_, value) => (isSecret(value) ? "[secret]" : value),
    );
    expect(clear).not.toContain("the-token");
  });

  it("takes the place of the one that the proxy had only when it is there", async () => {
    const graph = await runTenant("", config);
    expect(ordered(graph)?.inputs.domain).toBe("*.pgs.localhost");
    const file = find(graph, "file", "certificate");
    expect(file.dependencies).toContain(`${acmeType} certificate`);
    expect(parse(plain(file.inputs.content)).tls).toEqual({ options: expect.anything() });
    expect(routeFileOf(graph)).toEqual(routeFileOf(await runTenant()));
  });

  it("leaves the stack's CA for later, and for servers that TLS is passed through to", async () => {
    const graph = await runTenant("", config);
    expect(childrenOf(graph, "certificate", "certificate")).toEqual([
      "tls:index/privateKey:PrivateKey ca",
      "tls:index/selfSignedCert:SelfSignedCert ca",
    ]);
    expect(graph.outputs.caCertificate).toBeNull();
    expect((await runTenant("tls: passthrough", config)).outputs.caCertificate).toBe("ca certificate\n");
  });

  it("may be from a server with a CA of its own, and wait instead of asking", async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "ca.pem"), "its CA\n");
    const caServer = "https://acme.example.com/directory";
    const more = { ...acme, caServer, caCertificate: join(folder, "ca.pem"), propagationSeconds: 30 };
    const graph = await runTenant("", { "pgs:acme": JSON.stringify(more) });
    const resolver = "--certificatesResolvers.acme.acme";
    expect(find(graph, "container", "proxy").inputs.command).toEqual(
      expect.arrayContaining([
        `${resolver}.caServer=${caServer}`,
        `${resolver}.caCertificates=/etc/traefik/dynamic/acme-0123456789abcdef/ca.pem`,
        `${resolver}.dnsChallenge.propagation.delayBeforeChecks=30s`,
        `${resolver}.dnsChallenge.propagation.disableChecks=true`,
      ]),
    );
    expect(plain(ordered(graph)?.inputs.files)).toEqual({ "ca.pem": "its CA\n" });
  });
});

describe("the CA", () => {
  it("signs a certificate for every hostname below the domain, renewed before it ends", async () => {
    const graph = await runTenant("", { "pgs:domain": "pgs.example.com" });
    const inputs = Object.fromEntries(
      graph.resources.map((one) => [`${one.type.split(":").at(-1)} ${one.name}`, one.inputs]),
    );
    expect(inputs["CertRequest server"]).toMatchObject({ dnsNames: ["*.pgs.example.com"] });
    expect(inputs["SelfSignedCert ca"]).toMatchObject({ isCaCertificate: true });
    const { validityPeriodHours, earlyRenewalHours } = inputs["LocallySignedCert server"] as {
      validityPeriodHours: number;
      earlyRenewalHours: number;
    };
    expect([validityPeriodHours, earlyRenewalHours]).toEqual([365 * 24, (365 * 24) / 3]);
  });

  it("signs for as many days as the stack says", async () => {
    const graph = await runTenant("", { "pgs:certificateDays": "90" });
    const signed = graph.resources.find(({ type }) => type.endsWith(":LocallySignedCert"));
    expect(signed?.inputs).toMatchObject({ validityPeriodHours: 2160, earlyRenewalHours: 720 });
  });

  it("is the same whatever serves the hostnames", async () => {
    const files = certificateFiles(temporaryFolder(), "*.pgs.localhost");
    const ca = (graph: Graph) => graph.resources.filter(({ name }) => name === "ca");
    const own = ca(await runTenant());
    expect(own).toHaveLength(2);
    expect(ca(await runTenant("", { "pgs:certificate": JSON.stringify(files) }))).toEqual(own);
    expect(ca(await runTenant("", { "pgs:certificateDays": "90" }))).toEqual(own);
  });

  it("and the certificate have a key each, and secrets they stay", async () => {
    const graph = await runTenant();
    const keys = graph.resources.flatMap(({ inputs }) =>
      ["privateKeyPem", "caPrivateKeyPem"].flatMap((key) => (key in inputs ? [inputs[key]] : [])),
    );
    expect(keys.map(isSecret)).toEqual([true, true, true]);
    expect(new Set(keys.map((key) => plain(key)))).toEqual(new Set(["ca key\n", "server key\n"]));
  });
});

describe("a wrong configuration", () => {
  it("stops the program before any resource is planned, and so does a wrong tenants.yaml", async () => {
    await expect(runTenant("", { "pgs:port": "0" })).rejects.toThrow("pgs:port: expected a port");
    await expect(runTenant("", { "pgs:port": "abc" })).rejects.toThrow(
      "pgs:port: expected a port from 1 to 65535, got abc",
    );
    await expect(runTenant("acess: true, cpus: 0")).rejects.toThrow(/acess.*\n.*cpus/);
  });

  it("names the operator's certificate file that cannot be read", async () => {
    const folder = temporaryFolder();
    const certificate = { chain: join(folder, "none.pem"), key: join(folder, "none.pem") };
    await expect(runTenant("", { "pgs:certificate": JSON.stringify(certificate) })).rejects.toThrow(
      `pgs:certificate.chain: ENOENT: no such file or directory, open '${certificate.chain}'`,
    );
  });
});

describe("a right configuration", () => {
  it("may have an image more, beside those of Pulumi.yaml", async () => {
    const graph = await runProgram("tenants: { acme: {}, globex: { version: 17 } }", {
      "pgs:images": '{"17":"postgres:17.5-bookworm"}',
    });
    expect(find(graph, "image", "postgres-17").inputs.name).toBe("postgres:17.5-bookworm");
    expect(find(graph, "image", "postgres-18").inputs.name).toMatch(/^postgres:18\./);
    expect(find(graph, "image", "proxy").inputs.name).toMatch(/^traefik:/);
  });
});
