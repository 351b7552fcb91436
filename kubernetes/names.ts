/** Names of what a stack has on a cluster. */
export interface ObjectNames {
  /** Namespace of the proxy and of all routes. */
  proxy: string;
  /** Namespace of a tenant. Its Cluster has the tenant's id for a name. */
  tenant(id: string): string;
}

/** `proxy` is no tenant's id (tenants/schema.ts). */
export function objectNames(prefix: string): ObjectNames {
  return { proxy: `${prefix}-proxy`, tenant: (id) => `${prefix}-${id}` };
}

/** A Cluster's Pooler, and what CloudNativePG makes for it: its Deployment and its Service. */
export function poolerName(cluster: string): string {
  return `${cluster}-pooler`;
}

/** A Service of CloudNativePG's, to a Cluster's primary (`rw`), its replicas (`ro`) or its Pooler, by its name in the whole cluster. */
export function clusterService(cluster: string, namespace: string, to: "rw" | "ro" | "pooler"): string {
  return `${cluster}-${to}.${namespace}.svc.cluster.local`;
}

/** In the bucket, a folder of a tenant's: each namespace begins one. restore/from-bucket.py knows it by its first part. */
export function backupFolder(namespaceUid: string | undefined): string {
  return `cluster-${namespaceUid}`;
}

/** Labels of what belongs to a stack, and to a tenant of it. */
export const labels = {
  stack: "pgs.stack",
  tenant: "pgs.tenant",
  version: "pgs.version",
  role: "pgs.role",
} as const;

/** The role of pods that run a client program for a command. */
export const clientRole = "client";

/** Of what a Cluster's data was made from: an annotation of it, while its entry says so. */
export const restoredFrom = "pgs.restored-from";

/** Those of CloudNativePG. https://cloudnative-pg.io/documentation/1.28/labels_annotations/ */
export const cnpg = {
  /** On pods, volumes and what else belongs to a Cluster. */
  cluster: "cnpg.io/cluster",
  /** `instance`, on pods that run a server. */
  pod: "cnpg.io/podRole",
  /** On the pods of a Pooler: its name. */
  pooler: "cnpg.io/poolerName",
  /** On pods that make a Cluster's data; `full-recovery` where that is a restore. */
  job: "cnpg.io/jobRole",
  /** On Secrets whose change counts at once. */
  reload: "cnpg.io/reload",
  /** `on` or `off`, an annotation of a Cluster: without pods, and with its volumes. */
  hibernation: "cnpg.io/hibernation",
} as const;
