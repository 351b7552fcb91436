import { connectionParameters, conninfo } from "./address";
import type { TenantSummaries } from "./stack";

/** How to log in to the first tenant that can be reached. */
export async function loginHint(tenants: TenantSummaries, dockerHost: string | undefined): Promise<string> {
  const reachable = Object.entries(tenants).find(([, tenant]) => tenant.access && tenant.state === "running");
  if (!reachable) return "No tenant can be reached: none is running with access on.";
  const [id, tenant] = reachable;
  const parameters = { ...(await connectionParameters(tenant, dockerHost)), sslmode: "require" };
  return [
    `Connection string:  ./pgs url ${id}`,
    `Log in:             PGPASSWORD=$(./pgs password ${id}) psql "${conninfo(parameters)}"`,
    `or:                 ./pgs connect ${id}`,
  ].join("\n");
}
