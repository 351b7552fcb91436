import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { checkedSettings } from "../../../config";
import { type Digests, digestsOf, isLimitedTo, limitedIds, limitedTo } from "../../../config/digest";
import { parseTenants } from "../../../tenants";

/** A checkout with a little of each that the program reads. */
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pgs-unit-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  for (const path of [
    "backups",
    "config",
    "docker",
    "provider",
    "kubernetes",
    "restore",
    "cancel",
    "monitoring",
    "tenants",
    "components/deep",
    "init",
  ]) {
    mkdirSync(join(folder, path), { recursive: true });
  }
  for (const path of ["index.ts", "Pulumi.yaml", "package-lock.json", "components/deep/a.ts", "init/a.sql"]) {
    writeFileSync(join(folder, path), path);
  }
  for (const path of ["chain.pem", "key.pem"]) writeFileSync(join(folder, path), path);
});

const certificate = { chain: "chain.pem", key: "key.pem" };
const destination = {
  "pgs:backups": { destination: "s3://off-site" },
  "pgs:backupCredentials": { accessKeyId: "a", secretAccessKey: "b" },
};

function digests(
  tenants: string,
  config: Record<string, unknown> = {},
  { at = folder, dockerHost = undefined as string | undefined } = {},
): Digests {
  return digestsOf({
    settings: checkedSettings(config),
    raw: config,
    dockerHost,
    tenants: parseTenants(`tenants: ${tenants}`, { folder: at, images: ["17", "18"] }),
    folder: at,
  });
}

const two = "{ acme: {}, globex: { init: [init/a.sql] } }";

describe("the digests", () => {
  it("are the same for what means the same", () => {
    const spread = "{\n  # a comment\n  globex: { init: [init/a.sql] },\n  acme: { memory: 512Mi }\n}";
    expect(digests(spread)).toEqual(digests(two));
    expect(digests(two, { "pgs:port": "5432", "pgs:images": '{"18":"postgres:18.6-bookworm"}' })).toEqual(
      digests(two),
    );
    const asText = { "docker:registryAuth": '[{"username":"a","address":"b"}]' };
    expect(digests(two, asText)).toEqual(
      digests(two, { "docker:registryAuth": [{ address: "b", username: "a" }], "pulumi:tags": "{}" }),
    );
    expect(digests(two, { "docker:host": "ssh://x" })).not.toEqual(digests(two));
  });

  it("are the same in a checkout that was moved", () => {
    const before = digests(two);
    const moved = mkdtempSync(join(tmpdir(), "pgs-unit-"));
    onTestFinished(() => rmSync(moved, { recursive: true }));
    for (const name of readdirSync(folder))
      cpSync(join(folder, name), join(moved, name), { recursive: true });
    expect(digests(two, {}, { at: moved })).toEqual(before);
  });

  it.each<[string, Record<string, unknown>]>([
    ["domain", { "pgs:domain": "x.test" }],
    ["port", { "pgs:port": 1 }],
    ["tenantsFile", { "pgs:tenantsFile": "others.yaml" }],
    ["prefix", { "pgs:prefix": "other" }],
    ["tenantSubnets", { "pgs:tenantSubnets": "10.0.0.0/8" }],
    ["isolation", { "pgs:isolation": "shared" }],
    ["hostnameSuffix", { "pgs:hostnameSuffix": "random" }],
    ["certificateDays", { "pgs:certificateDays": 90 }],
    ["an image", { "pgs:images": { 17: "postgres:17.5-bookworm" } }],
    ["the backups' schedule", { "pgs:backups": { schedule: "03:00" } }],
    ["the backups' retention", { "pgs:backups": { retention: "9d" } }],
    ["a destination", destination],
    [
      "its credentials",
      { ...destination, "pgs:backupCredentials": { accessKeyId: "a", secretAccessKey: "c" } },
    ],
    ["a certificate", { "pgs:certificate": certificate }],
    ["ACME", { "pgs:acme": { email: "a@b.c", dnsProvider: "cloudflare" } }],
    ["ACME's credentials", { "pgs:acmeCredentials": { TOKEN: "x" } }],
    ["a provider's own key", { "docker:host": "ssh://root@db1" }],
  ])("of the stack differ by %s, those of tenants do not", (_, config) => {
    const [before, after] = [digests(two, "its credentials" === _ ? destination : {}), digests(two, config)];
    expect(after.stack).not.toBe(before.stack);
    expect(after.tenants).toEqual(before.tenants);
  });

  it("of the stack differ by the engine, the program and the certificate's files", () => {
    const config = { "pgs:certificate": certificate };
    const seen = new Set([digests(two, config).stack]);
    const expectAnother = (options = {}) => {
      const { stack } = digests(two, config, options);
      expect(seen.has(stack)).toBe(false);
      seen.add(stack);
    };
    expectAnother({ dockerHost: "ssh://root@db1" });
    for (const path of ["chain.pem", "key.pem", "index.ts", "components/deep/a.ts", "package-lock.json"]) {
      writeFileSync(join(folder, path), `${path}, changed`);
      expectAnother();
    }
    rmSync(join(folder, "chain.pem"));
    expectAnother();
  });

  it("end for a certificate that never does", () => {
    expect(digests(two, { "pgs:certificate": { chain: "/dev/zero", key: "key.pem" } }).stack).toMatch(
      /^[0-9a-f]{64}$/,
    );
  });

  it.each([
    ["the first server of a version", "{ acme: {}, globex: { version: 17 } }", "{ acme: {}, globex: {} }"],
    ["the last server of a version", "{ acme: { state: stopped } }", "{ acme: {} }"],
    ["the first tenant with backups", "{ acme: {} }", "{ acme: { backup: { schedule: off } } }"],
  ])("of the stack differ by %s, whose image is no tenant's own", (_, one, other) => {
    expect(digests(one).stack).not.toBe(digests(other).stack);
  });

  it.each([
    ["who is backed up", "{ acme: {}, globex: { backup: { schedule: off } } }"],
    ["for how long", "{ acme: {}, globex: { backup: { retention: 9d } } }"],
  ])("of the stack differ by %s, where backups are copied off the host", (_, other) => {
    const all = "{ acme: {}, globex: {} }";
    expect(digests(all).stack).toBe(digests(other).stack);
    expect(digests(all, destination).stack).not.toBe(digests(other, destination).stack);
  });

  it.each([
    "memory: 1Gi",
    "cpus: 2",
    "access: false",
    "state: stopped",
    "tls: passthrough",
    "hostname: db",
    "settings: { work_mem: 5MB }",
    "roles: { app: {} }",
    "passwordVersion: 2",
    "onRemove: delete",
    "backup: { retention: 9d }",
    "init: [init/a.sql]",
    "volume: another",
    "restoreFrom: { tenant: other }",
  ])("of one tenant differ by %s", (field) => {
    const [before, after] = [
      digests("{ acme: {}, globex: {} }"),
      digests(`{ acme: { ${field} }, globex: {} }`),
    ];
    expect(after.stack).toBe(before.stack);
    expect(after.tenants.acme).not.toBe(before.tenants.acme);
    expect(after.tenants.globex).toBe(before.tenants.globex);
  });

  it("of one tenant differ by the passwords of its roles", () => {
    const withRole = "{ acme: {}, globex: { roles: { app: {} } } }";
    const after = digests(withRole, { "pgs:passwords": { "globex/app": "own", "acme/app": "of no role" } });
    expect(after.tenants.globex).not.toBe(digests(withRole).tenants.globex);
    expect(after.tenants.acme).toBe(digests(withRole).tenants.acme);
  });

  it("of one tenant differ by its own password and by what is in its init scripts", () => {
    const before = digests(two);
    const after = digests(two, { "pgs:passwords": { acme: "own", unknown: "x" } });
    expect(after.stack).toBe(before.stack);
    expect(after.tenants.acme).not.toBe(before.tenants.acme);
    expect(after.tenants.globex).toBe(before.tenants.globex);
    writeFileSync(join(folder, "init/a.sql"), "changed");
    expect(digests(two).tenants.globex).not.toBe(before.tenants.globex);
  });
});

