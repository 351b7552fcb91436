import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { ConfigurationError, checkedSettings, secretKeys } from "../../../config";
import { configurationSchema } from "../../../config/schema";

const root = join(__dirname, "..", "..", "..");

/** The lines of the message that the configuration is refused with. */
function problemsOf(raw: Record<string, unknown>, options = {}): string[] {
  try {
    checkedSettings(raw, options);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigurationError);
    return (error as Error).message.split("\n");
  }
  throw new Error("accepted");
}

const keysOf = (raw: Record<string, unknown>) =>
  problemsOf(raw).map((line) => line.slice(0, line.indexOf(": ")));

describe("a configuration", () => {
  it("that is empty is the defaults", () => {
    expect(checkedSettings({})).toEqual({
      platform: "docker",
      domain: "pgs.localhost",
      port: 5432,
      tenantsFile: "tenants.yaml",
      prefix: "pgs",
      tenantSubnets: "10.213.0.0/16",
      isolation: "network",
      hostnameSuffix: "none",
      diskReserve: "2Gi",
      certificateDays: 365,
      proxyImage: expect.stringMatching(/^traefik:/),
      barmanImage: expect.stringMatching(/^pgs-barman:/),
      poolerImage: expect.stringMatching(/^pgs-pgbouncer:/),
      monitoring: undefined,
      monitoringImages: {
        prometheus: expect.stringMatching(/^prom\/prometheus:v3\./),
        exporter: expect.stringMatching(/postgres-exporter:v/),
        alertmanager: expect.stringMatching(/^prom\/alertmanager:v/),
        grafana: expect.stringMatching(/^grafana\/grafana:\d/),
      },
      postgresImages: new Map([["18", expect.stringMatching(/^postgres:18\./)]]),
      backups: { schedule: "02:30", retention: "7d" },
      passwords: {},
      acmeCredentials: {},
      alertCredentials: {},
    });
  });

  it("is the same as text, as JSON and as objects", () => {
    const settings = checkedSettings({
      "pgs:port": 6432,
      "pgs:images": { 17: "postgres:17.5-bookworm" },
      "pgs:acme": { email: "a@b.c", dnsProvider: "cloudflare", propagationSeconds: 30 },
      "pgs:passwords": { acme: "own" },
    });
    expect(
      checkedSettings({
        "pgs:port": "6432",
        "pgs:images": '{"17":"postgres:17.5-bookworm"}',
        "pgs:acme": '{"email":"a@b.c","dnsProvider":"cloudflare","propagationSeconds":"30"}',
        "pgs:passwords": '{"acme":"own"}',
      }),
    ).toEqual(settings);
    expect(settings).toMatchObject({
      port: 6432,
      acme: { propagationSeconds: 30 },
      passwords: { acme: "own" },
    });
  });

  it("with one image, or one key of the backups, has the defaults of the others", () => {
    const settings = checkedSettings({
      "pgs:images": { barman: "registry.example.com/pgs-barman:3.19.1" },
      "pgs:backups": { retention: "14d" },
    });
    expect(settings.barmanImage).toBe("registry.example.com/pgs-barman:3.19.1");
    expect([...settings.postgresImages.keys()]).toEqual(["18"]);
    expect(settings.backups).toEqual({ schedule: "02:30", retention: "14d" });
  });

  it("may have text that Pulumi took for a number or a boolean", () => {
    const settings = checkedSettings({ "pgs:passwords": { acme: 12345, globex: true } });
    expect(settings.passwords).toEqual({ acme: "12345", globex: "true" });
  });

  it.each([
    ["18", "postgres:18.6-bookworm"],
    ["18", "postgres:18"],
    ["18-pgvector", "pgvector/pgvector:pg18"],
    ["17-postgis-3", "registry.example.com:5000/postgis/postgis:17-3.5"],
    ["18", `postgres@sha256:${"0a".repeat(32)}`],
    ["16", "postgres:16.15-bookworm"],
  ])("may have %s: %s, whose name says little", (key, image) => {
    expect(checkedSettings({ "pgs:images": { [key]: image } }).postgresImages.get(key)).toBe(image);
  });

  it("may have the longest names and the last port", () => {
    const domain = `${"a".repeat(63)}.x1.example.com`;
    const longest = { "pgs:prefix": "a23456789-1234", "pgs:port": "65535", "pgs:domain": domain };
    expect(checkedSettings(longest)).toMatchObject({ prefix: "a23456789-1234", port: 65535, domain });
  });

  it("has a destination with its credentials, and the encryption that nobody chose", () => {
    const backups = { destination: "s3://off-site/pgs" };
    const backupCredentials = { accessKeyId: "the-id", secretAccessKey: "the-key" };
    expect(
      checkedSettings({ "pgs:backups": backups, "pgs:backupCredentials": backupCredentials })
        .backupDestination,
    ).toEqual({ ...backups, encryption: "AES256", ...backupCredentials });
  });

  it("has no secrets where they are left out, and is right without them", () => {
    const backups = { destination: "s3://off-site/pgs" };
    const settings = checkedSettings(
      { "pgs:backups": backups, "pgs:passwords": 5 },
      { withoutSecrets: true },
    );
    expect(settings).toMatchObject({ passwords: {}, backupDestination: { accessKeyId: "" } });
  });

  it("has the Docker provider's own key", () => {
    expect(checkedSettings({ "docker:host": "ssh://root@db1", "docker:other": "x" }).dockerHost).toBe(
      "ssh://root@db1",
    );
  });
});

