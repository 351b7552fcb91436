import { setTimeout as delay } from "node:timers/promises";
import { clientLibrary, ifPresent, type KubernetesClient, type Pod, readable } from "./client";
import { cnpg } from "./names";

/** Of CloudNativePG: one server with its replicas. */
export interface Cluster {
  metadata: {
    name: string;
    namespace: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    creationTimestamp?: string;
  };
  spec: { storage?: { size?: string } };
  status?: {
    phase?: string;
    phaseReason?: string;
    readyInstances?: number;
    currentPrimary?: string;
    /** Since when it is that. */
    currentPrimaryTimestamp?: string;
    /** Begins at 1; one more with each new primary that took over. */
    timelineID?: number;
    targetPrimary?: string;
    /** When the newest base backup in the bucket was complete. */
    lastSuccessfulBackup?: string;
    conditions?: { type: string; status: string; reason: string; message: string }[];
  };
}

const kind = { group: "postgresql.cnpg.io", version: "v1", plural: "clusters" };

/** The phase of a Cluster that has nothing to do. */
export const healthy = "Cluster in healthy state";

export async function readCluster(
  { objects }: KubernetesClient,
  namespace: string,
  name: string,
): Promise<Cluster | undefined> {
  return ifPresent(objects.getNamespacedCustomObject({ ...kind, namespace, name }) as Promise<Cluster>);
}

/** Those with a label; all that are there when the kind is known. */
export async function listClusters({ objects }: KubernetesClient, labelSelector: string): Promise<Cluster[]> {
  const list = await ifPresent(objects.listClusterCustomObject({ ...kind, labelSelector }));
  return (list as { items: Cluster[] } | undefined)?.items ?? [];
}

/** The pods that run its servers. */
export async function instancePods(
  { core }: KubernetesClient,
  namespace: string,
  cluster: string,
): Promise<Pod[]> {
  const labelSelector = `${cnpg.cluster}=${cluster},${cnpg.pod}=instance`;
  const list = await ifPresent(core.listNamespacedPod({ namespace, labelSelector }));
  return list?.items ?? [];
}

/**
 * Shuts its servers down, and keeps their volumes. One that is not there needs nothing.
 * https://cloudnative-pg.io/documentation/1.28/declarative_hibernation/
 * @throws Error when they are not gone after `seconds`
 */
export async function hibernate(
  client: KubernetesClient,
  namespace: string,
  name: string,
  seconds: number,
): Promise<void> {
  const { setHeaderOptions, PatchStrategy } = await clientLibrary();
  const body = { metadata: { annotations: { [cnpg.hibernation]: "on" } } };
  const merge = setHeaderOptions("Content-Type", PatchStrategy.MergePatch);
  const patched = client.objects.patchNamespacedCustomObject({ ...kind, namespace, name, body }, merge);
  if ((await ifPresent(patched)) === undefined) return;
  const deadline = Date.now() + seconds * 1000;
  while ((await instancePods(client, namespace, name)).length > 0) {
    if (Date.now() > deadline) {
      throw new Error(
        `${namespace}/${name}: its servers have not ended after ${seconds} s: does CloudNativePG's operator run?`,
      );
    }
    await delay(300);
  }
}

/** Whether the operator is there and takes Clusters: asks for one, and makes none. @returns why not */
export async function refusesClusters({ objects }: KubernetesClient): Promise<string | undefined> {
  const body = {
    apiVersion: `${kind.group}/${kind.version}`,
    kind: "Cluster",
    metadata: { generateName: "pgs-", namespace: "default" },
    spec: { instances: 1, storage: { size: "1Gi" } },
  };
  try {
    await objects.createNamespacedCustomObject({ ...kind, namespace: "default", body, dryRun: "All" });
    return undefined;
  } catch (error) {
    return readable(error).message;
  }
}

const units: Readonly<Record<string, number>> = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 };

/** Of a size as pgs and volumes write it; undefined for another. */
export function bytesOf(size: string): number | undefined {
  const [, number, unit = ""] = /^(\d+)(Ki|Mi|Gi|Ti)?$/.exec(size) ?? [];
  return number === undefined ? undefined : Number(number) * (units[unit] ?? 1);
}
