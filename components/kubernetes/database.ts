import { relative } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import type { KubernetesSettings } from "../../config";
import { type ClusterRollout, TenantDatabase } from "../../provider/resources";
import { positionOf, type Tenant } from "../../tenants";
import { loginOf, rolesOf, wantedExtensions } from "../tenant-login";

export interface DatabaseArgs {
  tenant: Tenant;
  /** The tenant's. */
  namespace: pulumi.Output<string>;
  kubernetes: KubernetesSettings;
  /** Of the role that the tenant logs in as. */
  password: pulumi.Output<string>;
  rolePasswords: Record<string, pulumi.Output<string>>;
  /** Of its Cluster. */
  rollout: ClusterRollout;
}

/**
 * What CloudNativePG runs when it has made a server from nothing: init scripts have not run there. Where its data came from
 * a backup, they have.
 */
export function newServer(id: string): string {
  return `ALTER DATABASE postgres SET pgs.creating = '${id}'`;
}

/** What is inside of the tenant's servers. It comes after the rollout. */
export function createDatabase(
  name: string,
  { tenant, namespace, kubernetes, password, rolePasswords, rollout }: DatabaseArgs,
  parent: pulumi.Resource,
): TenantDatabase {
  refuseTakenNames(tenant);
  return new TenantDatabase(
    name,
    {
      kubeconfig: kubernetes.kubeconfig,
      context: kubernetes.context,
      namespace,
      tenant: tenant.id,
      version: tenant.version,
      generation: rollout.generation,
      state: tenant.state,
      password,
      user: tenant.superuser === "off" ? loginOf(tenant) : undefined,
      roles: rolesOf(tenant),
      rolePasswords: pulumi.secret(rolePasswords),
      extensions: wantedExtensions(tenant) ?? {},
      init: tenant.initFiles.map((file) => relative(process.cwd(), file)),
      positions: positionsOf(tenant),
    },
    { parent, dependsOn: rollout },
  );
}

/** Roles that CloudNativePG makes and keeps as it wants them. */
function refuseTakenNames(tenant: Tenant): void {
  const taken = ["streaming_replica", "cnpg_pooler_pgbouncer", tenant.id];
  const problems = Object.keys(tenant.roles)
    .filter((role) => taken.includes(role))
    .map(
      (role) =>
        `${positionOf(tenant, `roles.${role}`)}: tenants.${tenant.id}.roles.${role}: CloudNativePG has a role of this name in the server; choose another`,
    );
  if (problems.length > 0) throw new pulumi.RunError(problems.join("\n"));
}

function positionsOf(tenant: Tenant): Record<string, string> {
  const fields = Object.keys(tenant.positions).filter((field) => /^extensions(\.|$)/.test(field));
  const roles = Object.keys(tenant.roles).map((role) => `roles.${role}`);
  return {
    ...Object.fromEntries([...fields, ...roles].map((field) => [field, positionOf(tenant, field)])),
    ...(tenant.superuser === "off" && { [`roles.${tenant.id}`]: positionOf(tenant, "superuser") }),
  };
}
