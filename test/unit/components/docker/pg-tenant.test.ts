import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { cancelAddress } from "../../../../components/docker/cancel-requests";
import type { ContainerInputs } from "../../../../provider/container";
import { unwrap } from "../../../../provider/wire";
import { certificateFiles } from "../../support/certificates";
import {
  childrenOf,
  connectionString,
  find,
  inTheClear,
  ofKind,
  routeOf,
  runTenant,
  serverOf,
  serverOptions,
  types,
} from "../../support/graph";
import {
  type Graph,
  generatedPassword,
  imageId,
  runProgram,
  stackId,
  temporaryFolder,
} from "../../support/program";
import { isSecret, plain } from "../../support/wire";

describe("a tenant", () => {
  const made = [`${types.password} acme`, `${types.server} acme`, `${types.volume} acme`].sort();

  it("is a password, a volume and a server, all below its component", async () => {
    expect(childrenOf(await runTenant(), "tenant", "acme")).toEqual(made);
  });

  it("records nothing in the state of its component", async () => {
    expect(find(await runTenant(), "tenant").inputs).toEqual({});
  });

  it("has names that start with the prefix, so that two stacks share a Docker host", async () => {
    const graph = await runTenant("", { "pgs:prefix": "dev", "pgs:backups": '{"schedule":"02:30"}' });
    expect(find(graph, "volume").inputs.name).toBe("dev-acme");
    const { container, network, route, backup } = serverOf(graph);
    expect(container).toMatchObject({ name: "dev-acme", volume: "dev-acme", programs: "dev--programs" });
    expect(network.name).toBe("dev-acme");
    expect(route.proxy).toBe("dev-proxy");
    expect(backup?.name).toBe("dev-acme--backup");
  });

  it("is one server on its own network with its own volume, and the programs read-only", async () => {
    const { HostConfig } = serverOptions(await runTenant());
    expect(HostConfig?.NetworkMode).toBe("pgs-acme");
    expect(HostConfig?.Mounts).toEqual([
      { Type: "volume", Source: "pgs-acme", Target: "/var/lib/postgresql", ReadOnly: false },
      { Type: "volume", Source: "pgs--programs", Target: "/pgs", ReadOnly: true },
    ]);
    expect(HostConfig).not.toHaveProperty("Binds");
  });

  it("has a network of its own, taken from the stack's range, with the proxy's container attached", async () => {
    const { network, access } = serverOf(await runTenant("", { "pgs:tenantSubnets": "10.9.0.0/16" }));
    expect(network).toEqual({
      name: "pgs-acme",
      pool: "10.9.0.0/16",
      prefixLength: 29,
      proxy: "engine-id-of-proxy",
    });
    expect(access.clients).toBe("all");
  });

  it("shares one network when the stack says so, and then lets in only the proxy", async () => {
    const graph = await runProgram("tenants: { acme: {}, globex: {} }", { "pgs:isolation": "shared" });
    const [acme, globex] = [serverOf(graph), serverOf(graph, "globex")];
    expect(acme.network).toEqual(globex.network);
    expect(acme.network).toMatchObject({ name: "pgs--tenants", proxy: "engine-id-of-proxy" });
    for (const { access } of [acme, globex]) expect(access.clients).toBe("proxy");
  });

  it("hands everything that can change live to its server, by part", async () => {
    const server = serverOf(await runTenant("memory: 1Gi, cpus: 2.5, access: false"));
    expect(server).toMatchObject({
      stack: stackId,
      tenant: "acme",
      version: 18,
      state: "running",
      container: {
        name: "pgs-acme",
        image: "postgres:18.6-bookworm",
        imageId: imageId("postgres:18.6-bookworm"),
        adopted: false,
      },
      limits: { memory: 2 ** 30, cpus: 2.5 },
      access: { open: false },
      database: { init: [] },
    });
  });

  it("hands its settings to its server by when a change of them counts, with sizes for those not set", async () => {
    const fields = "settings: { work_mem: 16MB, jit: false, max_connections: 50 }";
    const { settings, positions = {} } = serverOf(await runTenant(`memory: 1Gi, ${fields}`));
    expect(settings.live).toMatchObject({ work_mem: "16MB", jit: "off" });
    expect(settings.live.effective_cache_size).toMatch(/MB$/);
    expect(settings.live.authentication_timeout).toBe("10s");
    expect(settings.live).not.toHaveProperty("max_connections");
    expect(settings.restart).toEqual({ max_connections: "50" });
    expect(settings.initial).toMatchObject({ shared_buffers: "256MB" });
    expect(settings.initial).not.toHaveProperty("max_connections");
    expect(Object.keys(positions).toSorted()).toEqual(["jit", "max_connections", "work_mem"]);
    expect(new Set(Object.values(positions)).size).toBe(3);
    for (const position of Object.values(positions)) expect(position).toMatch(/tenants\.yaml:1:\d+$/);
  });

  it("has the paths of its init scripts from the project's folder", async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "a.sql"), "SELECT 1;");
    writeFileSync(join(folder, "hosts.yaml"), "tenants: { acme: { init: [a.sql] } }");
    const graph = await runProgram("", { "pgs:tenantsFile": join(folder, "hosts.yaml") });
    const { init } = serverOf(graph).database;
    expect(init).toEqual([expect.not.stringMatching(/^\//)]);
    expect(join(process.cwd(), init[0] ?? "")).toBe(join(folder, "a.sql"));
  });

  it("waits for the proxy, but not for its certificate", async () => {
    const { dependencies } = find(await runTenant(), "server");
    expect(dependencies).toContain(`${types.container} proxy`);
    expect(dependencies).not.toContain(`${types.file} certificate`);
  });

  it("tells the operator when its entry is removed what happens to its data", async () => {
    const message = async (fields: string) => serverOf(await runTenant(fields)).deleteMessage;
    expect(await message("")).toContain("stays in the Docker volume pgs-acme");
    expect(await message("state: stopped")).toContain("stays in the Docker volume pgs-acme");
    expect(await message("volume: app_acme-data")).toContain("stays in the Docker volume app_acme-data");
    expect(await message("onRemove: delete")).toContain("is deleted");
  });

  it("stopped keeps its volume, password and network, and has neither image nor router", async () => {
    const [graph, running] = [await runTenant("state: stopped"), await runTenant()];
    expect(childrenOf(graph, "tenant", "acme")).toEqual(made);
    const server = serverOf(graph);
    expect(server.state).toBe("stopped");
    expect(server.container).not.toHaveProperty("image");
    expect(server.container).not.toHaveProperty("imageId");
    expect(server.network).toEqual(serverOf(running).network);
    expect(routeOf(graph)).toBeNull();
    expect(connectionString(graph)).toBe(connectionString(running));
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
            middlewares: ["acme"],
          },
          // For what is no client: its limits do not count.
          "acme--inner": {
            entryPoints: ["inner"],
            rule: "HostSNI(`db.pgs.example.com`) && !ClientIP(`10.9.0.0/16`)",
            service: "acme",
            tls: {},
          },
          // For cancel requests, which come without TLS.
          "acme--cancel": {
            entryPoints: ["cancel"],
            rule: `HostSNI(\`*\`) && ClientIP(\`${cancelAddress("db.pgs.example.com")}\`)`,
            service: "acme",
          },
        },
        middlewares: { acme: { inFlightConn: { amount: 97 } } },
        services: { acme: { loadBalancer: { servers: [{ address: "dev-acme:5432" }] } } },
      },
    });
    expect(serverOf(graph).container.name).toBe("dev-acme");
  });

  it.each([
    ["", 97],
    ["memory: 128Mi", 20],
    ["settings: { max_connections: 200 }", 195],
    ["settings: { max_connections: 3 }", 1],
    ["maxConnectionsPerClient: 7", 7],
    ["maxConnectionsPerClient: 0", undefined],
    ["tls: passthrough, maxConnectionsPerClient: 7", 7],
    // Traefik never gives back what was open when the server went away.
    ["tls: passthrough", 1000],
    ["tls: passthrough, settings: { max_connections: 2005 }", 4000],
  ])("of a tenant with { %s } gives one client address %s connections", async (fields, amount) => {
    const { tcp } = routeOf(await runTenant(fields)) ?? {};
    expect(tcp?.routers.acme?.middlewares).toEqual(amount === undefined ? undefined : ["acme"]);
    expect(tcp?.middlewares).toEqual(
      amount === undefined ? undefined : { acme: { inFlightConn: { amount } } },
    );
  });

  it.each([
    ["allow: [203.0.113.7]", undefined, ["203.0.113.7"]],
    ["", ["10.0.0.0/8"], ["10.0.0.0/8"]],
    ["allow: [10.1.0.0/16, 203.0.113.7]", ["10.0.0.0/8", "2001:db8::/32"], ["10.1.0.0/16"]],
    ["allow: ['::/0', 0.0.0.0/0]", ["10.0.0.0/8", "2001:db8::/32"], ["2001:db8::/32", "10.0.0.0/8"]],
  ])("of a tenant with { %s } in a stack that allows %j lets in %j", async (fields, allow, sourceRange) => {
    const graph = await runTenant(fields, allow && { "pgs:allow": JSON.stringify(allow) });
    const { routers, middlewares } = routeOf(graph)?.tcp ?? {};
    expect(routers?.acme?.middlewares).toEqual(["acme--allow", "acme"]);
    expect(middlewares?.["acme--allow"]).toEqual({ ipAllowList: { sourceRange } });
    expect(serverOf(graph).access.allow).toEqual(sourceRange);
  });

  it("that would let in nobody is refused where the entry says so", async () => {
    await expect(
      runTenant("allow: [203.0.113.7]", { "pgs:allow": JSON.stringify(["10.0.0.0/8"]) }),
    ).rejects.toThrow(/tenants\.yaml:\d+:\d+: tenants\.acme\.allow: .*pgs:allow \(10\.0\.0\.0\/8\)/);
  });

  it("with a pooler has a router of its own for that, which more clients of one address may use", async () => {
    const { tcp } = routeOf(await runTenant("hostname: customers, pooler: {}")) ?? {};
    expect(tcp?.routers).toMatchObject({
      acme: { rule: expect.stringContaining("HostSNI(`customers.pgs.localhost`)"), service: "acme" },
      "acme--pooler": {
        rule: expect.stringMatching(/^HostSNI\(`customers-pooler\.pgs\.localhost`\) && !ClientIP/),
        service: "acme--pooler",
        middlewares: ["acme--pooler"],
        tls: {},
      },
    });
    expect(tcp?.middlewares).toMatchObject({ "acme--pooler": { inFlightConn: { amount: 1000 } } });
    expect(tcp?.services["acme--pooler"]?.loadBalancer.servers).toEqual([
      { address: "pgs-acme--pooler:5432" },
    ]);
    const limited = routeOf(await runTenant("maxConnectionsPerClient: 7, allow: [203.0.113.7], pooler: {}"));
    expect(limited?.tcp.routers["acme--pooler"]?.middlewares).toEqual([
      "acme--pooler--allow",
      "acme--pooler",
    ]);
    expect(limited?.tcp.middlewares?.["acme--pooler--allow"]).toEqual({
      ipAllowList: { sourceRange: ["203.0.113.7"] },
    });
    expect(limited?.tcp.middlewares).toMatchObject({ "acme--pooler": { inFlightConn: { amount: 7 } } });
  });

  it("uses the entry point that the proxy listens on", async () => {
    const graph = await runTenant();
    const { command } = find(graph, "container", "proxy").inputs;
    expect(routeOf(graph)?.tcp.routers.acme?.entryPoints).toEqual(["postgres"]);
    expect(command).toContain("--entryPoints.postgres.address=:5432/tcp");
  });

  it("is a file of its own in the folder that the proxy watches", async () => {
    const graph = await runProgram("tenants: { acme: {}, globex: {} }");
    const folder = "/etc/traefik/dynamic";
    const proxy = unwrap(find(graph, "container", "proxy").inputs) as ContainerInputs;
    expect(proxy.mounts).toEqual([{ volume: "pgs-proxy", path: folder }]);
    expect(proxy.command).toContain(`--providers.file.directory=${folder}`);
    for (const id of ["acme", "globex"]) {
      expect(serverOf(graph, id).route).toMatchObject({
        proxy: proxy.name,
        path: `${folder}/route-${id}.yml`,
      });
    }
  });

  it("that is closed is a file without a router", async () => {
    const graph = await runTenant("access: false");
    expect(routeOf(graph)).toBeNull();
    expect(serverOf(graph).access.open).toBe(false);
  });
});

