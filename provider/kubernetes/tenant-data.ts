import { log } from "@pulumi/pulumi";
import {
  type ClusterAddress,
  clientLibrary,
  ifPresent,
  type KubernetesClient,
  kubernetesClient,
} from "../../kubernetes/client";
import { bytesOf, type Cluster, hibernate, readCluster } from "../../kubernetes/clusters";
import { cnpg, labels, restoredFrom as restoredFromAnnotation } from "../../kubernetes/names";
import type { ResourceType } from "../resource-type";
import { removeRestoreSource } from "./restore-source";

/**
 * A tenant's data, which its Cluster and its namespace have. It comes before both: what would harm data that is there is
 * refused before anything changes. Removing it shuts the servers down and leaves Cluster, volumes and namespace to whoever
 * writes the entry again.
 */
export interface TenantDataInputs extends ClusterAddress {
  /** The stack's id. */
  stack: string;
  /** The tenant's id, and its Cluster's name. */
  tenant: string;
  namespace: string;
  /** PostgreSQL's major version. */
  version: number;
  /** Bytes of a server's volume. */
  disk: number;
  /** What removing it does to the data. */
  onRemove: "retain" | "delete";
  /** What the entry's restoreFrom says; it counts when the data is first made. */
  restoredFrom?: string;
  /** Where tenants.yaml says `version`, `disk` and `restoreFrom`, for messages. */
  positions: Record<string, string>;
}

const secondsToEnd = 180;

export const TenantData: ResourceType<TenantDataInputs> = {
  updatable: ["kubeconfig", "context", "version", "disk", "onRemove", "restoredFrom"],
  replacing: [],

  async check(inputs) {
    const { kubeconfig, context, namespace = "", tenant = "", stack } = inputs;
    const client = await kubernetesClient({ kubeconfig, context });
    const present = await ifPresent(client.core.readNamespace({ name: namespace }));
    if (!present) return [];
    const found = present.metadata?.labels ?? {};
    const owner = found[labels.stack];
    // Of an entry that was removed, there is no stack.
    if (found[labels.tenant] !== tenant || (owner !== undefined && owner !== stack)) {
      const whose =
        owner === undefined || owner === stack ? "no tenant's of this name" : `of the stack ${owner}`;
      return [
        {
          property: "namespace",
          reason: `the namespace ${namespace} is ${whose}: it is left alone; choose another id, or another pgs:prefix`,
        },
      ];
    }
    const cluster = await readCluster(client, namespace, tenant);
    if (!cluster) return [];
    const problems = dataProblems(inputs, cluster);
    const fixed = problems.length === 0 ? await fixedVolume(client, inputs, cluster) : undefined;
    return fixed ? [...problems, fixed] : problems;
  },

  async create(inputs) {
    return { id: inputs.namespace, state: inputs };
  },

  async read(_id, state) {
    return state;
  },

  async update(_id, _state, inputs) {
    return inputs;
  },

  async delete(_id, { kubeconfig, context, namespace, tenant, onRemove }) {
    if (onRemove === "delete") {
      await log.info(`The data of ${tenant} is deleted: onRemove is delete.`);
      return;
    }
    const client = await kubernetesClient({ kubeconfig, context });
    await removeRestoreSource(client, { namespace, tenant });
    await hibernate(client, namespace, tenant, secondsToEnd);
    await releaseNamespace(client, namespace);
    await log.info(`The data of ${tenant} stays in the namespace ${namespace}.`);
  },
};

/** A volume that is to grow, and whose StorageClass does not let it. */
async function fixedVolume(
  { core, storage }: KubernetesClient,
  { namespace = "", tenant = "", disk = 0, positions = {} }: Partial<TenantDataInputs>,
  cluster: Cluster,
) {
  const { size = "" } = cluster.spec.storage ?? {};
  if (disk <= (bytesOf(size) ?? disk)) return undefined;
  const labelSelector = `${cnpg.cluster}=${tenant}`;
  const list = await ifPresent(core.listNamespacedPersistentVolumeClaim({ namespace, labelSelector }));
  const name = list?.items[0]?.spec?.storageClassName;
  // Whoever may not see StorageClasses hears of it from the rollout.
  const found = name ? await storage.readStorageClass({ name }).catch(() => undefined) : undefined;
  if (!found || found.allowVolumeExpansion) return undefined;
  return {
    property: "disk" as const,
    reason: `${positions.disk}: tenants.${tenant}.disk: volumes of the StorageClass ${name} cannot grow: write disk: ${size} again, or set allowVolumeExpansion there`,
  };
}

/** What the data that is there does not allow. */
function dataProblems(
  { tenant, version, disk = 0, restoredFrom, positions = {} }: Partial<TenantDataInputs>,
  cluster: Cluster,
) {
  const at = (field: string) => `${positions[field]}: tenants.${tenant}.${field}`;
  const made = cluster.metadata.labels?.[labels.version];
  const size = bytesOf(cluster.spec.storage?.size ?? "");
  const problems: { property: keyof TenantDataInputs; reason: string }[] = [];
  if (made !== undefined && made !== String(version)) {
    problems.push({
      property: "version",
      reason: `${at("version")}: the tenant's data is that of PostgreSQL ${made} and cannot be used by ${version}: write version: ${made} again. To move to ${version}, add a second tenant and load a dump`,
    });
  }
  if (size !== undefined && disk < size) {
    problems.push({
      property: "disk",
      reason: `${at("disk")}: a volume grows and does not shrink, and this one has ${cluster.spec.storage?.size}: write that or more`,
    });
  }
  if (restoredFrom !== undefined && cluster.metadata.annotations?.[restoredFromAnnotation] !== restoredFrom) {
    problems.push({
      property: "restoredFrom",
      reason: `${at("restoreFrom")}: the tenant has data, and an edit never replaces data: take restoreFrom out, or restore into another entry`,
    });
  }
  return problems;
}

/** No stack's any more, so that the next one with this tenant takes it up. */
async function releaseNamespace({ core }: KubernetesClient, name: string): Promise<void> {
  const { setHeaderOptions, PatchStrategy } = await clientLibrary();
  const body = { metadata: { labels: { [labels.stack]: null } } };
  await ifPresent(
    core.patchNamespace({ name, body }, setHeaderOptions("Content-Type", PatchStrategy.MergePatch)),
  );
}
