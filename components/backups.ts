import { createHmac } from "node:crypto";
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { BackupDestination, Network } from "../provider/resources";
import type { Tenant } from "../tenants";
import type { StackMark } from "./stack-mark";
import type { StackSettings } from "./stack-settings";

export interface BackupsArgs {
  /** Names of the container, volume and network start with it. */
  prefix: string;
  /** Barman, with the programs of the newest PostgreSQL that a tenant runs. */
  barmanImage: string;
  /** Where backups are copied to, off the host; undefined when they are not. */
  backupDestination?: StackSettings["backupDestination"];
  mark: StackMark;
  /** IPv4 range from which Barman's own network is taken. */
  tenantSubnets: string;
  /** The Docker host, when it is not the default one. */
  dockerHost?: string;
}

/** Barman: the one container that receives every tenant's WAL and keeps their base backups, in its volume. */
export class Backups extends pulumi.ComponentResource {
  readonly containerName: string;
  readonly containerId: pulumi.Output<string>;
  readonly volumeName: pulumi.Output<string>;
  readonly imageId: pulumi.Output<string>;
  /** The network that leads to the copies off the host; undefined without them. */
  readonly offsiteNetwork: pulumi.Output<string> | undefined;
  private readonly secret: pulumi.Output<string>;

  constructor(name: string, args: BackupsArgs, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:Backups", name, {}, opts);
    const child = { parent: this };
    // Two hyphens: nothing of a tenant has such a name.
    const containerName = `${args.prefix}--backups`;

    const image = new docker.RemoteImage("barman", { name: args.barmanImage, keepLocally: true }, child);
    const network = createNetwork(containerName, args, child);
    // Backups outlive the stack that made them: only a hand removes this volume.
    const volume = new docker.Volume(
      "backups",
      { name: containerName },
      { ...child, ignoreChanges: ["name", "driver", "driverOpts", "labels"], retainOnDelete: true },
    );
    const container = new docker.Container(
      "backups",
      {
        ...args.mark.of(containerName, { volume: volume.name, image: image.imageId }),
        image: image.imageId,
        networksAdvanced: [{ name: network.name }],
        ...(args.backupDestination ? {} : { dns: ["0.0.0.0"], dnsOpts: ["timeout:1", "attempts:1"] }),
        volumes: [{ volumeName: volume.name, containerPath: "/var/lib/barman" }],
        restart: "unless-stopped",
        // Where processors are short, the tenants come first: the engine's default is 1024.
        cpuShares: 64,
        // As with the others: one that was stopped is started by each tenant's PostgresServer.
        mustRun: false,
        // What was received is written already; a base backup that is cut off is made anew.
        destroyGraceSeconds: 10,
        user: "999:999",
        readOnly: true,
        tmpfs: { "/tmp": "" },
        capabilities: { drops: ["ALL"] },
        securityOpts: ["no-new-privileges:true"],
        logDriver: "json-file",
        logOpts: { "max-size": "10m", "max-file": "3" },
      },
      { ...child, replaceOnChanges: ["tmpfs"] },
    );
    if (args.backupDestination) {
      new BackupDestination(
        "backups",
        {
          host: args.dockerHost,
          barman: container.id,
          ...args.backupDestination,
        },
        child,
      );
    }
    const secret = new random.RandomPassword("backups", { length: 48, special: false }, child);

    this.containerName = containerName;
    this.containerId = container.id;
    this.volumeName = volume.name;
    this.imageId = image.imageId;
    this.offsiteNetwork = args.backupDestination && network.name;
    this.secret = secret.result;
    this.registerOutputs();
  }

  /** Of Barman's role on this tenant's server; a secret. It follows from one secret, so that a tenant has a resource less. */
  passwordFor({ id, passwordVersion }: Tenant): pulumi.Output<string> {
    return pulumi.secret(
      this.secret.apply((secret) =>
        createHmac("sha256", secret).update(`${id} ${passwordVersion}`).digest("hex"),
      ),
    );
  }
}

/** Barman reaches tenants over their networks. One of its own that leads out it has only when backups are copied. */
function createNetwork(
  name: string,
  { dockerHost: host, tenantSubnets: pool, backupDestination }: BackupsArgs,
  opts: pulumi.CustomResourceOptions,
): Network {
  if (!backupDestination) {
    return new Network("backups", { host, name, internal: true, pool, prefixLength: 29 }, opts);
  }
  // Restores of all tenants at once have an address each.
  const out = { host, name: `${name}-out`, internal: false, pool, prefixLength: 24 };
  return new Network("backups-out", out, opts);
}
