import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { configurationSchema, secretKeys } from "../../config/schema";
import { Checkout } from "./support/checkout";
import { run, succeed } from "./support/command";

/** Every key, with a value that is not its default, as an operator sets it. */
const values: Record<string, string> = {
  domain: "db.example.com",
  port: "6432",
  tenantsFile: "others.yaml",
  prefix: "other",
  tenantSubnets: "10.9.0.0/16",
  isolation: "shared",
  "allow[0]": "203.0.113.0/24",
  ipv6Subnet: "fd5c:1a2b:3c4d:1::/64",
  hostnameSuffix: "random",
  diskReserve: "1Gi",
  certificateDays: "90",
  "images.proxy": "traefik:v3.7.16",
  "images.18": "postgres:18.7-trixie",
  "images.17": "postgres:17.5-bookworm",
  "images.barman": "registry.example.com/pgs-barman:3.19.1",
  "images.pooler": "pgs-pgbouncer:1.25.2-trixie-1",
  "images.prometheus": "prom/prometheus:v3.6.0",
  "images.exporter": "postgres-exporter:v0.20.0",
  "images.alertmanager": "prom/alertmanager:v0.34.0",
  "images.grafana": "grafana/grafana:12.3.0",
  "monitoring.enabled": "true",
  "monitoring.retention": "30d",
  "monitoring.size": "800MB",
  "monitoring.remoteWrite": "https://prometheus.example.com/api/v1/write",
  "monitoring.alerts.webhook": "https://hooks.example.com/pgs",
  "monitoring.alerts.slack": "#operations",
  "monitoring.alerts.email.to": "operator@example.com",
  "monitoring.alerts.email.from": "pgs@example.com",
  "monitoring.alerts.email.smarthost": "smtp.example.com:587",
  "monitoring.alerts.email.username": "pgs",
  "monitoring.grafana": "true",
  "backups.schedule": "03:00",
  "backups.retention": "14d",
  "backups.destination": "s3://acme-backups/pgs",
  "backups.endpoint": "https://s3.example.com",
  "backups.region": "eu-central-1",
  "backups.encryption": "aws:kms",
  "certificate.chain": "chain.pem",
  "certificate.key": "key.pem",
  "acme.email": "operator@example.com",
  "acme.dnsProvider": "cloudflare",
  "acme.caServer": "https://acme.example.com/directory",
  "acme.caCertificate": "ca.pem",
  "acme.resolvers[0]": "9.9.9.9:53",
  "acme.propagationSeconds": "30",
  "passwords.acme": "12345",
  "acmeCredentials.CF_DNS_API_TOKEN": "the token",
  "backupCredentials.accessKeyId": "the-id",
  "backupCredentials.secretAccessKey": "the-key",
  "alertCredentials.webhookToken": "the-token",
  "alertCredentials.slackUrl": "https://hooks.slack.com/services/T/B/X",
  "alertCredentials.smtpPassword": "of the server",
};

/** The configuration of a stack on a cluster, which has some keys of its own and lacks others. */
const onCluster: Record<string, string> = {
  platform: "kubernetes",
  "backups.schedule": "off",
  port: "30432",
  "kubernetes.kubeconfig": "kubeconfig.yaml",
  "kubernetes.context": "production",
  "kubernetes.storageClass": "fast",
  "kubernetes.exposure": "NodePort",
  "kubernetes.proxyReplicas": "3",
  "kubernetes.operatorManifest": "cnpg.yaml",
  "kubernetes.proxyManifest": "traefik.yaml",
  "kubernetes.images.18": "ghcr.io/cloudnative-pg/postgresql:18.7-system-trixie",
};

const isSecret = (key: string) => secretKeys.some((secret) => key.startsWith(`${secret}.`));

/** The program's settings as an output, in the place of the program. */
const program = `
import { readSettings } from "./components/stack-settings";
const settings = readSettings();
export const answer = { ...settings, postgresImages: Object.fromEntries(settings.postgresImages) };
`;

let checkout: Checkout;
beforeAll(async () => {
  checkout = await Checkout.create("tenants: {}");
  checkout.write("index.ts", program);
});
afterAll(() => checkout?.remove());

async function set(keys: string[]): Promise<void> {
  const pairs = keys.flatMap((key) => [
    isSecret(key) ? "--secret" : "--plaintext",
    `pgs:${key}=${values[key]}`,
  ]);
  await checkout.pulumi("config", "set-all", "--path", ...pairs);
}

async function programsAnswer() {
  await checkout.up();
  return JSON.parse(await checkout.pulumi("stack", "output", "--json", "--show-secrets")).answer;
}

/** What the commands read: with all secrets, or without. */
async function commandsAnswer(withoutSecrets: boolean) {
  const script = `
    require("./cli/lib/stack").readConfiguration({ withoutSecrets: ${withoutSecrets} }).then(({ settings }) =>
      console.log(JSON.stringify({ ...settings, postgresImages: Object.fromEntries(settings.postgresImages) })),
      (error) => { console.error(error.message); process.exitCode = 1; });`;
  const preload = join(checkout.folder, "toolchain/preload.cjs");
  return JSON.parse(await succeed("node", ["--require", preload, "-e", script], checkout.options()));
}