describe("a wrong configuration", () => {
  it("is one error with every problem, each with its key, what is allowed and how to set it", () => {
    const problems = problemsOf({
      "pgs:domain": "Not a domain",
      "pgs:port": "0",
      "pgs:prefix": "Dev_1",
      "pgs:isolation": "none",
      "pgs:hostnameSuffix": "some",
      "pgs:images": '{"proxy":"traefik:v3.7.15","18":"postgres","15":"postgres:15.19-bookworm"}',
      "pgs:certificate": '{"chain":"chain.pem"}',
      "pgs:prefx": "pgs",
    });
    expect(problems).toEqual([
      `pgs:domain: expected a domain name such as pgs.example.com, got "Not a domain" (pulumi config set --path 'pgs:domain' …)`,
      "pgs:port: expected a port from 1 to 65535, got 0 (pulumi config set --path 'pgs:port' …)",
      "pgs:prefix: expected up to 14 lower-case letters, digits and inner hyphens, a letter first, got Dev_1 (pulumi config set --path 'pgs:prefix' …)",
      "pgs:isolation: expected network or shared, got none (pulumi config set --path 'pgs:isolation' …)",
      "pgs:hostnameSuffix: expected none or random, got some (pulumi config set --path 'pgs:hostnameSuffix' …)",
      "pgs:images.15: expected the key `proxy`, `barman`, `pooler`, `prometheus`, `exporter`, `alertmanager`, `grafana`, or a PostgreSQL major version from 16 on, which may have a variant: 18-pgvector, got postgres:15.19-bookworm (pulumi config set --path 'pgs:images.15' …)",
      "pgs:images.18: expected a tag other than latest, such as 18.6-bookworm, or a digest, got postgres (pulumi config set --path 'pgs:images.18' …)",
      "pgs:certificate.key: expected the path of a PEM file (pulumi config set --path 'pgs:certificate.key' …)",
      expect.stringMatching(
        /^pgs:prefx: there is no such key; did you mean prefix\?; allowed: platform, domain, .* \(pulumi config rm --path 'pgs:prefx'\)$/,
      ),
    ]);
  });

  it.each([
    ["domain", ["", "-a.com", "a..com", "a.com.", "*.a.com", "A.com", `${"a".repeat(64)}.com`, "a.com\n"]],
    ["port", ["", "0", "-1", "65536", "1.5", "abc", "{}"]],
    ["tenantsFile", ["", "a\u0000b", "a\u009bb"]],
    ["prefix", ["", "1a", "-a", "a-", "A", "a_b", "a".repeat(17)]],
    ["tenantSubnets", ["", "10.0.0.0", "10.0.0.0/30", "10.0.0/16", "10.0.0.0/16/1", "::/64"]],
    ["isolation", ["", "none", "Network"]],
    ["diskReserve", ["2GB", "0", "", "-1Gi", "9999999Gi"]],
    ["certificateDays", ["0", "1.5", "3651", "-1"]],
    ["hostnameSuffix", ["", "some", "Random", "true"]],
    ["images", ["", "postgres", "[]", "5"]],
    ["certificate", ["", "chain.pem", "[]"]],
    ["backups", ["", "off", "[]"]],
    ["acme", ["", "on"]],
  ])("of pgs:%s is refused", (key, values) => {
    for (const value of values) {
      expect(problemsOf({ [`pgs:${key}`]: value }), value).toEqual([
        expect.stringMatching(new RegExp(`^pgs:${key}: expected .*$`)),
      ]);
    }
  });

  it.each([
    ["schedule", ["", "daily", "24:00", "2:30"]],
    ["retention", ["", "7", "0d", "a week"]],
    ["destination", ["s3", "https://s3.example.com/off-site", "s3://off-site/../x y"]],
    ["encryption", ["", "yes"]],
    ["endpoint", ["s3.example.com", "https://a\u001b[2J"]],
    ["region", ["EU", ""]],
  ])("of pgs:backups.%s is refused", (key, values) => {
    const credentials = { accessKeyId: "a", secretAccessKey: "b" };
    for (const value of values) {
      const backups = JSON.stringify({ destination: "s3://off-site", [key]: value });
      expect(problemsOf({ "pgs:backups": backups, "pgs:backupCredentials": credentials }), value).toEqual([
        expect.stringMatching(new RegExp(`^pgs:backups\\.${key}: expected .*$`)),
      ]);
    }
  });

  it.each([
    ["proxy", "traefik"],
    ["proxy", "traefik:v3"],
    ["proxy", "traefik:v3.7.15\u001b[2J"],
    ["proxy", "traefik:v3.7.15 --privileged"],
    ["proxy", 5],
    ["18", "postgres"],
    ["18", "postgres:latest"],
    ["18", "example.com:5000.1/postgres"],
    ["18-pgvector", "pgvector/pgvector"],
    ["18-pgvector", "pgvector/pgvector:pg18 --privileged"],
    ["18", "postgres@sha256:12"],
  ])("has the %s image %s, which moves or is none", (key, image) => {
    expect(problemsOf({ "pgs:images": { [key]: image } })).toEqual([
      expect.stringMatching(new RegExp(`^pgs:images\\.${key}: expected a tag [^\\p{Cc}]*$`, "u")),
    ]);
  });

  it.each([
    [{ dnsProvider: "cloudflare" }, ["acme.email"]],
    [{ email: "operator", dnsProvider: "Cloud Flare" }, ["acme.email", "acme.dnsProvider"]],
    [{ email: "a@b.c", dnsProvider: "exec" }, ["acme.dnsProvider"]],
    [{ email: "a@b.c", dnsProvider: "cloudflare", token: "x" }, ["acme.token"]],
    [{ email: "a@b.c", dnsProvider: "cloudflare", resolvers: [] }, ["acme.resolvers"]],
    [
      {
        email: "a@b.c",
        dnsProvider: "cloudflare",
        caServer: "http://x",
        caCertificate: "",
        resolvers: ["9.9.9.9:53", "dns.example.com:53"],
        propagationSeconds: 0,
      },
      ["acme.caServer", "acme.caCertificate", "acme.resolvers[1]", "acme.propagationSeconds"],
    ],
  ])("of pgs:acme is refused, key by key: %j", (acme, keys) => {
    expect(keysOf({ "pgs:acme": JSON.stringify(acme) })).toEqual(keys.map((key) => `pgs:${key}`));
  });

  it("has two ways to one certificate, or half of a destination", () => {
    const acme = '{"email":"a@b.c","dnsProvider":"cloudflare"}';
    expect(problemsOf({ "pgs:acme": acme, "pgs:certificate": '{"chain":"a","key":"b"}' })).toEqual([
      expect.stringContaining("pgs:acme: expected only one of pgs:acme and pgs:certificate"),
    ]);
    expect(keysOf({ "pgs:backups": { region: "eu-central-1" } })).toEqual(["pgs:backups.region"]);
    expect(keysOf({ "pgs:backups": { destination: "s3://off-site" } })).toEqual([
      "pgs:backupCredentials.accessKeyId",
    ]);
  });

  it("is refused without a word of a secret", () => {
    const problems = problemsOf(
      {
        "pgs:passwords": { acme: "sEcret\u0007" },
        "pgs:acmeCredentials": { lower: "sEcret", TOKEN: "sEcret\u001b" },
        "pgs:backupCredentials": { accessKeyId: "sEcret space", secretAccessKey: "b" },
        "pgs:domain": "sEcret.example.com",
      },
      { secrets: ["pgs:domain"] },
    );
    expect(problems.map((line) => line.slice(0, line.indexOf(": ")))).toEqual([
      "pgs:domain",
      "pgs:passwords.acme",
      "pgs:acmeCredentials.lower",
      "pgs:acmeCredentials.TOKEN",
      "pgs:backupCredentials.accessKeyId",
    ]);
    expect(problems.join()).not.toContain("sEcret");
  });

  it("has each value on its line, and in no terminal's language", () => {
    const [problem, ...others] = problemsOf({ "pgs:domain": "a\nb\u001b]0;x\u0007\u009b2J\u2028" });
    expect(others).toEqual([]);
    expect(problem).toContain('got "a\\nb\\u001b]0;x\\u0007\\u009b2J\\u2028"');
  });
});