describe("an up of some tenants alone", () => {
  it("is one when nothing else differs from what was applied", () => {
    const applied = digests(two);
    const wanted = (text: string) => digests(text);
    expect(
      isLimitedTo(["acme"], applied, wanted("{ acme: { memory: 1Gi }, globex: { init: [init/a.sql] } }")),
    ).toBe(true);
    expect(isLimitedTo(["acme"], applied, wanted("{ globex: { init: [init/a.sql] } }"))).toBe(true);
    expect(isLimitedTo(["acme", "more"], applied, wanted(`{ more: {}, ${two.slice(1)}`))).toBe(true);
    expect(isLimitedTo([], applied, applied)).toBe(true);
  });

  it.each<[string, string, Record<string, unknown>]>([
    ["another tenant is not made yet", `{ other: {}, ${two.slice(1)}`, {}],
    ["another tenant is not removed yet", "{ acme: {} }", {}],
    ["another tenant is changed", "{ acme: {}, globex: { init: [init/a.sql], cpus: 2 } }", {}],
    ["another tenant has another password", two, { "pgs:passwords": { globex: "own" } }],
    ["another prefix is pending", two, { "pgs:prefix": "other" }],
  ])("is a whole one when %s", (_, text, config) => {
    expect(isLimitedTo(["acme"], digests(two), digests(text, config))).toBe(false);
  });

  it("is a whole one before the first up", () => {
    expect(isLimitedTo(["acme"], undefined, digests(two))).toBe(false);
  });
});

describe("PGS_LIMITED_TO", () => {
  it("has the ids for the program that reads the same", () => {
    expect(limitedIds(limitedTo(["acme"], digests(two)), digests(two))).toEqual(["acme"]);
    expect(limitedIds(limitedTo(["acme", "globex"], digests(two)), digests(two))).toEqual(["acme", "globex"]);
  });

  it("counts also when the tenants that it is for have changed, and no more when anything else has", () => {
    const variable = limitedTo(["acme"], digests(two));
    expect(limitedIds(variable, digests(two.replace("acme: {}", "acme: { cpus: 2 }")))).toEqual(["acme"]);
    expect(limitedIds(variable, digests("{ acme: {}, globex: {} }"))).toBeUndefined();
    expect(limitedIds(variable, digests(two, { "pgs:prefix": "other" }))).toBeUndefined();
  });

  it("cannot be written by hand", () => {
    const made = limitedTo(["acme"], digests(two));
    for (const variable of [
      "",
      "acme",
      "acme:",
      ":",
      `acme:${"0".repeat(64)}`,
      made.replace("acme", "globex"),
      `${made}0`,
    ]) {
      expect(limitedIds(variable, digests(two)), variable).toBeUndefined();
    }
  });
});
