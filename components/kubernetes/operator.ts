import * as pulumi from "@pulumi/pulumi";
import { parseAllDocuments } from "yaml";
import type { ApiServer } from "../../kubernetes/api-server";
import { KubernetesOperator } from "../../provider/resources";
import { readPlainFile } from "../../tenants/plain-file";
import { Manifest, type ManifestArgs } from "./manifest";

export interface OperatorArgs {
  /** The stack's id. */
  stack: pulumi.Input<string>;
  /** Names of what the stack has start with it. */
  prefix: string;
  kubernetes: {
    kubeconfig?: string;
    context?: string;
    /** Path of CloudNativePG's manifest. Without one, the cluster has the operator. */
    operatorManifest?: string;
    /** Path of the definitions of Traefik's resources. Without one, the cluster has them. */
    proxyManifest?: string;
  };
}

/** CloudNativePG, which runs the tenants' servers, and the kinds of objects that it and Traefik have. */
export class Operator extends pulumi.ComponentResource {
  /** Once Clusters can be made. */
  readonly ready: pulumi.Resource[];
  /** Where pods reach the API server. */
  readonly apiServer: pulumi.Output<ApiServer>;

  constructor(name: string, args: OperatorArgs, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:Operator", name, {}, opts);
    const { operatorManifest, proxyManifest, ...cluster } = args.kubernetes;
    const definitions = this.install("proxyManifest", proxyManifest);
    const operator = this.install("operatorManifest", operatorManifest);
    const accepting = new KubernetesOperator(
      name,
      {
        kubeconfig: cluster.kubeconfig,
        context: cluster.context,
        stack: args.stack,
        prefix: args.prefix,
        installed: operatorManifest !== undefined,
      },
      { parent: this, dependsOn: operator },
    );
    this.ready = [...definitions, accepting];
    this.apiServer = accepting.apiServer;
    this.registerOutputs();
  }

  /** The objects of a manifest: definitions and namespaces first. */
  private install(key: string, path: string | undefined): Manifest[] {
    const objects = path === undefined ? [] : readManifest(key, path);
    const first = objects.filter(({ kind }) => isFirst(kind));
    const rest = objects.filter(({ kind }) => !isFirst(kind));
    const create = (object: ManifestArgs, opts: pulumi.CustomResourceOptions) =>
      new Manifest(nameOf(object), object, { parent: this, ...opts });
    // Other stacks may use it, and with the definition of Clusters every tenant's data would go: it stays.
    const kept = { retainOnDelete: true };
    const made = first.map((object) => create(object, kept));
    return [...made, ...rest.map((object) => create(object, { ...kept, dependsOn: made }))];
  }
}

/** CloudNativePG's has a megabyte. */
const mostOfManifest = 8 * 2 ** 20;

function isFirst(kind: string): boolean {
  return kind === "CustomResourceDefinition" || kind === "Namespace";
}

function nameOf({ kind, metadata: { namespace, name } }: ManifestArgs): string {
  return [kind, namespace, name].filter(Boolean).join("/");
}

/** @throws pulumi.RunError when it is no manifest */
function readManifest(key: string, path: string): ManifestArgs[] {
  const where = `pgs:kubernetes.${key}: ${path}`;
  let objects: unknown[];
  try {
    objects = parseAllDocuments(readPlainFile(path, mostOfManifest)).map((document) => {
      const [error] = document.errors;
      if (error) throw error;
      return document.toJS();
    });
  } catch (error) {
    throw new pulumi.RunError(`${where}: ${(error as Error).message}`);
  }
  const manifests = objects.filter((object) => object !== null && object !== undefined);
  const isManifest = (object: unknown): object is ManifestArgs => {
    const { apiVersion, kind, metadata } = Object(object);
    return typeof apiVersion === "string" && typeof kind === "string" && typeof metadata?.name === "string";
  };
  if (manifests.length === 0 || !manifests.every(isManifest)) {
    throw new pulumi.RunError(
      `${where}: expected a manifest, YAML documents with apiVersion, kind and metadata.name`,
    );
  }
  return manifests;
}
