import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import type { ApiServer } from "../kubernetes/api-server";
import type { AcmeCertificateInputs } from "./acme-certificate";
import type { BackupDestinationInputs } from "./backup-destination";
import type { ContainerInputs } from "./container";
import type { ClientAddressesInputs } from "./kubernetes/client-addresses";
import type { ClusterRolloutInputs } from "./kubernetes/cluster-rollout";
import type { TenantDatabaseInputs } from "./kubernetes/database";
import type { KubernetesOperatorInputs } from "./kubernetes/operator";
import type { RestoreSourceInputs } from "./kubernetes/restore-source";
import type { TenantDataInputs } from "./kubernetes/tenant-data";
import type { PlatformInputs } from "./platform";
import type { ProgramsInputs } from "./programs";
import type { RestoreInputs } from "./restore";
import type { PostgresServerInputs } from "./server/inputs";
import type { TraefikFileInputs } from "./traefik-file";

/** The `pgs` provider itself. Explicit, so that the stack's configuration is not copied into its state. */
export class PgsProvider extends pulumi.ProviderResource {
  constructor(name: string, opts?: pulumi.ResourceOptions) {
    super("pgs", name, {}, opts);
  }
}

/** Where the stack's tenants are. All else waits for it, so that another place is refused before anything changes. */
export class Platform extends pulumi.CustomResource {
  constructor(name: string, args: PlatformInputs, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:Platform", name, args, opts);
  }
}

/** With outputs of other resources at any depth. */
type Args<Inputs> = { [Key in keyof Inputs]: pulumi.Input<Deep<Inputs[Key]>> };
type Deep<T> = T extends object ? Args<T> : T;

/** One file of Traefik's dynamic configuration, replaced in one step. */
export class TraefikFile extends pulumi.CustomResource {
  constructor(name: string, args: Args<TraefikFileInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:TraefikFile", name, args, opts);
  }
}

/** A certificate that the proxy gets by itself from an ACME server, and renews. */
export class AcmeCertificate extends pulumi.CustomResource {
  constructor(name: string, args: Args<AcmeCertificateInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:AcmeCertificate", name, args, { ...opts, additionalSecretOutputs: ["files"] });
  }
}

/** One container of the stack, whatever runs in it. */
export class Container extends pulumi.CustomResource {
  /** The engine's id of it: another one after it is replaced. */
  declare readonly containerId: pulumi.Output<string>;

  constructor(name: string, args: Args<ContainerInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:Container", name, { containerId: undefined, ...args }, opts);
  }
}

const programPaths = {
  "start-server": join(__dirname, "server", "start-server.sh"),
  "watch-disk": join(__dirname, "server", "watch-disk.sh"),
  "cancel-requests": join(__dirname, "..", "cancel", "cancel_requests.py"),
  "monitoring-relay": join(__dirname, "..", "monitoring", "relay", "monitoring_relay.py"),
  "monitoring-collector": join(__dirname, "..", "monitoring", "collector", "monitoring_collector.py"),
};

/** Text of a program, by its name in the volume. */
export function programText(name: keyof typeof programPaths): string {
  return readFileSync(programPaths[name], "utf8");
}

/** Which text it is. In the environment of a container that reads it, another text is another container. */
export function programVersion(text: string): string {
  return `PROGRAM=${createHash("sha256").update(text).digest("hex").slice(0, 16)}`;
}

/** The volume with the programs that containers start with. */
export class Programs extends pulumi.CustomResource {
  /** The volume's name. */
  declare readonly volume: pulumi.Output<string>;

  /** @param args.files beside what every stack has */
  constructor(name: string, args: Args<ProgramsInputs>, opts?: pulumi.CustomResourceOptions) {
    const files = {
      "start-server": programText("start-server"),
      "watch-disk": programText("watch-disk"),
      "cancel-requests": programText("cancel-requests"),
      ...args.files,
    };
    super("pgs:index:Programs", name, { ...args, files }, opts);
  }
}

/** One tenant's server: network, container, limits, settings, access, TLS, database, route and backups. */
export class PostgresServer extends pulumi.CustomResource {
  constructor(name: string, args: Args<PostgresServerInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:PostgresServer", name, args, {
      ...opts,
      additionalSecretOutputs: ["password", "rolePasswords", "tls"],
    });
  }
}

/** The bucket that backups are copied to. */
export class BackupDestination extends pulumi.CustomResource {
  constructor(name: string, args: Args<BackupDestinationInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:BackupDestination", name, args, {
      ...opts,
      additionalSecretOutputs: ["accessKeyId", "secretAccessKey"],
    });
  }
}

/** A new tenant's data, made from another's backups before its server first starts. */
export class Restore extends pulumi.CustomResource {
  constructor(name: string, args: Args<RestoreInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:Restore", name, args, opts);
  }
}

/** CloudNativePG's operator on a cluster, once it takes Clusters. */
export class KubernetesOperator extends pulumi.CustomResource {
  declare readonly apiServer: pulumi.Output<ApiServer>;

  constructor(name: string, args: Args<KubernetesOperatorInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:KubernetesOperator", name, { apiServer: undefined, ...args }, opts);
  }
}

/** A tenant's data on a cluster, which outlives its entry. */
export class TenantData extends pulumi.CustomResource {
  /** That the tenant was made in: another pgs:prefix later does not move it. */
  declare readonly namespace: pulumi.Output<string>;

  constructor(name: string, args: Args<TenantDataInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:TenantData", name, args, { ...opts, ignoreChanges: ["namespace"] });
  }
}

/** Where a tenant's clients on a cluster may come from, once its route says so. */
export class ClientAddresses extends pulumi.CustomResource {
  constructor(name: string, args: Args<ClientAddressesInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:ClientAddresses", name, args, opts);
  }
}

/** What is inside of a tenant's servers on a cluster: init scripts, passwords, roles, extensions. */
export class TenantDatabase extends pulumi.CustomResource {
  constructor(name: string, args: Args<TenantDatabaseInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:TenantDatabase", name, args, {
      ...opts,
      additionalSecretOutputs: ["password", "rolePasswords"],
    });
  }
}

/** What a tenant on a cluster is restored from. */
export class RestoreSource extends pulumi.CustomResource {
  /** The name of its folder in the bucket. */
  declare readonly folder: pulumi.Output<string>;

  constructor(name: string, args: Args<RestoreSourceInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:RestoreSource", name, { folder: undefined, ...args }, opts);
  }
}

/** The end of what the operator does after a change of a tenant's Cluster. */
export class ClusterRollout extends pulumi.CustomResource {
  /** Of the Cluster that was rolled out. */
  declare readonly generation: pulumi.Output<number>;

  constructor(name: string, args: Args<ClusterRolloutInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:ClusterRollout", name, args, opts);
  }
}
