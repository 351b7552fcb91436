import { isDeepStrictEqual } from "node:util";
import type { Tenant } from "../../tenants";
import { backupPlan } from "../../tenants/backup";
import type { StackConfig, TenantSummaries, TenantSummary } from "./stack";

/** An `up`: what Pulumi is told, and what the program is. */
export interface Up {
  args: string[];
  /** Environment variables. */
  env: Record<string, string>;
}

const whole: Up = { args: [], env: {} };

/**
 * An `up` of these tenants alone, which takes as long with two hundred others as with two. A whole one where that
 * would leave the stack otherwise than a whole one:
 * - before the first `up`: proxy and certificate are not there yet;
 * - when tenants.yaml or the configuration has other changes that are not applied;
 * - when backups come or go: Barman is no tenant's own;
 * - when the first server of a PostgreSQL version starts, or the last one stops: its image is no tenant's own.
 * @param applied the stack's output `tenants`, if there was an `up`
 * @param wanted what tenants.yaml says now
 */
export function limitedUp(
  ids: string[],
  applied: TenantSummaries | undefined,
  wanted: Tenant[],
  config: Pick<StackConfig, "domain" | "port" | "hostnameSuffix" | "backups">,
): Up {
  if (!applied || Object.keys(applied).length === 0) return whole;
  const others = wanted.filter(({ id }) => !ids.includes(id));
  const asApplied = others.every((tenant) => {
    const summary = applied[tenant.id];
    return summary !== undefined && saysTheSame(tenant, summary, config);
  });
  const allWanted = Object.keys(applied).every(
    (id) => ids.includes(id) || others.some((other) => other.id === id),
  );
  const asConfigured = Object.values(applied).every(
    ({ host, port }) => host.endsWith(`.${config.domain}`) && port === config.port,
  );
  const hasBarman = Object.values(applied).some(({ backup }) => (backup?.schedule ?? "off") !== "off");
  const sameBarman = hasBarman === (config.backups.schedule !== "off");
  const sameImages = sameSet(runningVersions(Object.values(applied)), runningVersions(wanted));
  if (!asApplied || !allWanted || !asConfigured || !sameBarman || !sameImages) return whole;
  // The component and, by the wildcard in the type, its children: each bears the tenant's id. Naming the component
  // alone with --target-dependents works neither for a tenant that is new nor with a refresh (Pulumi 3.259).
  const targets = ids.map((id) => `urn:pulumi:*::pgs::pgs:index:PgTenant**::${id}`);
  // components/limited-up.ts reads it.
  return { args: targets.flatMap((target) => ["--target", target]), env: { PGS_LIMITED_TO: ids.join(",") } };
}

function saysTheSame(
  tenant: Tenant,
  summary: TenantSummary,
  { domain, hostnameSuffix, backups }: Pick<StackConfig, "domain" | "hostnameSuffix" | "backups">,
): boolean {
  const label = summary.host.slice(0, -domain.length - 1);
  const sameHost =
    tenant.hostname !== undefined || hostnameSuffix === "none"
      ? label === (tenant.hostname ?? tenant.id)
      : /^-[a-z0-9]{6}$/.test(label.slice(tenant.id.length)) && label.startsWith(tenant.id);
  return (
    sameHost &&
    tenant.access === summary.access &&
    tenant.state === summary.state &&
    tenant.tls === summary.tls &&
    tenant.version === summary.version &&
    tenant.memory === summary.memory &&
    tenant.cpus === summary.cpus &&
    isDeepStrictEqual(backupPlan(tenant, backups), summary.backup)
  );
}

function runningVersions(tenants: { state: string; version: number }[]): Set<number> {
  return new Set(tenants.filter(({ state }) => state === "running").map(({ version }) => version));
}

function sameSet(one: Set<number>, other: Set<number>): boolean {
  return one.size === other.size && [...one].every((item) => other.has(item));
}
