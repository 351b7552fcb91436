import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { parse } from "yaml";
import { positionOf, readTenants, type Tenant, TenantsFileError } from "../tenants";
import { type BackupPlan, retentionPattern, schedulePattern } from "../tenants/backup";
import { type AcmeSettings, acmeProblems } from "./acme";
import {
  type DestinationSettings,
  destinationKeys,
  destinationOf,
  destinationProblems,
} from "./backup-destination";

/** The stack's configuration; Pulumi.yaml says what each key is, with its default. */
export interface StackSettings {
  domain: string;
  port: number;
  tenantsFile: string;
  prefix: string;
  tenantSubnets: string;
  isolation: "network" | "shared";
  hostnameSuffix: "none" | "random";
  proxyImage: string;
  /** By PostgreSQL major version. */
  postgresImages: Map<number, string>;
  /** By PostgreSQL version and Barman's: what backups are made with. */
  barmanImage: string;
  /** How tenants are backed up that say nothing else. */
  backups: BackupPlan;
  /** Where backups are copied to, off the host; undefined when they are not. */
  backupDestination?: DestinationSettings;
  /** Paths of the operator's own full chain and key. */
  certificate?: { chain: string; key: string };
  /** How the proxy gets a certificate by itself. */
  acme?: AcmeSettings;
  /** What the DNS provider asks for, by the names of environment variables: a secret. */
  acmeCredentials: pulumi.Output<Record<string, string>>;
  /** How long certificates of the stack's own CA are valid. */
  certificateDays: number;
  /** The operator's own passwords by tenant id: a secret. */
  passwords: pulumi.Output<Record<string, string>>;
  /** The Docker provider's own key; undefined means its default. */
  dockerHost?: string;
}

/** ORGANIZATION/PROJECT/STACK: the stack's own name, wherever Pulumi is asked about it. */
export function stackName(): string {
  return `${pulumi.getOrganization()}/${pulumi.getProject()}/${pulumi.getStack()}`;
}

/** @throws pulumi.RunError that lists every key that is wrong, and what is allowed */
export function readSettings(): StackSettings {
  const config = new pulumi.Config("pgs");
  const problems: string[] = [];
  const expect = (holds: boolean, key: string, allowed: string) => {
    if (!holds) problems.push(`pgs:${key}: ${allowed} (pulumi config set --path 'pgs:${key}' …)`);
  };

  const domain = config.require("domain");
  expect(isDomain(domain), "domain", `expected a domain name such as pgs.example.com, got ${domain}`);
  const port = Number(config.require("port"));
  expect(isPort(port), "port", `expected a port from 1 to 65535, got ${config.require("port")}`);
  const prefix = config.require("prefix");
  expect(
    /^[a-z][a-z0-9-]{0,13}$/.test(prefix),
    "prefix",
    // With a hyphen and the longest tenant id it is a container's name, which the proxy looks up as a DNS label.
    `expected up to 14 lower-case letters, digits and hyphens, a letter first, got ${prefix}`,
  );
  const tenantSubnets = config.require("tenantSubnets");
  expect(
    isRange(tenantSubnets),
    "tenantSubnets",
    `expected an IPv4 range such as 10.213.0.0/16, got ${tenantSubnets}`,
  );
  const isolation = config.require("isolation");
  expect(isIsolation(isolation), "isolation", `expected network or shared, got ${isolation}`);
  const hostnameSuffix = config.require("hostnameSuffix");
  expect(
    isHostnameSuffix(hostnameSuffix),
    "hostnameSuffix",
    `expected none or random, got ${hostnameSuffix}`,
  );
  const images = {
    ...declared<Record<string, string>>("images"),
    ...config.requireObject<Record<string, string>>("images"),
  };
  for (const [key, image] of Object.entries(images)) {
    expect(
      /^(proxy|barman|[1-9][0-9])$/.test(key),
      `images.${key}`,
      "expected `proxy`, `barman` or a PostgreSQL major version",
    );
    const isServer = /^\d+$/.test(key);
    const example = isServer ? `${key}.6-bookworm` : "v3.7.15";
    expect(
      isPinned(image, isServer),
      `images.${key}`,
      `expected a tag with a minor version${isServer ? " and an OS" : ""}, such as ${example}, got ${image}`,
    );
  }
  const backups = {
    ...declared<BackupPlan>("backups"),
    ...config.requireObject<Record<string, string>>("backups"),
  } as Record<string, string> & { schedule: string; retention: string };
  for (const key of Object.keys(backups)) {
    const keys = ["schedule", "retention", ...destinationKeys];
    expect(keys.includes(key), `backups.${key}`, `there is no such key; allowed: ${keys.join(", ")}`);
  }
  for (const [path, allowed] of destinationProblems(backups)) expect(false, path, allowed);
  expect(
    schedulePattern.test(String(backups.schedule)),
    "backups.schedule",
    `expected off, or a time of day (UTC) such as 02:30, got ${backups.schedule}`,
  );
  expect(
    retentionPattern.test(String(backups.retention)),
    "backups.retention",
    `expected a number of days such as 7d, got ${backups.retention}`,
  );
  const certificate = config.getObject<{ chain: string; key: string }>("certificate") ?? undefined;
  expect(
    certificate === undefined ||
      (typeof certificate.chain === "string" && typeof certificate.key === "string"),
    "certificate",
    "expected `chain` and `key`, the paths of a full chain and its private key",
  );
  const acme = config.getObject<AcmeSettings>("acme");
  for (const [path, allowed] of acme ? acmeProblems({ ...acme }) : []) expect(false, path, allowed);
  expect(!acme || !certificate, "acme", "expected only one of pgs:acme and pgs:certificate");
  const certificateDays = config.requireNumber("certificateDays");
  expect(
    Number.isInteger(certificateDays) && certificateDays >= 1 && certificateDays <= 3650,
    "certificateDays",
    `expected a whole number of days from 1 to 3650, got ${certificateDays}`,
  );
  if (problems.length > 0) throw new pulumi.RunError(problems.join("\n"));

  return {
    domain,
    port,
    prefix,
    isolation: isIsolation(isolation) ? isolation : "network",
    hostnameSuffix: isHostnameSuffix(hostnameSuffix) ? hostnameSuffix : "none",
    certificate,
    acme,
    acmeCredentials: (
      config.getSecretObject<Record<string, string>>("acmeCredentials") ??
      pulumi.secret<Record<string, string>>({})
    ).apply(checkedCredentials),
    certificateDays,
    tenantsFile: config.require("tenantsFile"),
    tenantSubnets,
    proxyImage: images.proxy ?? "",
    barmanImage: images.barman ?? "",
    backups: { schedule: backups.schedule, retention: backups.retention },
    backupDestination: destinationOf(config, backups),
    postgresImages: new Map(
      Object.entries(images)
        .filter(([key]) => /^\d+$/.test(key))
        .map(([key, image]) => [Number(key), image]),
    ),
    passwords:
      config.getSecretObject<Record<string, string>>("passwords") ??
      pulumi.secret<Record<string, string>>({}),
    dockerHost: new pulumi.Config("docker").get("host"),
  };
}

