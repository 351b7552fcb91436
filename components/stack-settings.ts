import * as pulumi from "@pulumi/pulumi";
import {
  type BackupDestination,
  ConfigurationError,
  checkedSettings,
  missingOn,
  type Settings,
} from "../config";
import { type Digests, digestsOf } from "../config/digest";
import { resourceNames } from "../docker/names";
import { positionOf, readTenants, type Tenant, TenantsFileError } from "../tenants";

/** The stack's configuration, with what is secret as secret outputs. */
export interface StackSettings
  extends Omit<Settings, "passwords" | "acmeCredentials" | "alertCredentials" | "backupDestination"> {
  passwords: pulumi.Output<Record<string, string>>;
  acmeCredentials: pulumi.Output<Record<string, string>>;
  /** By name. */
  alertCredentials: Record<string, pulumi.Output<string>>;
  backupDestination?: Omit<BackupDestination, "accessKeyId" | "secretAccessKey"> & {
    accessKeyId: pulumi.Output<string>;
    secretAccessKey: pulumi.Output<string>;
  };
}

/** ORGANIZATION/PROJECT/STACK: the stack's own name, wherever Pulumi is asked about it. */
export function stackName(): string {
  return `${pulumi.getOrganization()}/${pulumi.getProject()}/${pulumi.getStack()}`;
}

/** @throws pulumi.RunError that lists every key that is wrong, and what is allowed */
export function readSettings(): StackSettings {
  const settings = checked();
  const { passwords, acmeCredentials, alertCredentials, backupDestination } = settings;
  return {
    ...settings,
    passwords: pulumi.secret(passwords),
    acmeCredentials: pulumi.secret(acmeCredentials),
    alertCredentials: Object.fromEntries(
      Object.entries(alertCredentials).map(([name, value]) => [name, pulumi.secret(value)]),
    ),
    backupDestination: backupDestination && {
      ...backupDestination,
      accessKeyId: pulumi.secret(backupDestination.accessKeyId),
      secretAccessKey: pulumi.secret(backupDestination.secretAccessKey),
    },
  };
}

function checked(): Settings {
  try {
    // The language host says by this which keys are secrets; the SDK keeps it to itself.
    const secrets = JSON.parse(process.env.PULUMI_CONFIG_SECRET_KEYS ?? "[]");
    return checkedSettings(pulumi.runtime.allConfig(), { secrets });
  } catch (error) {
    if (error instanceof ConfigurationError) throw new pulumi.RunError(error.message);
    throw error;
  }
}

/** The tenants of the stack. @throws pulumi.RunError that lists all that is wrong in the file */
export function readTenantEntries(settings: StackSettings): Tenant[] {
  try {
    const entries = readTenants(settings.tenantsFile, {
      images: [...settings.postgresImages.keys()],
      missing: missingOn(settings.platform),
    });
    refuseOwnVolumes(entries, settings);
    refuseSchedules(entries, settings);
    refusePoolers(entries, settings);
    refuseRestores(entries, settings);
    requireExplicitSuperuser(entries, settings);
    return entries;
  } catch (error) {
    if (error instanceof TenantsFileError) throw new pulumi.RunError(error.message);
    throw error;
  }
}

/** Of all that this run of the program reads. */
export function readDigests(tenants: Tenant[]): Digests {
  const raw = pulumi.runtime.allConfig();
  const { DOCKER_HOST: dockerHost } = process.env;
  return digestsOf({ settings: checked(), raw, dockerHost, tenants, folder: process.cwd() });
}

/** @param reasonOf what the stack has against the field of a tenant; undefined for nothing */
function refuse(entries: Tenant[], field: string, reasonOf: (tenant: Tenant) => string | undefined): void {
  const problems = entries.flatMap((tenant) => {
    const reason = reasonOf(tenant);
    return reason ? [`${positionOf(tenant, field)}: tenants.${tenant.id}.${field}: ${reason}`] : [];
  });
  if (problems.length > 0) throw new pulumi.RunError(problems.join("\n"));
}

/** A volume of the stack's own is some other tenant's, or the proxy's. */
function refuseOwnVolumes(entries: Tenant[], { prefix }: StackSettings): void {
  refuse(entries, "volume", ({ id, volume }) => {
    if (!volume?.startsWith(`${prefix}-`) || volume === `${prefix}-${id}`) return undefined;
    // What a restore in place kept is nobody's.
    if (volume.startsWith(`${prefix}--before-`)) return undefined;
    return `names that start with ${prefix}- are those of the stack's own volumes, got ${volume}`;
  });
}

/** What a pooler asks of the stack. */
function refusePoolers(entries: Tenant[], { platform, isolation, prefix }: StackSettings): void {
  if (platform !== "docker") return;
  const { pooler: nameOf } = resourceNames(prefix);
  refuse(entries, "pooler", ({ id, pooler }) => {
    if (!pooler) return undefined;
    if (isolation === "shared") {
      return "a pooler needs pgs:isolation: network, since other tenants would reach it in a shared one";
    }
    if (nameOf(id).length <= 63) return undefined;
    return `the pooler's container would have a name of more than 63 characters, which the proxy cannot look up: ${nameOf(id)}`;
  });
}

/** What a restore on a cluster asks of the stack and of the entry. */
function refuseRestores(entries: Tenant[], { platform, backupDestination }: StackSettings): void {
  if (platform !== "kubernetes") return;
  refuse(entries, "restoreFrom", ({ id, superuser, restoreFrom }) => {
    if (!restoreFrom) return undefined;
    if (!backupDestination) {
      return "it is restored from a bucket, and pgs:backups.destination names none: set it, or take this out";
    }
    if (superuser !== "off" || restoreFrom.tenant === id) return undefined;
    return "a tenant with superuser: off is restored under its own id alone: write superuser: on, or restore it in another stack";
  });
}

/**
 * On a cluster, WAL is archived inside the server's pod, so its superuser can get the bucket's credentials, and with them
 * every tenant's backups. Being a superuser is no default there: also a tenant without backups may get some, or have had.
 */
function requireExplicitSuperuser(entries: Tenant[], { platform, backupDestination }: StackSettings): void {
  if (platform !== "kubernetes" || !backupDestination) return;
  refuse(entries, "superuser", ({ superuser, positions }) =>
    superuser === "off" || Object.hasOwn(positions, "superuser")
      ? undefined
      : "it has no default on Kubernetes where backups go to a bucket, since a superuser can get the bucket's credentials, and with them read and delete every tenant's backups: write superuser: off, or superuser: on if you trust this tenant with all backups",
  );
}

/** Where there are no backups at all, an entry that counts on them must not be taken for one that has some. */
function refuseSchedules(entries: Tenant[], { backups }: StackSettings): void {
  if (backups.schedule !== "off") return;
  refuse(entries, "backup.schedule", ({ backup }) =>
    (backup.schedule ?? "off") === "off"
      ? undefined
      : "pgs:backups.schedule is off, and then no tenant is backed up: set it, or take this out",
  );
}
