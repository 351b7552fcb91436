import * as pulumi from "@pulumi/pulumi";
import type { AcmeCertificateInputs } from "./acme-certificate";
import type { AttachmentInputs } from "./attachment";
import type { BackupDestinationInputs } from "./backup-destination";
import type { NetworkInputs } from "./network";
import type { PostgresServerInputs } from "./postgres-server";
import type { RestoreInputs } from "./restore";
import type { TraefikFileInputs } from "./traefik-file";

/** The `pgs` provider itself. Explicit, so that the stack's configuration is not copied into its state. */
export class PgsProvider extends pulumi.ProviderResource {
  constructor(name: string, opts?: pulumi.ResourceOptions) {
    super("pgs", name, {}, opts);
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

/** A bridge network, with the proxy attached to it where that is asked for. */
export class Network extends pulumi.CustomResource {
  /** The network's name, for containers to join. */
  declare readonly name: pulumi.Output<string>;
  /** The attached proxy's address. */
  declare readonly proxyAddress: pulumi.Output<string>;

  constructor(name: string, args: Args<NetworkInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:Network", name, { proxyAddress: undefined, ...args }, opts);
  }
}

/** A container that runs in a network: started again, and put there again, when somebody changed that. */
export class Attachment extends pulumi.CustomResource {
  constructor(name: string, args: Args<AttachmentInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:Attachment", name, args, opts);
  }
}

/** One tenant's server: container, readiness, password, database, init scripts, settings, limits, certificate, route, backup. */
export class PostgresServer extends pulumi.CustomResource {
  constructor(name: string, args: Args<PostgresServerInputs>, opts?: pulumi.CustomResourceOptions) {
    super("pgs:index:PostgresServer", name, args, {
      ...opts,
      additionalSecretOutputs: ["password", "key", "barmanPassword"],
    });
  }
}

/** The bucket that Barman's container copies WAL and base backups to. */
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
