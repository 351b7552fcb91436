import { dockerClient } from "../../docker/client";
import { resourceNames } from "../../docker/names";
import { type Ask, askServer } from "./ask-server";
import { askPrimary } from "./kubernetes";
import { CommandError } from "./pulumi";
import { wayBack } from "./restore-in-place";
import {
  caOf,
  connectionStringOf,
  requiredOutputs,
  type StackConfig,
  type StackOutputs,
  stackConfig,
  type TenantSummary,
  tenantOf,
} from "./stack";
import { tenantStatuses } from "./tenant-status";

/** All that a client of a tenant needs to log in as the tenant's own clients do. */
export interface TenantLogin {
  id: string;
  /** The stack's id. */
  stack: string;
  tenant: TenantSummary;
  config: StackConfig;
  /** Contents of a password file for libpq. */
  pgpass: string;
  /** PEM of the stack's own CA; null without one. */
  ca: string | null;
}

/**
 * @param role one of the roles of the tenant's entry; without it, the tenant's superuser
 * @param platform as in stackConfig
 * @throws CommandError where there is no way to the tenant: the proxy would only close the connection
 */
export async function tenantLogin(
  id: string,
  role?: string,
  platform: "docker" | "any" = "docker",
): Promise<TenantLogin> {
  const [config, outputs] = await Promise.all([
    stackConfig(platform),
    requiredOutputs({ secrets: true, states: true }),
  ]);
  const { username, password } = connectionStringOf(outputs, id, role);
  const tenant = { ...runningTenant(outputs, id, config), user: username };
  if (!tenant.access) {
    const server = resourceNames(config.prefix).tenant(id);
    if (config.platform === "kubernetes")
      throw new CommandError(`${id} has no route: ./pgs enable-access ${id}`);
    throw new CommandError(
      `${id} has no route: ./pgs enable-access ${id}, or without one docker exec -it ${server} psql -U postgres ${tenant.database}`,
    );
  }
  await requireServer(id, config, outputs);
  return {
    id,
    stack: outputs.stack,
    tenant,
    config,
    pgpass: passwordFile(password),
    ca: caOf(tenant, outputs, config),
  };
}

/** @throws CommandError where it is not to run, or no `up` has made it yet */
function runningTenant(outputs: StackOutputs, id: string, config: StackConfig): TenantSummary {
  const tenant = tenantOf(outputs.tenants, id);
  if (tenant.state === "incomplete") {
    throw new CommandError(
      `${id} is not complete, as no up has made it yet: ./pgs up says why, and tries again`,
    );
  }
  if (tenant.state !== "running") throw new CommandError(`${id} is stopped: ${wayBack(id, config)}`);
  return tenant;
}

/** A tenant's server, to be asked over its own socket. @throws CommandError where it does not run */
export async function runningServer(id: string): Promise<{ tenant: TenantSummary; ask: Ask }> {
  const [outputs, config] = await Promise.all([requiredOutputs({ states: true }), stackConfig("any")]);
  const tenant = runningTenant(outputs, id, config);
  await requireServer(id, config, outputs);
  return { tenant, ask: await serverOf(id, tenant, config) };
}

/** The same, of a tenant that runs. */
export async function serverOf(id: string, tenant: TenantSummary, config: StackConfig): Promise<Ask> {
  if (config.platform === "kubernetes") return askPrimary(id, tenant, config);
  const server = dockerClient(config.dockerHost).getContainer(resourceNames(config.prefix).tenant(id));
  return (question) => askServer(server, question);
}

/** @throws CommandError where the server is down */
async function requireServer(id: string, config: StackConfig, outputs: StackOutputs): Promise<void> {
  const statuses = await tenantStatuses(outputs, config);
  const state = statuses.find((one) => one.id === id)?.state;
  if (state === "missing") {
    const gone = config.platform === "kubernetes" ? "Cluster" : "container";
    throw new CommandError(`the ${gone} of ${id} is gone: ./pgs up replaces it, on the same data`);
  }
  if (state && ["exited", "dead", "created", "paused", "restarting"].includes(state)) {
    throw new CommandError(
      `the server of ${id} does not run (${state}): ./pgs up starts it again; ./pgs logs ${id} --tail 20 says why it stopped`,
    );
  }
}

/** https://www.postgresql.org/docs/18/libpq-pgpass.html */
function passwordFile(encoded: string): string {
  return `*:*:*:*:${decodeURIComponent(encoded).replace(/[\\:]/g, "\\$&")}\n`;
}
