import * as pulumi from "@pulumi/pulumi";
import type { KubernetesSettings } from "../../config";
import { backupFolder, cnpg, type ObjectNames } from "../../kubernetes/names";
import { RestoreSource } from "../../provider/resources";
import type { Tenant } from "../../tenants";
import { type BackupPlan, backupPlan } from "../../tenants/backup";
import type { StackSettings } from "../stack-settings";
import { base64, Manifest } from "./manifest";

export interface TenantBackupArgs {
  tenant: Tenant;
  names: ObjectNames;
  backups: BackupPlan;
  backupDestination?: StackSettings["backupDestination"];
  kubernetes: KubernetesSettings;
}

type Destination = NonNullable<StackSettings["backupDestination"]>;

const source = "backups";

/**
 * A tenant's backups in the bucket, and its data from there. Everything here that is CloudNativePG's own is its in-tree
 * support of Barman's cloud commands: where the plugin for them takes over, this file changes and no other.
 * https://cloudnative-pg.io/documentation/1.28/appendixes/backup_barmanobjectstore/
 */
export class TenantBackup {
  private readonly plan: BackupPlan;
  private readonly destination: Destination | undefined;
  private readonly credentials: Manifest | undefined;
  private readonly folder: pulumi.Output<string> | undefined;

  constructor(
    private readonly name: string,
    private readonly args: TenantBackupArgs,
    private readonly namespace: Manifest,
    private readonly parent: pulumi.Resource,
    { image, policy }: { image: string; policy: Manifest },
  ) {
    this.plan = backupPlan(args.tenant, args.backups);
    // Who has neither backups nor a restore gets no credentials.
    this.destination = usesBucket(args) ? args.backupDestination : undefined;
    this.credentials = this.destination && this.createCredentials(this.destination);
    this.folder = this.createSource(image, policy);
  }

  /** Resources that have to be there before the Cluster. */
  get dependsOn(): pulumi.Resource[] {
    return this.credentials ? [this.credentials] : [];
  }

  /** Of the Cluster's spec. */
  get spec() {
    const { destination, plan } = this;
    if (!destination || plan.schedule === "off") return {};
    const { encryption } = destination;
    const encrypted = encryption === "off" ? {} : { encryption };
    return {
      backup: {
        barmanObjectStore: {
          ...this.objectStore(destination, this.args.tenant.id),
          // A namespace that is made again has other data, and with it a new series of backups.
          serverName: this.namespace.metadata.apply(({ uid }) => backupFolder(uid)),
          wal: { compression: "gzip", ...encrypted },
          data: { compression: "gzip", ...encrypted },
        },
        retentionPolicy: plan.retention,
      },
    };
  }

  /** Of the Cluster's spec, what it is made from; undefined without restoreFrom. */
  bootstrap(login: { secret?: { name: string } }) {
    const { restoreFrom } = this.args.tenant;
    const { destination, folder } = this;
    if (!restoreFrom || !destination || !folder) return undefined;
    const { tenant: from, at } = restoreFrom;
    return {
      bootstrap: {
        recovery: {
          source,
          database: from,
          owner: from,
          ...login,
          ...(at !== undefined && { recoveryTarget: { targetTime: targetTime(at) } }),
        },
      },
      externalClusters: [
        { name: source, barmanObjectStore: { ...this.objectStore(destination, from), serverName: folder } },
      ],
    };
  }

  /** Daily base backups; the first one at once. */
  createSchedule(database: pulumi.Resource): void {
    if (!this.destination || this.plan.schedule === "off") return;
    const [hour, minute] = this.plan.schedule.split(":").map(Number);
    const { id, state } = this.args.tenant;
    new Manifest(
      this.name,
      {
        apiVersion: "postgresql.cnpg.io/v1",
        kind: "ScheduledBackup",
        metadata: { name: id, namespace: this.namespace.metadata.apply(({ name }) => name) },
        spec: {
          cluster: { name: id },
          schedule: `0 ${minute} ${hour} * * *`,
          immediate: true,
          backupOwnerReference: "self",
          suspend: state === "stopped",
        },
      },
      { parent: this.parent, dependsOn: database },
    );
  }

  private objectStore({ destination, endpoint }: Destination, tenant: string) {
    const key = (name: string) => ({ name: credentialsOf(this.args.tenant), key: name });
    return {
      destinationPath: `${destination.replace(/\/$/, "")}/tenant-${tenant}`,
      ...(endpoint && { endpointURL: endpoint }),
      s3Credentials: {
        accessKeyId: key("accessKeyId"),
        secretAccessKey: key("secretAccessKey"),
        region: key("region"),
      },
    };
  }

  private createCredentials({ accessKeyId, secretAccessKey, region = "us-east-1" }: Destination): Manifest {
    return new Manifest(
      `${this.name}-backup`,
      {
        apiVersion: "v1",
        kind: "Secret",
        metadata: {
          name: credentialsOf(this.args.tenant),
          namespace: this.namespace.metadata.apply(({ name }) => name),
          labels: { [cnpg.reload]: "true" },
        },
        data: pulumi.secret({
          accessKeyId: base64(accessKeyId),
          secretAccessKey: base64(secretAccessKey),
          region: base64(region),
        }),
      },
      { parent: this.parent, additionalSecretOutputs: ["data"] },
    );
  }

  /** Only for an entry with `restoreFrom`; CloudNativePG reads it when it makes the first server. */
  private createSource(image: string, policy: Manifest): pulumi.Output<string> | undefined {
    const { tenant, kubernetes } = this.args;
    const { restoreFrom } = tenant;
    if (!restoreFrom || !this.destination || !this.credentials) return undefined;
    const { destination, endpoint, encryption } = this.destination;
    return new RestoreSource(
      this.name,
      {
        kubeconfig: kubernetes.kubeconfig,
        context: kubernetes.context,
        namespace: this.namespace.metadata.apply(({ name }) => name),
        tenant: tenant.id,
        from: restoreFrom.tenant,
        fromNamespace: this.args.names.tenant(restoreFrom.tenant),
        at: restoreFrom.at,
        version: tenant.version,
        image,
        destination,
        endpoint,
        encryption,
        credentials: credentialsOf(tenant),
      },
      { parent: this.parent, dependsOn: [this.credentials, policy] },
    ).folder;
  }
}

type BucketUse = Pick<TenantBackupArgs, "tenant" | "backups" | "backupDestination">;

function usesBucket({ tenant, backups, backupDestination }: BucketUse): boolean {
  const isBackedUp = backupPlan(tenant, backups).schedule !== "off";
  return backupDestination !== undefined && (isBackedUp || tenant.restoreFrom !== undefined);
}

/** What a tenant's NetworkPolicy has to let out for it. */
export function bucketPorts(args: BucketUse): number[] {
  const { protocol, port } = new URL(args.backupDestination?.endpoint ?? "https://s3.amazonaws.com");
  return usesBucket(args) ? [Number(port || (protocol === "http:" ? 80 : 443))] : [];
}

/** What an entry's restoreFrom says, in one line; undefined without one. */
export function restoredFromOf({ restoreFrom }: Tenant): string | undefined {
  return restoreFrom && [restoreFrom.tenant, ...(restoreFrom.at ? ["at", restoreFrom.at] : [])].join(" ");
}

function credentialsOf({ id }: Tenant): string {
  return `${id}-backup`;
}

/** PostgreSQL's own format: it knows no Z where it reads this. */
function targetTime(at: string): string {
  return new Date(at).toISOString().replace("T", " ").replace("Z", "000+00");
}
