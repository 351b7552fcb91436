import { resolve } from "node:path";
import {
  ConfigurationError,
  checkedSettings,
  type KubernetesSettings,
  type Platform,
  type Settings,
  secretKeys,
} from "../../config";
import type { Digests } from "../../config/digest";
import type { BackupPlan } from "../../tenants/backup";
import { nearest } from "../../tenants/suggest";
import { unknownTenant } from "./edit-tenants";
import type { PastRun } from "./limited-up";
import { askPulumi, CommandError, projectFolder } from "./pulumi";

/** One entry of the stack's output `tenants`. */
export interface TenantSummary {
  host: string;
  port: number;
  database: string;
  user: string;
  access: boolean;
  /** `running` or `stopped`, as tenants.yaml wants it. */
  state: string;
  /** Whether TLS ends at the proxy (`terminate`) or at the server (`passthrough`). */
  tls: string;
  version: number;
  /** Variant of the image; missing without one. */
  image?: string;
  /** Names; missing without any. */
  extensions?: string[];
  /** Hard limit in bytes. */
  memory: number;
  /** Hard limit in CPUs. */
  cpus: number;
  /** Its disk budget in bytes; missing without one. */
  disk?: number;
  /** Missing in the outputs of an `up` before there were any. */
  backup?: BackupPlan;
  /** Hostname of its pooler, where it has one. */
  pooler?: string;
  /** Beside the primary; missing on Docker. */
  replicas?: number;
  /** Hostname of its replicas, where it has any. */
  readOnly?: string;
}

export type TenantSummaries = Record<string, TenantSummary>;

/** What the last `up` left as the stack's outputs. */
export interface StackOutputs {
  /** Value of the label that everything of the stack has on the Docker host. */
  stack: string;
  tenants: TenantSummaries;
  /** PEM of the stack's own CA; null when clients meet no certificate that it signed. */
  caCertificate: string | null;
  /** By tenant id, with the password: only when secrets were asked for. */
  connectionStrings: Record<string, string>;
  /** The same by tenant id and role; missing in the outputs of an `up` before there were any. */
  roleConnectionStrings?: Record<string, Record<string, string>>;
  /** Of what the last `up` that ended well was made from: only when secrets were asked for. */
  digest?: Digests;
}

/** What the commands need of the stack's configuration. */
export interface StackConfig {
  platform: Platform;
  /** The cluster; undefined on Docker. */
  kubernetes?: KubernetesSettings;
  domain: string;
  port: number;
  /** `none`, or `random` characters behind the hostnames that follow from the ids. */
  hostnameSuffix: string;
  /** Names of containers, volumes and networks start with it. */
  prefix: string;
  /** IPv6 range of the proxy's network; undefined: it has none. */
  ipv6Subnet: string | undefined;
  /** Whether the proxy shows a certificate of the operator's own, or one by ACME. */
  operatorsCertificate: boolean;
  /** Absolute. */
  tenantsFile: string;
  /** PostgreSQL's images by major version, such as 18, or one with a variant, such as 18-pgvector. */
  images: Record<string, string>;
  /** Image of the backup containers. */
  backupImage: string;
  /** How tenants are backed up that say nothing else. */
  backups: BackupPlan;
  /** Whether backups are copied off the host. */
  offsite: boolean;
  /** As in DOCKER_HOST; undefined means the default engine. */
  dockerHost: string | undefined;
}

/**
 * @param platform `any` by a command that works on each; else it is refused where it does not
 * @throws CommandError that lists what is wrong in the configuration
 */
export async function stackConfig(platform: "docker" | "any" = "docker"): Promise<StackConfig> {
  const config = commandsConfig((await readConfiguration({ withoutSecrets: true })).settings);
  if (platform === "docker") requireDocker(config);
  return config;
}

/** @throws CommandError of a command that works on Docker alone */
export function requireDocker({ platform }: StackConfig, what = process.argv[2]): void {
  if (platform === "docker") return;
  throw new CommandError(
    `./pgs ${what} is not there yet on Kubernetes: docs/kubernetes.md lists the commands that are`,
  );
}

/** Options of Pulumi's: on Kubernetes, Pulumi sees what was changed by hand in a refresh alone. */
export function refreshing({ platform }: StackConfig): string[] {
  return platform === "kubernetes" ? ["--refresh"] : [];
}

export function commandsConfig(settings: Settings): StackConfig {
  return {
    platform: settings.platform,
    ...(settings.kubernetes && { kubernetes: settings.kubernetes }),
    domain: settings.domain,
    port: settings.port,
    hostnameSuffix: settings.hostnameSuffix,
    prefix: settings.prefix,
    ipv6Subnet: settings.ipv6Subnet,
    operatorsCertificate: (settings.certificate ?? settings.acme) !== undefined,
    tenantsFile: resolve(projectFolder, settings.tenantsFile),
    images: Object.fromEntries(settings.postgresImages),
    backupImage: settings.barmanImage,
    backups: settings.backups,
    offsite: settings.backupDestination !== undefined,
    // As the Docker provider has it: its own key comes before the environment.
    dockerHost: settings.dockerHost ?? process.env.DOCKER_HOST,
  };
}

export interface StackConfiguration {
  settings: Settings;
  /** By key, of every namespace. */
  raw: Record<string, unknown>;
}

