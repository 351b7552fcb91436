import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import type { RoleInputs } from "../provider/server/inputs";
import type { Tenant } from "../tenants";

/** The role that a tenant logs in as: its server's superuser, or one that owns its database. */
export function loginOf({ id, superuser }: Tenant): string {
  return superuser === "on" ? "postgres" : id;
}

export interface HostArgs {
  tenant: Tenant;
  /** The tenant is reached at HOSTNAME.domain. */
  domain: string;
  /** Whether a hostname that follows from the id ends in random characters, so that it cannot be guessed. */
  hostnameSuffix: "none" | "random";
}

/** The name that clients connect to. One that the operator wrote is used as it is. */
export function createHost(name: string, args: HostArgs, parent: pulumi.Resource): pulumi.Input<string> {
  const { tenant, domain } = args;
  if (tenant.hostname !== undefined) return `${tenant.hostname}.${domain}`;
  if (args.hostnameSuffix === "none") return `${tenant.id}.${domain}`;
  const suffix = new random.RandomString(name, { length: 6, special: false, upper: false }, { parent });
  return pulumi.interpolate`${tenant.id}-${suffix.result}.${domain}`;
}

/**
 * Letters and digits alone, unless the operator chose it: safe in a URL, and in a shell.
 * @param passwords the operator's own by tenant id, and of roles by ID/ROLE
 */
export function createPassword(
  name: string,
  { passwords }: { passwords: pulumi.Output<Record<string, string>> },
  { passwordVersion }: { passwordVersion: number },
  parent: pulumi.Resource,
): pulumi.Output<string> {
  const password = new random.RandomPassword(
    name,
    { length: 32, special: false, keepers: { version: String(passwordVersion) } },
    { parent },
  );
  return pulumi
    .all([passwords, password.result])
    .apply(([chosen, generated]) => (Object.hasOwn(chosen, name) ? (chosen[name] as string) : generated));
}

/** Those of the roles of its entry, by name. */
export function createRolePasswords(
  name: string,
  args: { tenant: Tenant; passwords: pulumi.Output<Record<string, string>> },
  parent: pulumi.Resource,
): Record<string, pulumi.Output<string>> {
  return Object.fromEntries(
    Object.entries(args.tenant.roles).map(([role, entry]) => [
      role,
      createPassword(`${name}/${role}`, args, entry, parent),
    ]),
  );
}

/** The roles of its entry, without what their passwords are made from. */
export function rolesOf({ roles }: Tenant): Record<string, RoleInputs> {
  return Object.fromEntries(
    Object.entries(roles).map(([name, { passwordVersion: _, ...entry }]) => [name, entry]),
  );
}

/** By name: the version, or none for the newest that the image has. */
export function wantedExtensions({ extensions }: Tenant): Record<string, string> | undefined {
  if (extensions.length === 0) return undefined;
  return Object.fromEntries(extensions.map(({ name, version = "" }) => [name, version]));
}

/** What the stack's outputs tell of a tenant on each platform: where it is reached, and how it is set. */
export function commonSummary(tenant: Tenant, host: pulumi.Input<string>, port: number) {
  const { id, access, state, tls, version, image, memory, cpus } = tenant;
  const login = { host, port, database: id, user: loginOf(tenant) };
  return { ...login, access, state, tls, version, ...(image && { image }), memory, cpus };
}

/** By role. */
export function roleConnectionStrings(
  passwords: Record<string, pulumi.Output<string>>,
  to: Parameters<typeof connectionString>[2],
): pulumi.Output<Record<string, string>> {
  return pulumi.output(
    Object.fromEntries(
      Object.entries(passwords).map(([user, password]) => [user, connectionString(user, password, to)]),
    ),
  );
}

/** postgresql://…, a secret. */
export function connectionString(
  user: string,
  password: pulumi.Output<string>,
  { host, port, database }: { host: pulumi.Input<string>; port: number; database: string },
): pulumi.Output<string> {
  return pulumi.secret(
    pulumi.interpolate`postgresql://${user}:${password.apply(encodeURIComponent)}@${host}:${port}/${database}?sslmode=require`,
  );
}