describe("alerts", () => {
  it("are sent nowhere without the secrets that this needs", () => {
    const monitoring = {
      enabled: true,
      alerts: { slack: "#ops", email: { to: "a@b.c", from: "d@e.f", smarthost: "g.h:25", username: "i" } },
    };
    expect(() => checkedSettings({ "pgs:monitoring": JSON.stringify(monitoring) })).toThrow(
      /pgs:alertCredentials.slackUrl: expected the secret for .*slack.* --secret .*\n.*pgs:alertCredentials.smtpPassword: expected/,
    );
    const secrets = { slackUrl: "https://x.example/1", smtpPassword: "two words" };
    expect(
      checkedSettings({ "pgs:monitoring": monitoring, "pgs:alertCredentials": secrets }).alertCredentials,
    ).toEqual(secrets);
  });

  it("name the keys that there are", () => {
    const monitoring = { alerts: { email: { too: "a@b.c" } } };
    expect(() => checkedSettings({ "pgs:monitoring": monitoring })).toThrow(
      /pgs:monitoring.alerts.email.too: there is no such key; did you mean to\?; allowed: to, from, smarthost, username/,
    );
  });
});

describe("a platform", () => {
  const onCluster = { "pgs:platform": "kubernetes", "pgs:backups": { schedule: "off" } };

  it("has the keys of its own with their defaults, and images that are made for it", () => {
    const settings = checkedSettings(onCluster);
    expect(settings.kubernetes).toEqual({ exposure: "LoadBalancer", proxyReplicas: 2 });
    expect(settings.postgresImages.get("18")).toMatch(/cloudnative-pg/);
    const other = { ...onCluster, "pgs:kubernetes": { images: { 17: "registry.example.com/pg:17.5" } } };
    expect([...checkedSettings(other).postgresImages.keys()].sort()).toEqual(["17", "18"]);
  });

  it("refuses the keys of the other, and says what to do instead", () => {
    expect(
      problemsOf({ ...onCluster, "pgs:isolation": "shared", "pgs:monitoring": { enabled: true } }),
    ).toEqual([
      "pgs:isolation: Kubernetes has no such key: NetworkPolicies keep tenants apart there (pulumi config rm 'pgs:isolation')",
      expect.stringMatching(/^pgs:monitoring: Kubernetes has no such key: /),
    ]);
    expect(problemsOf({ "pgs:kubernetes": { proxyReplicas: 3 } })).toEqual([
      expect.stringMatching(
        /^pgs:kubernetes: Docker has no such key: only a stack with pgs:platform kubernetes/,
      ),
    ]);
  });

  it("takes those that are at their defaults, as Pulumi hands them over", () => {
    const handed = { "pgs:isolation": "network", "pgs:monitoring": "{}", "pgs:diskReserve": "2Gi" };
    expect(checkedSettings({ ...onCluster, ...handed }).platform).toBe("kubernetes");
  });

  it("without backups has to be told that there are none", () => {
    expect(problemsOf({ "pgs:platform": "kubernetes" })).toEqual([
      expect.stringMatching(/^pgs:backups\.destination: backups on Kubernetes go to a bucket: expected one/),
    ]);
  });

  it("with NodePorts has a port of their range", () => {
    const kubernetes = { exposure: "NodePort" };
    expect(problemsOf({ ...onCluster, "pgs:kubernetes": kubernetes })).toEqual([
      expect.stringMatching(/^pgs:port: expected a port from 30000 to 32767 .*, got 5432/),
    ]);
    checkedSettings({ ...onCluster, "pgs:kubernetes": kubernetes, "pgs:port": "30432" });
  });

  it.each([
    [{ exposure: "Ingress" }, "pgs:kubernetes.exposure: expected LoadBalancer, NodePort or hostPort"],
    [{ contxt: "x" }, "pgs:kubernetes.contxt: there is no such key; did you mean context?"],
    [{ images: { 18: "postgres:latest" } }, "pgs:kubernetes.images.18: expected a tag other than latest"],
    [
      { images: { new: "postgres:18.1" } },
      "pgs:kubernetes.images.new: expected `pooler`, or a PostgreSQL major version",
    ],
  ])("refuses %j", (kubernetes, message) => {
    expect(problemsOf({ ...onCluster, "pgs:kubernetes": kubernetes })[0]).toContain(message);
  });
});

