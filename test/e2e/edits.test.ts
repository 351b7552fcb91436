import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import { Checkout } from "./support/checkout";
import { run, succeed } from "./support/command";

const root = join(__dirname, "../..");
const image = "postgres:18.6-bookworm";

let checkout: Checkout;
beforeAll(async () => {
  checkout = await Checkout.create("tenants: { acme: {}, globex: {} }");
  checkout.write("init/acme.sql", "");
  checkout.write("tenants-moved.yaml", "tenants: { acme: {}, globex: {} }");
  await checkout.up();
  await checkout.query("acme", "CREATE TABLE kept AS SELECT 1 AS i");
});
afterAll(() => checkout?.remove());

const volumeExists = async (id: string) =>
  (await run("docker", ["volume", "inspect", checkout.name(id)])).code === 0;

interface Step {
  op: string;
  urn: string;
}

/** The plan of an up; `problem` is what Pulumi says when there is none. */
async function plan(): Promise<{ steps: Step[]; problem: string }> {
  const result = await checkout.tryPulumi("preview", "--json", "--refresh=false", "--show-sames");
  const { steps = [] } = JSON.parse(result.stdout.slice(result.stdout.indexOf("{")));
  return { steps, problem: result.code === 0 ? "" : result.output };
}

/** Of volumes nothing but `same` may be planned as long as their tenants are in the file. */
function expectVolumesKept(steps: Step[], count = 3): void {
  const volumes = steps.filter(
    // Backups and monitoring bring their own.
    ({ urn }) => urn.includes("docker:index/volume:Volume::") && !/::backups$|:Monitoring\$docker:/.test(urn),
  );
  expect(volumes.length).toBeGreaterThanOrEqual(count);
  expect(volumes.filter(({ op }) => op !== "same")).toEqual([]);
}

function changes(steps: Step[]): string[] {
  return steps
    .filter(({ op }) => op !== "same" && op !== "read")
    .map(({ op, urn }) => `${op} ${urn.split("::").slice(-2).join(" ")}`);
}