describe("a tenant whose TLS is passed through", () => {
  const fields = "tls: passthrough, hostname: db";

  it("has a certificate of its own for its hostname, signed by the stack's CA", async () => {
    const graph = await runTenant(fields);
    expect(childrenOf(graph, "tenant", "acme").filter((one) => one.startsWith("tls:"))).toEqual([
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

  it("has it in its server, a secret there, and in no container", async () => {
    const graph = await runTenant(fields);
    expect(serverOf(graph).tls).toEqual({ chain: "acme certificate\nca certificate\n", key: "acme key\n" });
    expect(inTheClear(graph)).not.toContain("acme key");
    expect(find(graph, "server").additionalSecretOutputs).toContain("tls");
    expect(serverOptions(graph)).toEqual(serverOptions(await runTenant()));
    for (const terminated of [await runTenant(), await runTenant("tls: terminate")]) {
      expect(serverOf(terminated)).not.toHaveProperty("tls");
    }
  });

  it("has a route that leaves TLS alone", async () => {
    expect(routeOf(await runTenant(fields))?.tcp.routers.acme?.tls).toEqual({ passthrough: true });
    expect(routeOf(await runTenant(`${fields}, access: false`))).toBeNull();
  });

  it("never gets the operator's own certificate, and the stack's CA is an output then too", async () => {
    const files = certificateFiles(temporaryFolder(), "*.pgs.localhost");
    const graph = await runTenant(fields, { "pgs:certificate": JSON.stringify(files) });
    expect(serverOf(graph).tls?.chain).toBe("acme certificate\nca certificate\n");
    expect(graph.outputs.caCertificate).toBe("ca certificate\n");
  });

  it("may be stopped", async () => {
    const graph = await runTenant(`${fields}, state: stopped`);
    expect(routeOf(graph)).toBeNull();
    expect(serverOf(graph)).not.toHaveProperty("tls");
  });
});

describe("a hostname with a random suffix", () => {
  const config = { "pgs:hostnameSuffix": "random" };

  it("is in the route, the connection string and the outputs alike", async () => {
    const graph = await runTenant("", config);
    expect(childrenOf(graph, "tenant", "acme")).toContain(`${types.suffix} acme`);
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
    const suffix = async (fields: string) => find(await runTenant(fields, config), "suffix");
    const before = await suffix("");
    for (const fields of ["state: stopped", "passwordVersion: 2", "access: false", "memory: 1Gi"]) {
      expect(await suffix(fields)).toEqual(before);
    }
  });

  it("is not made of one that the operator wrote", async () => {
    const graph = await runTenant("hostname: acme", config);
    expect(graph.outputs.tenants).toMatchObject({ acme: { host: "acme.pgs.localhost" } });
    expect(ofKind(graph, "suffix")).toEqual([]);
  });
});

describe("a server's container", () => {
  it("is hardened", async () => {
    const { HostConfig, ...options } = serverOptions(await runTenant());
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

  it("shows whose it is, and a command that a person can read", async () => {
    const { Labels, Entrypoint, Cmd, Image } = serverOptions(await runTenant());
    expect(Labels).toMatchObject({ "pgs.stack": stackId, "pgs.tenant": "acme" });
    expect(Entrypoint).toEqual(["/pgs/start-server"]);
    expect(Cmd).toEqual(["postgres"]);
    expect(Image).toBe("postgres:18.6-bookworm");
  });

  it("is asked to shut down cleanly, and started again when it ends by itself", async () => {
    const { StopSignal, HostConfig } = serverOptions(await runTenant());
    expect(StopSignal).toBe("SIGINT");
    expect(HostConfig?.RestartPolicy?.Name).toBe("unless-stopped");
  });

  it("has no health check: nothing says `health: starting` of a server that answers", async () => {
    expect(serverOptions(await runTenant())).not.toHaveProperty("Healthcheck");
  });

  it("has a first password that is known to no person, and no other", async () => {
    const graph = await runTenant("", { "pgs:passwords": '{"acme":"the-operators-own"}' });
    const options = serverOptions(graph);
    expect(options.Env?.filter((one) => one.includes("PASSWORD"))).toEqual([
      "POSTGRES_PASSWORD_FILE=/proc/sys/kernel/random/uuid",
    ]);
    expect(JSON.stringify(options)).not.toContain("the-operators-own");
    expect(JSON.stringify(options)).not.toContain(generatedPassword("acme"));
  });

  it("first starts with the sizes that its server would give it next, but for those that the operator set", async () => {
    const environment = async (fields: string) => serverOptions(await runTenant(fields)).Env?.join(" ");
    expect(await environment("memory: 1Gi")).toMatch(
      /--set max_connections=\d+ --set pg_stat_statements.max=1000 --set shared_buffers=256MB /,
    );
    expect(await environment("settings: { max_connections: 50 }")).not.toContain("max_connections");
  });

  it("has its limits from the first moment, and no swap", async () => {
    expect(serverOptions(await runTenant("memory: 1Gi, cpus: 0.5")).HostConfig).toMatchObject({
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

  it("is adopted only after the proxy's names were found to be free", async () => {
    expect(find(await runTenant(), "volume").dependencies).toContain(`${types.container} proxy`);
  });

  it("that came from elsewhere is the one that the server gets, and is checked before its first start", async () => {
    const graph = await runTenant("volume: app_acme-data");
    expect(find(graph, "volume").inputs.name).toBe("app_acme-data");
    expect(find(graph, "volume").retainOnDelete).toBe(true);
    expect(serverOf(graph).container).toMatchObject({ adopted: true, volume: "app_acme-data" });
    const { HostConfig, Cmd } = serverOptions(graph);
    expect(HostConfig?.Mounts?.[0]).toMatchObject({ Source: "app_acme-data" });
    expect(Cmd).toEqual(["--adopted", "postgres"]);
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

describe("a password", () => {
  const own = { "pgs:passwords": '{"acme":"the-operators-own"}' };

  it("reaches the server as a secret, and stays one in its state", async () => {
    const server = find(await runTenant(), "server");
    expect(isSecret(server.inputs.password)).toBe(true);
    expect(plain(server.inputs.password)).toBe(generatedPassword("acme"));
    expect(server.additionalSecretOutputs).toContain("password");
  });

  it("is that of a role of the tenant's name where superuser is off", async () => {
    const graph = await runTenant("superuser: off");
    const server = serverOf(graph);
    expect([server.user, server.password]).toEqual(["acme", generatedPassword("acme")]);
    expect(connectionString(graph)).toContain(`//acme:${generatedPassword("acme")}@`);
    expect(serverOf(await runTenant()).user).toBeUndefined();
  });

  it("of each role reaches the server as a secret, and what else its entry says in the clear", async () => {
    const graph = await runTenant(
      "roles: { app: { grants: readwrite, passwordVersion: 3, settings: { jit: false } } }",
    );
    const server = find(graph, "server");
    expect(isSecret(server.inputs.rolePasswords)).toBe(true);
    expect(server.additionalSecretOutputs).toContain("rolePasswords");
    const { roles, rolePasswords, positions } = serverOf(graph);
    expect(rolePasswords).toEqual({ app: generatedPassword("acme/app") });
    expect(roles).toEqual({ app: { grants: "readwrite", settings: { jit: "off" }, inRoles: [] } });
    expect(positions).toEqual({ "roles.app": expect.stringMatching(/tenants\.yaml:1:\d+$/) });
    expect(find(graph, "password", "acme/app").inputs.keepers).toEqual({ version: "3" });
  });

  it("of the operator's own wins over the random one, for its tenant alone", async () => {
    const graph = await runProgram("tenants: { acme: {}, globex: {} }", own);
    const { password } = find(graph, "server").inputs;
    expect(isSecret(password)).toBe(true);
    expect(plain(password)).toBe("the-operators-own");
    expect(plain(find(graph, "server", "globex").inputs.password)).toBe(generatedPassword("globex"));
    expect(connectionString(graph)).toContain("postgres:the-operators-own@");
  });

  it("has 32 random letters and digits, other ones for each passwordVersion", async () => {
    const inputs = async (fields: string) => find(await runTenant(fields), "password").inputs;
    expect(await inputs("")).toEqual({ length: 32, special: false, keepers: { version: "1" } });
    expect(await inputs("passwordVersion: 2")).toMatchObject({ keepers: { version: "2" } });
  });

  it("is nowhere in the clear", async () => {
    const clear = inTheClear(await runProgram("tenants: { acme: {}, globex: {} }", own));
    expect(clear).toContain("[secret]");
    expect(clear).not.toContain("the-operators-own");
    expect(clear).not.toContain(generatedPassword("globex"));
  });
});

describe("a tenant that is made from another's backups", () => {
  const on = { "pgs:backups": '{"schedule":"02:30"}' };
  const entry = "restoreFrom: { tenant: gone, at: 2026-01-02T03:04:05Z }";
  const withoutPositions = (graph: Graph) => ({ ...serverOf(graph), positions: undefined });

  it("has its data made before its server starts, and is otherwise as any", async () => {
    const graph = await runTenant(entry, on);
    expect(find(graph, "restore").inputs).toMatchObject({
      volume: "pgs-acme",
      from: "gone",
      at: "2026-01-02T03:04:05Z",
      database: "acme",
      version: 18,
      prefix: "pgs",
      offsite: false,
      backupImage: serverOf(graph).backup?.imageId,
      image: imageId("postgres:18.6-bookworm"),
      settings: { shared_buffers: "128MB", summarize_wal: "on" },
    });
    expect(find(graph, "server").dependencies).toContain(`${types.restore} acme`);
    expect(withoutPositions(graph)).toEqual(withoutPositions(await runTenant("", on)));
  });

  it("needs the stack's backups, and a stopped one is not made yet", async () => {
    await expect(runTenant(entry)).rejects.toThrow(
      /tenants\.yaml:1:\d+: restoreFrom needs the stack's backups/,
    );
    expect(ofKind(await runTenant(`${entry}, state: stopped`, on), "restore")).toEqual([]);
  });

  it("need not have backups itself", async () => {
    const graph = await runTenant("restoreFrom: { tenant: gone }, backup: { schedule: off }", on);
    expect(find(graph, "restore").inputs.from).toBe("gone");
  });
});

describe("a pooler", () => {
  it("is what the entry says, in an image that is fetched for it", async () => {
    const graph = await runTenant("pooler: { size: 7 }");
    expect(serverOf(graph).pooler).toMatchObject({ name: "pgs-acme--pooler", mode: "transaction", size: 7 });
    expect(ofKind(graph, "image").map(({ name }) => name)).toContain("pooler");
    expect(serverOf(graph).settings.live).toMatchObject({ client_connection_check_interval: "1s" });
    expect(graph.outputs.tenants).toMatchObject({ acme: { pooler: "acme-pooler.pgs.localhost" } });
  });

  it.each(["", "pooler: { mode: off }", "pooler: {}, access: false", "pooler: {}, state: stopped"])(
    "is none of a tenant with { %s }",
    async (fields) => {
      expect(serverOf(await runTenant(fields)).pooler).toBeUndefined();
    },
  );

  it.each([
    [
      { "pgs:isolation": "shared" },
      "acme",
      /1:\d+: tenants\.acme\.pooler: a pooler needs pgs:isolation: network/,
    ],
    [
      { "pgs:prefix": "a".repeat(14) },
      "a".repeat(45),
      /pooler: the pooler's container would have a name of more/,
    ],
  ])("is refused with %j", async (config, id, message) => {
    await expect(runProgram(`tenants: { ${id}: { pooler: {} } }`, config)).rejects.toThrow(message);
  });
});