describe("Pulumi.yaml", () => {
  const declared: Record<string, { type: string; description: string; default: unknown }> = parse(
    readFileSync(join(root, "Pulumi.yaml"), "utf8"),
  ).config;
  const { properties } = z.toJSONSchema(configurationSchema, { io: "output", unrepresentable: "any" }) as {
    properties: Record<string, { type: string; description: string }>;
  };
  const defaults: Record<string, unknown> = configurationSchema.parse({});

  // Without a default, Pulumi would insist on a declared key in each stack's configuration.
  const withDefault = Object.keys(properties).filter(
    (key) => defaults[key] !== undefined && !(secretKeys as readonly string[]).includes(key),
  );

  it("declares the keys of the schema that have a default", () => {
    expect(Object.keys(declared)).toEqual(withDefault);
  });

  it.each(withDefault)("has type, default and description of %s as the schema has them", (key) => {
    expect(declared[key]?.type).toBe(properties[key]?.type);
    expect(declared[key]?.description).toBe(properties[key]?.description);
    const inYaml = checkedSettings({ [`pgs:${key}`]: declared[key]?.default });
    expect(inYaml).toEqual(checkedSettings({}));
    // Neither more nor less than the schema has: only what is the same without a destination is left out.
    const { encryption: _, ...rest } = defaults.backups as Record<string, unknown>;
    expect(declared[key]?.default).toEqual(key === "backups" ? rest : defaults[key]);
  });
});

