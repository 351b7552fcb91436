import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { describe, expect, it } from "vitest";
import {
  childrenOf,
  connectionString,
  containerOptions,
  find,
  inTheClear,
  ofKind,
  runTenant,
  serverOf,
  serverOptions,
  types,
} from "./support/graph";
import {
  type Graph,
  generatedPassword,
  imageId,
  type Registration,
  runProgram,
  stackId,
  temporaryFolder,
} from "./support/program";
import { isSecret, plain } from "./support/wire";

/** Everything that a stack can have. */
const everything = {
  "pgs:backups": '{"schedule":"02:30","destination":"s3://off-site/pgs"}',
  "pgs:backupCredentials": '{"accessKeyId":"secret-of-s3-id","secretAccessKey":"secret-of-s3-key"}',
  "pgs:acme": '{"email":"operator@example.com","dnsProvider":"cloudflare"}',
  "pgs:acmeCredentials": '{"CF_DNS_API_TOKEN":"secret-of-acme"}',
  "pgs:passwords": '{"acme":"secret-of-acme-login","acme/app":"secret-of-app"}',
};
const secrets = /secret-of|generated-for|\b(ca|acme|server) key\b/;
const tenants =
  "tenants: { acme: { tls: passthrough, roles: { app: {}, report: {} } }, globex: { restoreFrom: { tenant: gone } } }";

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
  it("is a provider, a platform, an id, a certificate, a proxy, programs, images, cancel requests, and one component a tenant", async () => {
    const graph = await runProgram("tenants: { acme: {}, globex: {} }");
    expect(childrenOf(graph, "stack", "pgs-test")).toEqual(
      [
        `${types.cancel} cancel`,
        `${types.certificate} certificate`,
        `${types.images} images`,
        `${types.platform} platform`,
        `${types.programs} programs`,
        `${types.provider} pgs`,
        `${types.proxy} proxy`,
        `${types.randomId} stack`,
        `${types.tenant} acme`,
        `${types.tenant} globex`,
      ].sort(),
    );
  });

  it.each(["network", "shared"])(
    "hands every pgs resource to the explicit provider, whose state holds no configuration (isolation: %s)",
    async (isolation) => {
      const graph = await runProgram(tenants, { ...everything, "pgs:isolation": isolation });
      expect(find(graph, "provider", "pgs").inputs).toEqual({});
      const custom = graph.resources.filter((one) => one.custom && one.type.startsWith("pgs:"));
      expect(new Set(custom.map(({ type }) => type))).toEqual(
        new Set([
          types.acme,
          types.container,
          types.destination,
          types.file,
          types.platform,
          types.programs,
          types.restore,
          types.server,
        ]),
      );
      for (const one of custom) expect(one.provider, one.type).toBe(`${types.provider} pgs`);
    },
  );

  it("has an id that names the Pulumi stack and is random, so that no two have the same", async () => {
    const graph = await runTenant();
    expect(find(graph, "randomId", "stack").inputs).toEqual({ byteLength: 6, prefix: "test-" });
    expect(graph.outputs.stack).toBe(stackId);
  });

  it("puts its id on each container, server and volume of programs", async () => {
    const graph = await runProgram(tenants, everything);
    const owned = ["container", "programs", "server"] as const;
    expect(owned.flatMap((kind) => ofKind(graph, kind).map(({ name }) => name)).sort()).toEqual(
      ["proxy", "cancel", "offsite", "programs", "acme", "globex"].sort(),
    );
    for (const kind of owned) {
      for (const { name, inputs } of ofKind(graph, kind)) expect(inputs.stack, name).toBe(stackId);
    }
    for (const name of ["proxy", "cancel", "offsite"]) {
      expect(containerOptions(graph, name).Labels).toMatchObject({ "pgs.stack": stackId });
      expect(containerOptions(graph, name).Labels).not.toHaveProperty("pgs.tenant");
    }
    expect(serverOptions(graph, "globex").Labels).toMatchObject({
      "pgs.stack": stackId,
      "pgs.tenant": "globex",
    });
  });

  it("has an image for each version that a server runs, and no other", async () => {
    const images = JSON.stringify({
      16: "postgres:16.9-bookworm",
      17: "postgres:17.5-bookworm",
      18: "postgres:18.6-bookworm",
    });
    const graph = await runProgram(
      "tenants: { a: {}, b: {}, c: { version: 17 }, d: { version: 16, state: stopped } }",
      { "pgs:images": images },
    );
    expect(childrenOf(graph, "images", "images")).toEqual([
      `${types.image} barman`,
      `${types.image} postgres-17`,
      `${types.image} postgres-18`,
    ]);
    expect(serverOf(graph, "c").container).toMatchObject({
      image: "postgres:17.5-bookworm",
      imageId: imageId("postgres:17.5-bookworm"),
    });
  });

  it("keeps images that other stacks may use", async () => {
    const images = ofKind(await runProgram(tenants, everything), "image");
    expect(images.map(({ name }) => name).sort()).toEqual(["barman", "postgres-18", "proxy"]);
    for (const { name, inputs } of images) expect(inputs.keepLocally, name).toBe(true);
  });

  it("passes the Docker provider's host on to every pgs resource that asks it, and none when there is none", async () => {
    const host = "ssh://root@docker.example.com";
    const remote = await runProgram(tenants, { ...everything, "docker:host": host });
    const local = await runProgram(tenants, everything);
    const custom = ({ resources }: Graph) =>
      resources.filter(({ custom, type }) => custom && type.startsWith("pgs:") && type !== types.platform);
    expect(custom(remote).length).toBeGreaterThan(6);
    for (const { type, name, inputs } of custom(remote)) expect(inputs.host, `${type} ${name}`).toBe(host);
    for (const { type, name, inputs } of custom(local)) {
      expect(inputs, `${type} ${name}`).not.toHaveProperty("host");
    }
  });

  it("has what is secret in the inputs that are secrets, and nowhere else", async () => {
    const graph = await runProgram(tenants, everything);
    expect(JSON.stringify(graph)).toMatch(secrets);
    expect(inTheClear(graph)).not.toMatch(secrets);
    for (const name of ["proxy", "offsite"]) {
      expect(JSON.stringify(containerOptions(graph, name)), name).not.toMatch(secrets);
    }
    for (const id of ["acme", "globex"]) {
      expect(JSON.stringify(serverOptions(graph, id)), id).not.toMatch(secrets);
    }
  });
});

