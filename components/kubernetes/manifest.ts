import * as pulumi from "@pulumi/pulumi";

/** Of Pulumi's Kubernetes provider. Its plugin is fetched when the first stack uses it. */
export const kubernetesVersion = "4.24.1";

/** With outputs of other resources at any depth. */
type Deep<T> = T extends object ? { [Key in keyof T]: pulumi.Input<Deep<T[Key]>> } : T;

/** An object as its manifest says it. https://kubernetes.io/docs/concepts/overview/working-with-objects/ */
export interface ManifestArgs {
  apiVersion: string;
  kind: string;
  metadata: {
    name: pulumi.Input<string>;
    namespace?: pulumi.Input<string>;
    labels?: Record<string, pulumi.Input<string>>;
    annotations?: Record<string, pulumi.Input<string>>;
  };
  [part: string]: pulumi.Input<Deep<unknown>>;
}

/** As the data of a Secret has it. */
export function base64(text: pulumi.Input<string>): pulumi.Output<string> {
  return pulumi.output(text).apply((plain) => Buffer.from(plain).toString("base64"));
}

/** What the API server made of it. */
interface Metadata {
  name: string;
  namespace?: string;
  /** The API server's: another one when it is made again under the same name. */
  uid?: string;
  /** Another one after each change of what is asked for. */
  generation?: number;
}

/** Pulumi's Kubernetes provider with a cluster. Explicit, so that the stack's configuration is not copied into its state. */
export class KubernetesProvider extends pulumi.ProviderResource {
  constructor(name: string, args: { kubeconfig?: string; context?: string }, opts?: pulumi.ResourceOptions) {
    super("kubernetes", name, args, { ...opts, version: kubernetesVersion });
  }
}

/**
 * An object of Kubernetes, by Pulumi's provider for it and without its SDK: that would take a second to load, in stacks on
 * Docker its plugin would be fetched too, since Pulumi fetches those of all SDKs in node_modules, and it has no types for
 * the objects of CloudNativePG and Traefik.
 */
export class Manifest extends pulumi.CustomResource {
  declare readonly metadata: pulumi.Output<Metadata>;

  constructor(name: string, manifest: ManifestArgs, opts: pulumi.CustomResourceOptions) {
    const { apiVersion, kind, metadata, ...rest } = manifest;
    const group = apiVersion.includes("/") ? apiVersion : `core/${apiVersion}`;
    const annotations = {
      ...metadata.annotations,
      // Whoever applies fields under this name owns them, also in a stack that is made again: a field that is not asked
      // for any more goes.
      "pulumi.com/patchFieldManager": "pgs",
      // Fields that somebody changed by hand are taken back.
      "pulumi.com/patchForce": "true",
    };
    super(
      `kubernetes:${group}:${kind}`,
      name,
      { apiVersion, kind, metadata: { ...metadata, annotations }, ...rest },
      { ...opts, version: kubernetesVersion },
    );
  }
}