/** @throws pulumi.RunError that names the keys which are wrong, and no value */
function checkedCredentials(credentials: Record<string, string>): Record<string, string> {
  const wrong = Object.entries(credentials)
    .filter(([name, value]) => !/^[A-Z][A-Z0-9_]*$/.test(name) || typeof value !== "string" || value === "")
    .map(([name]) => name);
  if (wrong.length === 0) return credentials;
  throw new pulumi.RunError(
    `pgs:acmeCredentials: expected text under the names of environment variables such as CF_DNS_API_TOKEN, not so: ${wrong.join(", ")}`,
  );
}

/** Pulumi takes a stack's own object for the whole: `pgs:images.19` alone would leave the stack without a proxy. */
function declared<Value>(key: string): Value {
  const project = parse(readFileSync(join(__dirname, "..", "Pulumi.yaml"), "utf8"));
  return project.config[key].default;
}

/** The tenants of the stack. @throws pulumi.RunError that lists all that is wrong in the file */
export function readTenantEntries(settings: StackSettings): Tenant[] {
  try {
    const entries = readTenants(settings.tenantsFile, { versions: [...settings.postgresImages.keys()] });
    refuseOwnVolumes(entries, settings);
    refuseSchedules(entries, settings);
    return entries;
  } catch (error) {
    if (error instanceof TenantsFileError) throw new pulumi.RunError(error.message);
    throw error;
  }
}

/** A volume of the stack's own is some other tenant's, or the proxy's. */
function refuseOwnVolumes(entries: Tenant[], { prefix }: StackSettings): void {
  const problems = entries
    .filter(({ id, volume }) => volume?.startsWith(`${prefix}-`) && volume !== `${prefix}-${id}`)
    // What a restore in place kept is nobody's.
    .filter(({ volume }) => !volume?.startsWith(`${prefix}--before-`))
    .map(
      (tenant) =>
        `${positionOf(tenant, "volume")}: tenants.${tenant.id}.volume: names that start with ${prefix}- are those of the stack's own volumes, got ${tenant.volume}`,
    );
  if (problems.length > 0) throw new pulumi.RunError(problems.join("\n"));
}

/** Where there are no backups at all, an entry that counts on them must not be taken for one that has some. */
function refuseSchedules(entries: Tenant[], { backups }: StackSettings): void {
  if (backups.schedule !== "off") return;
  const problems = entries
    .filter(({ backup }) => (backup.schedule ?? "off") !== "off")
    .map(
      (tenant) =>
        `${positionOf(tenant, "backup.schedule")}: tenants.${tenant.id}.backup.schedule: pgs:backups.schedule is off, and then no tenant is backed up: set it, or take this out`,
    );
  if (problems.length > 0) throw new pulumi.RunError(problems.join("\n"));
}

function isDomain(text: string): boolean {
  return (
    text.length <= 180 &&
    /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/.test(text)
  );
}

/** What the networks need of it is checked by them; the routes are closed to all of it. */
function isRange(text: string): boolean {
  const [address = "", length = ""] = text.split("/");
  return isIPv4(address) && /^\d+$/.test(length) && Number(length) <= 29;
}

function isIsolation(text: string): text is StackSettings["isolation"] {
  return text === "network" || text === "shared";
}

function isHostnameSuffix(text: string): text is StackSettings["hostnameSuffix"] {
  return text === "none" || text === "random";
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65535;
}

/** A tag without a minor version moves, and one without the system's name moves its collations. */
function isPinned(image: string, withSystem: boolean): boolean {
  const tag = withSystem ? /:\d+\.\d+-[a-z][\w.-]*$/ : /:v?\d+\.\d+[^/]*$/;
  return /@sha256:[0-9a-f]{64}$/.test(image) || tag.test(image);
}
