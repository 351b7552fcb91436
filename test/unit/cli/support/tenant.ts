import type { TenantSummary } from "../../../../cli/lib/stack";

/** A tenant of the output `tenants`. */
export function tenant(fields: Partial<TenantSummary> = {}): TenantSummary {
  return {
    host: "localhost",
    port: 5432,
    database: "acme",
    user: "postgres",
    access: true,
    state: "running",
    tls: "terminate",
    version: 18,
    memory: 512 * 2 ** 20,
    cpus: 1,
    backup: { schedule: "off", retention: "7d" },
    ...fields,
  };
}
