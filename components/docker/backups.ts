import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import type { ResourceNames } from "../../docker/names";
import { BackupDestination, Container } from "../../provider/resources";
import type { Tenant } from "../../tenants";
import { type BackupPlan, backupPlan, retentionDays } from "../../tenants/backup";
import type { StackSettings } from "../stack-settings";
import { barmanVolumes, type PinnedImage, type PostgresImages } from "./postgres-images";

export interface BackupsArgs {
  /** The stack's id, which its containers are labelled with. */
  stack: pulumi.Input<string>;
  names: ResourceNames;
  images: PostgresImages;
  /** All tenants of the stack, and how those are backed up that say nothing else. */
  tenants: Tenant[];
  backups: BackupPlan;
  /** Where backups are copied to, off the host; undefined when they are not. */
  backupDestination?: StackSettings["backupDestination"];
  /** IPv4 range from which the network that leads there is taken. */
  tenantSubnets: string;
  /** The Docker host, when it is not the default one. */
  dockerHost?: string;
}

/** What tenants are backed up with: the image of their backup containers, and the copies off the host. */
export class Backups extends pulumi.ComponentResource {
  readonly image: PinnedImage;
  /** What tenants that are restored from the copies off the host wait for; undefined where there are none. */
  readonly destination: BackupDestination | undefined;

  constructor(name: string, args: BackupsArgs, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:Backups", name, {}, opts);
    this.image = args.images.barman;
    this.destination = this.copyOffsite(args);
    this.registerOutputs();
  }

  /** The one container that knows the bucket. It reads every tenant's backups and is in no tenant's network. */
  private copyOffsite(args: BackupsArgs): BackupDestination | undefined {
    const { backupDestination: destination, dockerHost: host, names, stack, tenantSubnets } = args;
    if (!destination) return undefined;
    const child = { parent: this };
    const volume = new docker.Volume(
      "offsite",
      { name: names.offsite },
      { ...child, ignoreChanges: ["name", "driver", "driverOpts", "labels"], retainOnDelete: true },
    );
    const tenants = args.tenants
      .map((tenant) => ({ id: tenant.id, plan: backupPlan(tenant, args.backups) }))
      .filter(({ plan }) => plan.schedule !== "off");
    const container = new Container(
      "offsite",
      {
        host,
        stack,
        name: names.offsite,
        role: "offsite",
        ...this.image,
        entrypoint: ["pgs-offsite"],
        command: ["run", ...tenants.flatMap(({ id, plan }) => ["--tenant", `${id}=${retentionDays(plan)}`])],
        user: "999:999",
        mounts: [
          { volume: volume.name, path: "/var/lib/offsite" },
          ...tenants.map(({ id }) => ({
            volume: names.backup(id),
            path: `/backups/${id}`,
            readOnly: true,
            backupsOf: id,
          })),
        ],
        networks: [{ name: names.offsite, internal: false, pool: tenantSubnets, prefixLength: 24 }],
        tmpfs: ["/tmp", ...barmanVolumes],
        resolvesNames: true,
        memory: 256 << 20,
        pids: 256,
        cpuShares: 64,
        stopSeconds: 30,
      },
      child,
    );
    return new BackupDestination(
      "backups",
      { host, container: container.containerId, ...destination },
      child,
    );
  }
}