describe("an edit", () => {
  const on = { "pgs:backups": '{"schedule":"02:30"}' };

  it.each([
    ["access", "access: false", ["server"]],
    ["memory", "memory: 1Gi", ["server"]],
    ["cpus", "cpus: 2", ["server"]],
    ["disk", "disk: 10Gi", ["server"]],
    ["settings", "settings: { work_mem: 16MB, max_connections: 50 }", ["server"]],
    ["hostname", "hostname: other", ["server"]],
    ["backup", "backup: { retention: 30d }", ["server"]],
    ["state", "state: stopped", ["server"]],
    ["allow", "allow: [203.0.113.0/24]", ["server"]],
    ["maxConnectionsPerClient", "maxConnectionsPerClient: 0", ["server"]],
    ["passwordVersion", "passwordVersion: 2", ["password"]],
    ["onRemove", "onRemove: delete", ["server", "volume"]],
  ] as const)(
    "of %s touches of all resources only the tenant's own that it is about",
    async (_, fields, expected) => {
      const before = sorted(await runProgram("tenants: { acme: {}, globex: {} }", on));
      const after = sorted(await runProgram(`tenants: { acme: { ${fields} }, globex: {} }`, on));
      const changed = after.filter(
        (one, index) => !isDeepStrictEqual(counting(one), counting(before[index])),
      );
      expect(after).toHaveLength(before.length);
      expect(changed.map(({ type, name }) => `${type} ${name}`).sort()).toEqual(
        expected.map((kind) => `${types[kind]} acme`).sort(),
      );
    },
  );

  it("touches of a server's parts only those that it is about", async () => {
    const before = serverOf(await runProgram("tenants: { acme: {} }", on)) as unknown as Record<
      string,
      unknown
    >;
    const parts = async (fields: string) => {
      const after = serverOf(await runTenant(fields, on)) as unknown as Record<string, unknown>;
      return Object.keys({ ...before, ...after })
        .filter((part) => !isDeepStrictEqual(before[part], after[part]))
        .sort();
    };
    // max_connections follows from it, and from that how many of them one client address may have.
    expect(await parts("memory: 1Gi")).toEqual(["limits", "route", "settings"]);
    expect(await parts("cpus: 2")).toEqual(["limits"]);
    expect(await parts("access: false")).toEqual(["access", "route"]);
    expect(await parts("hostname: other")).toEqual(["route"]);
    expect(await parts("settings: { work_mem: 16MB }")).toEqual(["positions", "settings"]);
    expect(await parts("tls: passthrough")).toEqual(["route", "tls"]);
    expect(await parts("backup: { schedule: 03:00 }")).toEqual(["backup"]);
    expect(await parts("onRemove: delete")).toEqual(["deleteMessage"]);
  });

  it("that adds a tenant touches no other resource", async () => {
    const before = await runProgram("tenants: { acme: {} }", on);
    const after = await runProgram("tenants: { globex: {}, acme: {} }", on);
    const others = after.resources.filter((one) => one.name !== "globex");
    expect(sorted({ ...after, resources: others })).toEqual(sorted(before));
  });

  it("of one tenant gives the container that copies off the host another command only where it has to", async () => {
    const offsite = async (fields: string) =>
      find(
        await runProgram(`tenants: { acme: { ${fields} }, globex: {} }`, everything),
        "container",
        "offsite",
      );
    const before = await offsite("");
    for (const fields of ["access: false", "memory: 1Gi", "state: stopped", "backup: { schedule: 03:00 }"]) {
      expect(await offsite(fields), fields).toEqual(before);
    }
    expect((await offsite("backup: { retention: 30d }")).inputs.command).not.toEqual(before.inputs.command);
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

  it("have the connection strings of roles, a secret", async () => {
    const graph = await runTenant("roles: { app: {}, own: {} }", { "pgs:passwords": '{"acme/own":"mine"}' });
    expect(isSecret(graph.outputs.roleConnectionStrings)).toBe(true);
    expect(plain(graph.outputs.roleConnectionStrings)).toEqual({
      acme: {
        app: `postgresql://app:${encodeURIComponent(generatedPassword("acme/app"))}@acme.pgs.localhost:5432/acme?sslmode=require`,
        own: "postgresql://own:mine@acme.pgs.localhost:5432/acme?sslmode=require",
      },
    });
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