describe("no edit plans anything for a volume of a tenant that stays:", () => {
  /** For each field a value that is not the default. `refused` when the edit must fail instead. */
  const fields: Record<string, { to: string; refused?: RegExp; plansNothing?: boolean; ofRoute?: boolean }> =
    {
      version: { to: "19", refused: /data is that of PostgreSQL 18 and cannot be used by 19/ },
      memory: { to: "300Mi" },
      cpus: { to: "0.5" },
      disk: { to: "10Gi" },
      replicas: { to: "2", refused: /tenants\.yaml:1:\d+: .*no replicas on Docker/ },
      sync: { to: "off", refused: /tenants\.yaml:1:\d+: .*no sync on Docker/ },
      access: { to: "false" },
      state: { to: "running" },
      hostname: { to: "other", ofRoute: true },
      // Scripts count only when the database is first made.
      init: { to: "[init/acme.sql]", plansNothing: true },
      settings: { to: "{ max_connections: 50, work_mem: 1MB }" },
      passwordVersion: { to: "2" },
      onRemove: { to: "delete" },
      tls: { to: "passthrough", ofRoute: true },
      allow: { to: "[203.0.113.0/24]" },
      maxConnectionsPerClient: { to: "200", ofRoute: true },
      pooler: { to: "{}" },
      superuser: { to: "off" },
      roles: { to: "{ app: { grants: readonly } }" },
      extensions: { to: "[pg_trgm]" },
      image: { to: "demo", refused: /18-demo/ },
      // What a database was made with it keeps.
      locale: { to: "C", refused: /tenants\.yaml:1:\d+: .*locale/ },
      encoding: { to: "LATIN1", refused: /tenants\.yaml:1:\d+: .*encoding/ },
      icu: { to: "sv", refused: /tenants\.yaml:1:\d+: .*icu/ },
      volume: {
        to: "elsewhere",
        refused: /the tenant's data is in the volume \S+, and an edit cannot change that/,
      },
      backup: { to: "{ schedule: 03:00 }", refused: /pgs:backups\.schedule is off/ },
      restoreFrom: { to: "{ tenant: globex }", refused: /restoreFrom needs the stack's backups/ },
    };

  test("every field of the schema is tried", () => {
    const schema = JSON.parse(readFileSync(join(root, "tenants.schema.json"), "utf8"));
    expect(Object.keys(fields).sort()).toEqual(fieldsOf(schema).sort());
  });

  const refusals = Object.entries(fields).filter(([, { refused }]) => refused);
  const planned = Object.entries(fields).filter(([, { refused }]) => !refused);

  describe("tenants.yaml:", () => {
    const both = "tenants: { acme: {}, globex: {} }";
    afterAll(() => checkout.apply(both));

    test.each(refusals)("%s", async (field, { to, refused }) => {
      if (field === "version") await checkout.pulumi("config", "set", "--path", "pgs:images.19", image);
      checkout.write("tenants.yaml", `tenants: { acme: { ${field}: ${to} }, globex: {} }`);
      const { steps, problem } = await plan();
      expect(problem).toMatch(refused as RegExp);
      // The plan ends early, and none of its steps changes a volume.
      expect(steps.filter(({ op, urn }) => urn.includes("Volume::") && op !== "same")).toEqual([]);
    });

    describe("all others in one plan, each of a tenant of its own:", () => {
      let steps: Step[];
      beforeAll(async () => {
        const file = (entry: (field: string, to: string) => string) => {
          const entries = planned.map(([field, { to }]) => `${field.toLowerCase()}: { ${entry(field, to)} }`);
          return `tenants: { acme: {}, globex: {}, ${entries.join(", ")} }`;
        };
        // What is stopped costs no server, and has no route.
        const state = (field: string) => (fields[field]?.ofRoute ? "running" : "stopped");
        await checkout.apply(file((field) => `state: ${state(field)}`));
        checkout.write(
          "tenants.yaml",
          file((field, to) => `${field === "state" ? "" : `state: ${state(field)}, `}${field}: ${to}`),
        );
        const { steps: all, problem } = await plan();
        expect(problem).toBe("");
        expectVolumesKept(all, 3 + planned.length);
        steps = all;
      });

      test.each(planned)("%s", (field, { plansNothing }) => {
        const own = steps.filter(({ urn }) => urn.split("::").at(-1)?.split("-")[0] === field.toLowerCase());
        expect(own.filter(({ urn }) => urn.includes("Volume::")).map(({ op }) => op)).toEqual(["same"]);
        if (plansNothing) expect(changes(own)).toEqual([]);
        else expect(changes(own)).not.toEqual([]);
      });
    });
  });

  const keys: Record<
    string,
    { path: string; to: string; secret?: boolean; plansNothing?: boolean; refused?: RegExp }
  > = {
    platform: {
      path: "pgs:platform",
      to: "kubernetes",
      refused: /Kubernetes has no such key: it is one of pgs:kubernetes.images there/,
    },
    kubernetes: {
      path: "pgs:kubernetes.proxyReplicas",
      to: "3",
      refused: /pgs:kubernetes: Docker has no such key/,
    },
    domain: { path: "pgs:domain", to: "db.example.com" },
    port: { path: "pgs:port", to: "1" },
    tenantsFile: { path: "pgs:tenantsFile", to: "tenants-moved.yaml", plansNothing: true },
    prefix: { path: "pgs:prefix", to: "pgst-elsewhere" },
    tenantSubnets: { path: "pgs:tenantSubnets", to: "10.208.0.0/12" },
    isolation: { path: "pgs:isolation", to: "shared" },
    allow: { path: "pgs:allow[0]", to: "203.0.113.0/24" },
    ipv6Subnet: { path: "pgs:ipv6Subnet", to: "fd5c:1a2b:3c4d:1::/64" },
    images: { path: "pgs:images.18", to: "postgres:18.5-bookworm" },
    passwords: { path: "pgs:passwords.acme", to: "of-my-own", secret: true },
    certificate: { path: "pgs:certificate", to: "" },
    diskReserve: { path: "pgs:diskReserve", to: "1Gi" },
    certificateDays: { path: "pgs:certificateDays", to: "90" },
    hostnameSuffix: { path: "pgs:hostnameSuffix", to: "random" },
    // Off in these tests' stack.
    backups: { path: "pgs:backups.schedule", to: "02:30" },
    monitoring: { path: "pgs:monitoring.enabled", to: "true" },
  };

  test("every configuration key of Pulumi.yaml is tried", () => {
    const declared = Object.keys(parse(readFileSync(join(root, "Pulumi.yaml"), "utf8")).config);
    expect(Object.keys(keys)).toEqual(expect.arrayContaining(declared));
  });

  test.each(Object.entries(keys))(
    "configuration: %s",
    async (key, { path, to, secret, plansNothing, refused }) => {
      const before = readFileSync(join(checkout.folder, "Pulumi.dev.yaml"), "utf8");
      onTestFinished(() => checkout.write("Pulumi.dev.yaml", before));
      if (key === "certificate") await useOwnCertificate();
      else await checkout.pulumi("config", "set", ...(secret ? ["--secret"] : []), "--path", path, to);
      const { steps, problem } = await plan();
      if (refused) return expect(problem).toMatch(refused);
      expect(problem).toBe("");
      expectVolumesKept(steps);
      if (!plansNothing) expect(changes(steps)).not.toEqual([]);
    },
  );

  test("and applied, another prefix makes new containers on the old volumes", async () => {
    const before = readFileSync(join(checkout.folder, "Pulumi.dev.yaml"), "utf8");
    await checkout.pulumi("config", "set", "pgs:prefix", `${checkout.prefix}b`);
    await checkout.up();
    expect(await checkout.query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
    checkout.write("Pulumi.dev.yaml", before);
    await checkout.up();
    expect(await checkout.query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  async function useOwnCertificate(): Promise<void> {
    const file = (name: string) => join(checkout.folder, name);
    await succeed("openssl", [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"],
      ...["-subj", "/CN=test", "-addext", "subjectAltName=DNS:*.pgs.localhost"],
      ...["-keyout", file("own.key"), "-out", file("own.pem")],
    ]);
    await checkout.pulumi("config", "set", "--path", "pgs:certificate.chain", file("own.pem"));
    await checkout.pulumi("config", "set", "--path", "pgs:certificate.key", file("own.key"));
  }
});

describe("another major version on data that exists is refused, in the preview and in the up, with what to do instead:", () => {
  beforeAll(() => checkout.pulumi("config", "set", "--path", "pgs:images.19", image));
  const refusal =
    /the tenant's data is that of PostgreSQL 18 and cannot be used by 19: write version: 18 again\. To move to 19, add a second tenant/;

  test.each([
    ["a running tenant", undefined],
    ["a tenant that was stopped", "tenants: { acme: { state: stopped }, globex: {} }"],
    ["a tenant that was removed and is added again", "tenants: { globex: {} }"],
  ])("%s", async (_, before) => {
    if (before) await checkout.apply(before);
    checkout.write("tenants.yaml", "tenants: { acme: { version: 19 }, globex: {} }");
    const preview = await checkout.tryPulumi("preview");
    expect(preview.code).not.toBe(0);
    expect(preview.output).toMatch(refusal);
    const up = await checkout.tryUp();
    expect(up.code).not.toBe(0);
    expect(up.output).toMatch(refusal);
    if (!before) expect(await checkout.query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
  });

  test("and all of them left the data as it was", async () => {
    await checkout.apply("tenants: { acme: {}, globex: {} }");
    expect(await checkout.query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
    await checkout.pulumi("preview", "--expect-no-changes");
  });
});

describe("removing an entry", () => {
  test("keeps the volume, and the up says where the data is", async () => {
    const output = await checkout.apply("tenants: { globex: { onRemove: delete } }");
    expect(output).toContain(`The data of acme stays in the Docker volume ${checkout.name("acme")}.`);
    expect(output).not.toContain("The data of globex");
    expect(await volumeExists("acme")).toBe(true);
    expect((await run("docker", ["inspect", checkout.name("acme"), "--type", "container"])).code).not.toBe(0);
  });

  test("and adding it again takes the data up, with a new password that works", async () => {
    await checkout.apply("tenants: { acme: {}, globex: { onRemove: delete } }");
    expect(await checkout.query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
    await checkout.query("globex", "SELECT 1");
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  test("deletes the volume only where onRemove: delete was applied before, and the up says which", async () => {
    const output = await checkout.apply("defaults: { onRemove: delete }\ntenants: {}");
    expect(output).toContain(`The data of acme stays in the Docker volume ${checkout.name("acme")}.`);
    expect(output).toContain("The data of globex is deleted: onRemove is delete.");
    expect(await volumeExists("acme")).toBe(true);
    expect(await volumeExists("globex")).toBe(false);
  });

  test("keeps the volume again once onRemove was taken back", async () => {
    await checkout.apply("tenants: { acme: {}, globex: { onRemove: delete } }");
    expect(await checkout.query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
    await checkout.apply("tenants: { acme: {}, globex: {} }");
    await checkout.apply("tenants: { acme: {} }");
    expect(await volumeExists("globex")).toBe(true);
  });
});

test("pulumi destroy keeps the data and says where it is; the next up takes it up", async () => {
  const output = await checkout.pulumi("destroy", "--yes", "--skip-preview");
  expect(output).toContain(`The data of acme stays in the Docker volume ${checkout.name("acme")}.`);
  expect(await volumeExists("acme")).toBe(true);
  await checkout.up();
  expect(await checkout.query("acme", "SELECT i FROM kept")).toEqual([{ i: 1 }]);
});

/** The fields of a tenant in the JSON schema. */
function fieldsOf(schema: { properties: { tenants: { additionalProperties: unknown } } }): string[] {
  const found: string[] = [];
  const visit = (part: unknown): void => {
    if (part === null || typeof part !== "object") return;
    const { properties } = part as { properties?: Record<string, unknown> };
    if (properties) found.push(...Object.keys(properties));
    else for (const inner of Object.values(part)) visit(inner);
  };
  visit(schema.properties.tenants.additionalProperties);
  return found;
}