describe("docs/configuration.md", () => {
  it("lists every key with its default and its description", () => {
    expect(readFileSync(join(root, "docs/configuration.md"), "utf8")).toContain(configurationTable());
  });
});

/** The schema as a table in Markdown. */
function configurationTable(): string {
  interface Property {
    description: string;
    default?: unknown;
    properties?: Record<string, Property>;
  }
  const { properties } = z.toJSONSchema(configurationSchema, { io: "output", unrepresentable: "any" }) as {
    properties: Record<string, Property>;
  };
  const row = (cells: string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const defaults: Record<string, unknown> = configurationSchema.parse({});
  const shown = (value: unknown) =>
    ["string", "number", "boolean"].includes(typeof value) ? `\`${value}\`` : "";
  const rows = Object.entries(properties).flatMap(([key, property]) => {
    const images = key === "images" ? Object.entries(defaults.images as object) : [];
    return [
      row([`\`pgs:${key}\``, shown(defaults[key]), property.description]),
      ...images.map(([name, image]) => row([`\`pgs:images.${name}\``, shown(image), ""])),
      ...((secretKeys as readonly string[]).includes(key)
        ? []
        : Object.entries(property.properties ?? {})
      ).map(([name, field]) => row([`\`pgs:${key}.${name}\``, shown(field.default), field.description])),
    ];
  });
  return ["| key | default | |", "|---|---|---|", ...rows].join("\n");
}