/**
 * The configuration as the program reads it; the defaults where no stack is selected.
 * @throws CommandError that lists what is wrong in it
 */
export async function readConfiguration({
  withoutSecrets,
}: {
  withoutSecrets: boolean;
}): Promise<StackConfiguration> {
  let config = await pulumiConfig(withoutSecrets ? [] : ["--show-secrets"]);
  // Somebody may keep any key as a secret, and its value is then left out.
  const hidden = Object.entries(config).some(
    ([key, { secret }]) => secret && !secretKeys.some((known) => key === `pgs:${known}`),
  );
  if (withoutSecrets && hidden) config = await pulumiConfig(["--show-secrets"]);
  const raw = Object.fromEntries(
    Object.entries(config).map(([key, { value, objectValue }]) => [key, objectValue ?? value]),
  );
  const secrets = Object.keys(config).filter((key) => config[key]?.secret);
  try {
    return { settings: checkedSettings(raw, { withoutSecrets, secrets }), raw };
  } catch (error) {
    if (error instanceof ConfigurationError) throw new CommandError(error.message, 2);
    throw error;
  }
}

type PulumiConfig = Record<string, { value?: string; objectValue?: unknown; secret: boolean }>;

async function pulumiConfig(options: string[]): Promise<PulumiConfig> {
  try {
    return await askPulumi(["config", "--json", ...options]);
  } catch (error) {
    if (error instanceof CommandError && /\bno stack is selected\b|there is no stack /.test(error.message))
      return {};
    throw error;
  }
}

/** The outputs; undefined before the first `up`, and after a destroy. */
export async function stackOutputs(options: { secrets?: boolean } = {}): Promise<StackOutputs | undefined> {
  const args = ["stack", "output", "--json", ...(options.secrets ? ["--show-secrets"] : [])];
  const outputs = await askPulumi<Partial<StackOutputs>>(args);
  return outputs.tenants ? (outputs as StackOutputs) : undefined;
}

/** The stack's runs, the newest first. */
export async function stackHistory(): Promise<PastRun[]> {
  return askPulumi(["stack", "history", "--json", "--page-size", "20"]);
}

/**
 * @param options.states the tenants' states are those of their servers' resources: `incomplete` too
 * @throws CommandError when there is nothing yet
 */
export async function requiredOutputs(
  options: { secrets?: boolean; states?: boolean } = {},
): Promise<StackOutputs> {
  const [outputs, incomplete] = await Promise.all([
    stackOutputs(options),
    options.states ? incompleteTenants() : [],
  ]);
  if (!outputs) throw new CommandError("the stack has no tenants yet: ./pgs up makes them");
  for (const id of incomplete) {
    const tenant = outputs.tenants[id];
    if (tenant) tenant.state = "incomplete";
  }
  return outputs;
}

/**
 * Tenants that no `up` has made yet. Their resources tell: while one fails, Pulumi writes no output that depends on it,
 * and none of the others.
 */
async function incompleteTenants(): Promise<string[]> {
  const { deployment } = await askPulumi<Deployment>(["stack", "export"]);
  return (deployment.resources ?? [])
    .filter(({ type, outputs }) => serverTypes.includes(type) && outputs?.state === "incomplete")
    .map(({ urn }) => urn.split("::").at(-1) ?? "");
}

/** Of resources without which a tenant is not made: on Docker, and on Kubernetes. */
const serverTypes = ["PostgresServer", "ClusterRollout", "TenantDatabase"].map((name) => `pgs:index:${name}`);

interface Deployment {
  deployment: { resources?: { urn: string; type: string; outputs?: Record<string, unknown> }[] };
}

/** PEM of the CA that clients of a tenant verify with; null when it is not the stack's own. */
export function caOf(
  tenant: TenantSummary,
  { caCertificate }: StackOutputs,
  { operatorsCertificate }: StackConfig,
): string | null {
  return operatorsCertificate && tenant.tls !== "passthrough" ? null : caCertificate;
}

/**
 * How a tenant is reached, as one of the roles of its entry where one is named. Secrets have to be asked for.
 * @throws CommandError that lists those that there are
 */
export function connectionStringOf(outputs: StackOutputs, id: string, role?: string): URL {
  const own = tenantOf(outputs.connectionStrings, id);
  if (role === undefined) return new URL(own);
  return new URL(roleOf(outputs.roleConnectionStrings?.[id] ?? {}, role, id));
}

/** One of a tenant's roles. @throws CommandError that lists those that there are */
export function roleOf<T>(all: Readonly<Record<string, T>>, role: string, id: string): T {
  const found = Object.hasOwn(all, role) ? all[role] : undefined;
  if (found !== undefined) return found;
  const meant = nearest(role, Object.keys(all));
  throw new CommandError(
    `${id} has no role ${role}${meant ? `; did you mean ${meant}?` : `; there are ${Object.keys(all).join(", ") || "none"}`}`,
    2,
  );
}

/** One tenant of the stack. @throws CommandError that lists those that there are */
export function tenantOf<T>(all: Record<string, T>, id: string): T {
  const found = Object.hasOwn(all, id) ? all[id] : undefined;
  if (found !== undefined) return found;
  throw new CommandError(unknownTenant(id, Object.keys(all)), 2);
}
