import { resolve } from "node:path";
import type { BackupPlan } from "../../tenants/backup";
import { askPulumi, CommandError, projectFolder } from "./pulumi";

/** One entry of the stack's output `tenants`. */
export interface TenantSummary {
  host: string;
  port: number;
  database: string;
  user: string;
  access: boolean;
  state: string;
  /** Whether TLS ends at the proxy (`terminate`) or at the server (`passthrough`). */
  tls: string;
  version: number;
  /** Hard limit in bytes. */
  memory: number;
  /** Hard limit in CPUs. */
  cpus: number;
  /** Missing in the outputs of an `up` before there were any. */
  backup?: BackupPlan;
}

export type TenantSummaries = Record<string, TenantSummary>;

/** What the last `up` left as the stack's outputs. */
export interface StackOutputs {
  tenants: TenantSummaries;
  /** PEM of the stack's own CA; null when clients meet no certificate that it signed. */
  caCertificate: string | null;
  /** By tenant id, with the password: only when secrets were asked for. */
  connectionStrings: Record<string, string>;
}

/** What the commands need of the stack's configuration. */
export interface StackConfig {
  domain: string;
  port: number;
  /** `none`, or `random` characters behind the hostnames that follow from the ids. */
  hostnameSuffix: string;
  /** Names of containers, volumes and networks start with it. */
  prefix: string;
  /** Whether the proxy shows a certificate of the operator's own, or one by ACME. */
  operatorsCertificate: boolean;
  /** Absolute. */
  tenantsFile: string;
  /** PostgreSQL's images by major version. */
  images: Record<number, string>;
  /** How tenants are backed up that say nothing else. */
  backups: BackupPlan;
  /** Whether backups are copied off the host. */
  offsite: boolean;
  /** As in DOCKER_HOST; undefined means the default engine. */
  dockerHost: string | undefined;
}

export async function stackConfig(): Promise<StackConfig> {
  type Config = Record<string, { value: string; objectValue?: Record<string, string> }>;
  const config = await askPulumi<Config>(["config", "--json"]);
  const value = (key: string, otherwise: string) => config[`pgs:${key}`]?.value ?? otherwise;
  return {
    domain: value("domain", "pgs.localhost"),
    port: Number(value("port", "5432")),
    hostnameSuffix: value("hostnameSuffix", "none"),
    prefix: value("prefix", "pgs"),
    operatorsCertificate: (config["pgs:certificate"] ?? config["pgs:acme"]) !== undefined,
    tenantsFile: resolve(projectFolder, value("tenantsFile", "tenants.yaml")),
    images: Object.fromEntries(
      Object.entries(config["pgs:images"]?.objectValue ?? {}).filter(([key]) => /^\d+$/.test(key)),
    ),
    backups: { schedule: "02:30", retention: "7d", ...config["pgs:backups"]?.objectValue },
    offsite: config["pgs:backups"]?.objectValue?.destination !== undefined,
    // As components/stack-settings.ts has it: the Docker provider's own key comes before the environment.
    dockerHost: config["docker:host"]?.value ?? process.env.DOCKER_HOST,
  };
}

/** The outputs; undefined before the first `up`, and after a destroy. */
export async function stackOutputs(options: { secrets?: boolean } = {}): Promise<StackOutputs | undefined> {
  const args = ["stack", "output", "--json", ...(options.secrets ? ["--show-secrets"] : [])];
  const outputs = await askPulumi<Partial<StackOutputs>>(args);
  return outputs.tenants ? (outputs as StackOutputs) : undefined;
}

/** @throws CommandError when there is nothing yet */
export async function requiredOutputs(options: { secrets?: boolean } = {}): Promise<StackOutputs> {
  const outputs = await stackOutputs(options);
  if (outputs) return outputs;
  throw new CommandError("the stack has no tenants yet: ./pgs up makes them");
}

/** PEM of the CA that clients of a tenant verify with; null when it is not the stack's own. */
export function caOf(
  tenant: TenantSummary,
  { caCertificate }: StackOutputs,
  { operatorsCertificate }: StackConfig,
): string | null {
  return operatorsCertificate && tenant.tls !== "passthrough" ? null : caCertificate;
}

/** One tenant of the stack. @throws CommandError that lists those that there are */
export function tenantOf<T>(all: Record<string, T>, id: string): T {
  const found = Object.hasOwn(all, id) ? all[id] : undefined;
  if (found !== undefined) return found;
  throw new CommandError(`no tenant ${id}: there are ${Object.keys(all).join(", ") || "none"}`, 2);
}
