import * as pulumi from "@pulumi/pulumi";
import { positionOf, type Tenant } from "../tenants";
import { inBoth } from "../tenants/addresses";

/** Addresses and ranges that a tenant's clients may come from; undefined: any. */
export function allowedClients({
  tenant,
  allow,
}: {
  tenant: Tenant;
  allow?: string[];
}): string[] | undefined {
  if (!tenant.allow || !allow) return tenant.allow ? [...tenant.allow] : allow;
  const common = inBoth(tenant.allow, allow);
  if (common.length > 0) return common;
  throw new pulumi.RunError(
    `${positionOf(tenant, "allow")}: tenants.${tenant.id}.allow: no address of these is in pgs:allow (${allow.join(", ")}), so nobody could connect: add a range there, or write access: false`,
  );
}
