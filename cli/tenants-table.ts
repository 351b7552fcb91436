import { lookup } from "node:dns/promises";

/** One entry of the stack's output `tenants`. */
export interface TenantSummary {
  host: string;
  port: number;
  database: string;
  user: string;
  access: boolean;
  state: string;
  version: number;
}

export type TenantSummaries = Record<string, TenantSummary>;

/** The tenants in columns. */
export function tenantsTable(tenants: TenantSummaries): string {
  const heading = ["TENANT", "HOST", "PORT", "DATABASE", "ACCESS", "STATE"];
  const rows = Object.entries(tenants).map(([id, tenant]) => [
    id,
    tenant.host,
    String(tenant.port),
    tenant.database,
    tenant.access ? "on" : "off",
    tenant.state,
  ]);
  const widths = heading.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  return [heading, ...rows]
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** How to log in to the first tenant that can be reached. */
export async function loginHint(tenants: TenantSummaries): Promise<string> {
  const reachable = Object.entries(tenants).find(([, tenant]) => tenant.access && tenant.state === "running");
  if (!reachable) return "No tenant can be reached: none is running with access on.";
  const [id, tenant] = reachable;
  return [
    `Connection string:  ./pgs url ${id}`,
    `Log in:             PGPASSWORD=$(./pgs password ${id}) psql "${await conninfo(tenant)}"`,
  ].join("\n");
}

/** libpq's keywords, with the address where the name does not resolve (yet). */
async function conninfo(tenant: TenantSummary): Promise<string> {
  const address = (await resolves(tenant.host)) ? "" : ` hostaddr=${dockerHostAddress()}`;
  return `host=${tenant.host}${address} port=${tenant.port} dbname=${tenant.database} user=${tenant.user} sslmode=require`;
}

async function resolves(name: string): Promise<boolean> {
  try {
    await lookup(name);
    return true;
  } catch {
    return false;
  }
}

/** Where the proxy's port is published, as far as DOCKER_HOST tells. */
function dockerHostAddress(): string {
  const host = /^(?:tcp|ssh):\/\/(?:[^@/]*@)?([^:/]+)/.exec(process.env.DOCKER_HOST ?? "")?.[1];
  return host ?? "127.0.0.1";
}
