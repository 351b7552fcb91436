import { isDeepStrictEqual } from "node:util";
import type { Tenant } from "../tenants";
import { backupPlan } from "../tenants/backup";
import type { StackConfig, TenantSummaries, TenantSummary } from "./stack";

/**
 * What `pulumi up` is to be given so that it looks at these tenants alone: at ten tenants half the time, and
 * nothing of the others is even read. Without arguments (a whole `up`) where a limited one would leave the stack
 * otherwise than a whole one:
 * - before the first `up`: proxy and certificate are not there yet;
 * - when tenants.yaml or the configuration has other changes that are not applied: the stack's outputs come from
 *   the program as a whole, and would tell of changes that did not happen;
 * - when backups come or go: Barman is no tenant's own;
 * - when the first server of a PostgreSQL version starts, or the last one stops: its image is no tenant's own.
 * @param applied the stack's output `tenants`, if there was an `up`
 * @param wanted what tenants.yaml says now
 */
export function limitTo(
  ids: string[],
  applied: TenantSummaries | undefined,
  wanted: Tenant[],
  config: Pick<StackConfig, "domain" | "port" | "hostnameSuffix" | "backups">,
): string[] {
  if (!applied || Object.keys(applied).length === 0) return [];
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
  if (!asApplied || !allWanted || !asConfigured || !sameBarman || !sameImages) return [];
  // The component and, by the wildcard in the type, its children: each bears the tenant's id. Naming the component
  // alone with --target-dependents works neither for a tenant that is new nor with a refresh (Pulumi 3.259).
  return ids.flatMap((id) => ["--target", `urn:pulumi:*::pgs::pgs:index:PgTenant**::${id}`]);
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