test("every key of the schema is tried", () => {
  const all = { ...values, ...onCluster };
  const tried = new Set(Object.keys(all).map((key) => key.split(/[.[]/)[0]));
  expect([...tried].sort()).toEqual(Object.keys(configurationSchema.shape).sort());
  for (const group of [
    ...(["backups", "acme", "certificate", "backupCredentials"] as const),
    ...(["monitoring", "alertCredentials", "kubernetes"] as const),
  ]) {
    const { shape } = configurationSchema.shape[group].unwrap().out;
    for (const key of Object.keys(shape)) {
      expect(
        Object.keys(all).some((tried) => `${tried.split("[")[0]}.`.startsWith(`${group}.${key}.`)),
        key,
      ).toBe(true);
    }
  }
});

test("program and commands read every key in the same way, as pulumi config set-all --path sets it", async () => {
  const defaults = await programsAnswer();
  expect(await commandsAnswer(false)).toEqual(defaults);
  await set(Object.keys(values).filter((key) => !key.startsWith("acme.")));
  const answer = await programsAnswer();
  expect(await commandsAnswer(false)).toEqual(answer);
  const { passwords, acmeCredentials, backupDestination } = answer;
  expect({ passwords, acmeCredentials }).toEqual({
    passwords: { acme: "12345" },
    acmeCredentials: { CF_DNS_API_TOKEN: "the token" },
  });
  expect(await commandsAnswer(true)).toEqual({
    ...answer,
    passwords: {},
    acmeCredentials: {},
    alertCredentials: {},
    backupDestination: { ...backupDestination, accessKeyId: "", secretAccessKey: "" },
  });
  expect(
    Object.keys(answer).filter((key) => JSON.stringify(answer[key]) === JSON.stringify(defaults[key])),
    // The other one has keys of its own: the next test.
  ).toEqual(["platform"]);

  await checkout.pulumi("config", "rm", "pgs:certificate");
  await set(Object.keys(values).filter((key) => key.startsWith("acme.")));
  const withAcme = await programsAnswer();
  expect(withAcme.acme).toMatchObject({ propagationSeconds: 30, resolvers: ["9.9.9.9:53"] });
  expect(await commandsAnswer(false)).toEqual(withAcme);
});

test("and those of a stack on Kubernetes", async () => {
  const before = readFileSync(join(checkout.folder, "Pulumi.dev.yaml"), "utf8");
  onTestFinished(() => checkout.write("Pulumi.dev.yaml", before));
  await checkout.pulumi(
    "config",
    "rm-all",
    ...Object.keys(JSON.parse(await checkout.pulumi("config", "--json"))),
  );
  const pairs = Object.entries(onCluster).flatMap(([key, value]) => ["--plaintext", `pgs:${key}=${value}`]);
  await checkout.pulumi("config", "set-all", "--path", ...pairs);
  const answer = await programsAnswer();
  expect(await commandsAnswer(false)).toEqual(answer);
  expect(answer).toMatchObject({
    platform: "kubernetes",
    kubernetes: { context: "production", exposure: "NodePort", proxyReplicas: 3 },
    postgresImages: { 18: "ghcr.io/cloudnative-pg/postgresql:18.7-system-trixie" },
  });
});

test("both refuse a wrong one with the same lines", async () => {
  await checkout.pulumi("config", "set", "--path", "pgs:images.18", "postgres");
  await checkout.pulumi("config", "set", "pgs:prefx", "other");
  onTestFinished(async () => {
    await checkout.pulumi("config", "rm", "pgs:images");
    await checkout.pulumi("config", "rm", "pgs:prefx");
  });
  const command = await run("./pgs", ["set", "acme", "memory", "1Gi"], checkout.options());
  expect(command.code).toBe(2);
  expect(command.stderr).toMatch(
    /^pgs:images\.18: expected a tag .*\npgs:prefx: there is no such key; did you mean prefix\?.*\n$/,
  );
  const preview = await checkout.tryPulumi("preview");
  expect(preview.code).not.toBe(0);
  for (const line of command.stderr.trim().split("\n")) expect(preview.output).toContain(line);
});

test("a key that somebody keeps as a secret is read by the commands too", async () => {
  await checkout.pulumi("config", "set", "--secret", "pgs:domain", "hidden.example.com");
  expect((await commandsAnswer(true)).domain).toBe("hidden.example.com");
  await checkout.pulumi("config", "set", "--secret", "pgs:domain", "Not.a.domain");
  const { stderr } = await run("./pgs", ["set", "acme", "cpus", "2"], checkout.options());
  expect(stderr).toContain("pgs:domain: expected a domain name");
  expect(stderr).not.toContain("Not.a.domain");
  const preview = await checkout.tryPulumi("preview");
  expect(preview.output).toContain("pgs:domain: expected a domain name");
  expect(preview.output).not.toContain("Not.a.domain");
});

test("one image alone leaves the commands the PostgreSQL versions", async () => {
  const other = await Checkout.create("tenants: { acme: {} }");
  onTestFinished(() => other.remove());
  await other.pulumi(
    "config",
    "set",
    "--path",
    "pgs:images.barman",
    "registry.example.com/pgs-barman:3.19.1",
  );
  const { code, output } = await run("./pgs", ["set", "acme", "memory", "300Mi", "--no-up"], other.options());
  expect(code, output).toBe(0);
});

test("without a selected stack the commands have the defaults", async () => {
  const other = await Checkout.create("tenants: { acme: {} }");
  onTestFinished(() => other.remove());
  await other.pulumi("stack", "rm", "--yes", "dev");
  const script =
    'require("./cli/lib/stack").stackConfig().then(({ prefix, images }) => console.log(prefix, Object.keys(images)))';
  const preload = join(other.folder, "toolchain/preload.cjs");
  expect(await succeed("node", ["--require", preload, "-e", script], other.options())).toBe("pgs [ '18' ]\n");
});
