import { forEach } from "../../docker/client";
import { type KubernetesClient, readable } from "../../kubernetes/client";
import { type Cluster, refusesClusters } from "../../kubernetes/clusters";
import { askServer } from "../../kubernetes/exec";
import { cnpg, objectNames } from "../../kubernetes/names";
import type { Finding } from "./doctor";
import { clientOf, clusterStates, stackClusters } from "./kubernetes";
import { CommandError } from "./pulumi";
import type { StackConfig, StackOutputs } from "./stack";
import { firstOf } from "./terminal";
import { bytes } from "./units";

/** How many tenants are examined at a time. */
const atOnce = 16;
/** Percent of its volume from which a tenant is worth a note, and from which it is a problem: a full one stops its server. */
const [nearlyFull, full] = [80, 95];
/** Bytes of write-ahead log that a replica may be behind. */
const mostBehind = 256 * 2 ** 20;

/** What is examined of a stack on a cluster beside its logins. */
export interface ClusterExamined {
  findings: Finding[];
  /** By tenant id, as `./pgs list` shows them. */
  states: Map<string, { state: string; servers: { ready: number; wanted: number } }>;
}

/** @throws CommandError when the cluster does not answer */
export async function examineCluster(config: StackConfig, outputs: StackOutputs): Promise<ClusterExamined> {
  const client = await clientOf(config);
  const [clusterOf, ...findings] = await Promise.all([
    stackClusters(config),
    engineFinding(client),
    operatorFinding(client),
    webhookFinding(client),
    storageFinding(client, config.kubernetes?.storageClass),
    proxyFinding(client, objectNames(config.prefix).proxy),
  ]);
  const running = Object.keys(outputs.tenants).filter((id) => outputs.tenants[id]?.state === "running");
  const tenants = await forEach(running, atOnce, async (id) => {
    const cluster = clusterOf(id);
    return Promise.all([
      replicationFinding(client, id, outputs, cluster),
      failoverFindings(client, id, cluster),
      volumeFinding(client, id, outputs, cluster),
    ]);
  });
  return { states: clusterStates(outputs, clusterOf), findings: [...findings, ...summed(tenants.flat(2))] };
}

async function engineFinding({ config, version }: KubernetesClient): Promise<Finding> {
  const check = "engine";
  const { name, server } = config.getCurrentCluster() ?? {};
  try {
    const { gitVersion } = await version.getCode();
    return { check, level: "good", message: `Kubernetes ${gitVersion}, the cluster ${name} at ${server}` };
  } catch (error) {
    throw new CommandError(`the cluster ${name} at ${server} does not answer: ${readable(error).message}`);
  }
}

/** A finding of what this user may not look at says so. */
async function looked(check: Finding["check"], look: () => Promise<Finding>): Promise<Finding> {
  try {
    return await look();
  } catch (error) {
    return { check, level: "note", message: `not looked at: ${readable(error).message}` };
  }
}

function operatorFinding({ apps }: KubernetesClient): Promise<Finding> {
  const check = "operator";
  return looked(check, async () => {
    const labelSelector = "app.kubernetes.io/name=cloudnative-pg";
    const { items } = await apps.listDeploymentForAllNamespaces({ labelSelector });
    const ready = items.find(({ status }) => (status?.readyReplicas ?? 0) > 0) ?? items[0];
    const name = ready && `${ready.metadata?.namespace}/${ready.metadata?.name}`;
    if (ready?.status?.readyReplicas) {
      const image = ready.spec?.template.spec?.containers[0]?.image ?? "";
      return { check, level: "good", message: `${name} runs ${image.split("/").at(-1)}` };
    }
    return {
      check,
      level: "problem",
      message: name
        ? `no pod of ${name} is ready, so that no replica takes over and no change is made`
        : "CloudNativePG's operator is not there",
      advice: name
        ? `kubectl --namespace ${ready?.metadata?.namespace} describe pods says why`
        : "install it, or have the stack do so by pgs:kubernetes.operatorManifest (docs/kubernetes.md)",
    };
  });
}

async function webhookFinding(client: KubernetesClient): Promise<Finding> {
  const check = "webhooks";
  const refusal = await refusesClusters(client);
  if (refusal === undefined) return { check, level: "good", message: "CloudNativePG takes Clusters" };
  return {
    check,
    level: "problem",
    message: `CloudNativePG does not take Clusters: ${refusal}`,
    advice: "look at the operator's log; ./pgs up waits until it does",
  };
}

function storageFinding({ storage }: KubernetesClient, wanted: string | undefined): Promise<Finding> {
  const check = "storage";
  return looked(check, async () => {
    const { items } = await storage.listStorageClass();
    const isDefault = "storageclass.kubernetes.io/is-default-class";
    const found = items.find(({ metadata }) =>
      wanted === undefined ? metadata?.annotations?.[isDefault] === "true" : metadata?.name === wanted,
    );
    const name = found?.metadata?.name;
    if (!found) {
      return {
        check,
        level: "problem",
        message: wanted
          ? `there is no StorageClass ${wanted}`
          : "there is no default StorageClass, so that a new tenant gets no volume",
        advice: `name one by pgs:kubernetes.storageClass; there are ${firstOf(items.map(({ metadata }) => metadata?.name ?? "")) || "none"}`,
      };
    }
    if (!found.allowVolumeExpansion) {
      return {
        check,
        level: "note",
        message: `volumes of the StorageClass ${name} cannot grow`,
        advice: "set allowVolumeExpansion where its provisioner can do so; until then, disk cannot change",
      };
    }
    return { check, level: "good", message: `the StorageClass ${name}, whose volumes can grow` };
  });
}

function proxyFinding({ apps }: KubernetesClient, namespace: string): Promise<Finding> {
  const check = "proxy";
  return looked(check, async () => {
    const { spec, status } = await apps.readNamespacedDeployment({ namespace, name: "traefik" });
    const [ready, wanted] = [status?.readyReplicas ?? 0, spec?.replicas ?? 0];
    if (ready >= wanted) return { check, level: "good", message: `${ready} of ${wanted} pods are ready` };
    return {
      check,
      level: "problem",
      message: `${ready} of ${wanted} pods are ready`,
      advice: `kubectl --namespace ${namespace} describe pods says why`,
    };
  });
}

/** Whether each replica streams, and how far it is. */
async function replicationFinding(
  client: KubernetesClient,
  id: string,
  { tenants }: StackOutputs,
  cluster: Cluster | undefined,
): Promise<Finding[]> {
  const check = "replication";
  const { replicas = 0, version = 0 } = tenants[id] ?? {};
  const primary = cluster?.status?.currentPrimary;
  // Of a server that is down, that is the finding.
  if (replicas === 0 || !primary) return [];
  const pod = { namespace: cluster.metadata.namespace, name: primary };
  const sql = `SELECT count(*), coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint
    FROM pg_stat_replication WHERE state = 'streaming' AND application_name LIKE ${`'${id}-%'`}`;
  try {
    const { stdout } = await askServer(client, pod, { version, kind: "read", sql, seconds: 5 });
    const [streaming = 0, behind = 0] = stdout.trim().split("|").map(Number);
    const figures = `${streaming} of ${replicas} replicas receive what is written, ${bytes(behind)} behind at most`;
    if (streaming >= replicas && behind <= mostBehind)
      return [{ check, level: "good", tenant: id, message: figures }];
    const advice = `kubectl --namespace ${pod.namespace} describe pods says why; ./pgs list ${id}`;
    return [{ check, level: "problem", tenant: id, message: figures, advice }];
  } catch (error) {
    return [{ check, level: "note", tenant: id, message: `not asked: ${(error as Error).message}` }];
  }
}

/** Reasons of CloudNativePG's events about a Cluster whose primary changes. */
const takeovers = ["FailingOver", "FailoverTarget", "SwitchingOver"];

/** Events, which a cluster keeps for an hour as a rule, and how many primaries there have been. */
async function failoverFindings(
  { core }: KubernetesClient,
  id: string,
  cluster: Cluster | undefined,
): Promise<Finding[]> {
  const check = "failover";
  if (!cluster) return [];
  const { namespace } = cluster.metadata;
  const { currentPrimary, currentPrimaryTimestamp: since, timelineID = 1 } = cluster.status ?? {};
  const fieldSelector = `involvedObject.kind=Cluster,involvedObject.name=${id}`;
  const { items } = await core.listNamespacedEvent({ namespace, fieldSelector }).catch(() => ({ items: [] }));
  const events = items
    .filter(({ reason }) => takeovers.includes(reason ?? ""))
    .map(({ lastTimestamp, eventTime, message }) => ({ at: lastTimestamp ?? eventTime, message }))
    .sort((one, other) => Number(one.at ?? 0) - Number(other.at ?? 0));
  const last = events.at(-1);
  if (last) {
    const when = last.at && new Date(last.at).toISOString().slice(0, 19).replace("T", " ");
    const message = `${last.message} (${when} UTC)${events.length > 1 ? `, the last of ${events.length} events` : ""}`;
    return [{ check, level: "note", tenant: id, message }];
  }
  const message = `${currentPrimary} is the primary since ${since?.slice(0, 19).replace("T", " ")}, timeline ${timelineID}`;
  return [{ check, level: "good", tenant: id, message }];
}

/** By what its databases and its write-ahead log take of its volumes. */
async function volumeFinding(
  client: KubernetesClient,
  id: string,
  { tenants }: StackOutputs,
  cluster: Cluster | undefined,
): Promise<Finding[]> {
  const check = "disk";
  const primary = cluster?.status?.currentPrimary;
  const { disk, version = 0 } = tenants[id] ?? {};
  if (!primary || !disk) return [];
  const { namespace } = cluster.metadata;
  const finding = (level: Finding["level"], message: string, advice?: string): Finding[] => [
    { check, level, tenant: id, message, ...(advice && { advice }) },
  ];
  try {
    const labelSelector = `${cnpg.cluster}=${id}`;
    const { items } = await client.core.listNamespacedPersistentVolumeClaim({ namespace, labelSelector });
    const unbound = items.find(({ status }) => status?.phase !== "Bound");
    if (unbound) {
      const name = unbound.metadata?.name;
      const advice = `kubectl --namespace ${namespace} describe pvc ${name} says why`;
      return finding("problem", `its volume ${name} is ${unbound.status?.phase}`, advice);
    }
    const sql = `SELECT (SELECT sum(pg_database_size(oid)) FROM pg_database) + coalesce(sum(size), 0) FROM pg_ls_waldir()`;
    const pod = { namespace, name: primary };
    const { stdout } = await askServer(client, pod, { version, kind: "read", sql, seconds: 10 });
    const used = Number(stdout.trim());
    const share = Math.round((used / disk) * 100);
    const figures = `${bytes(used)} of ${bytes(disk)}, ${share} %`;
    const advice = `./pgs set ${id} disk …, or delete and VACUUM`;
    if (share >= full) return finding("problem", `its volume is nearly full: ${figures}`, advice);
    if (share >= nearlyFull) return finding("note", `it uses ${figures}, of its volume`, advice);
    return finding("good", figures);
  } catch (error) {
    return finding("note", `not asked: ${(error as Error).message}`);
  }
}

/** One finding for all tenants that are well, and one for each that is not. */
function summed(findings: Finding[]): Finding[] {
  const checks = [...new Set(findings.map(({ check }) => check))];
  return checks.flatMap((check) => {
    const own = findings.filter((one) => one.check === check);
    const good = own.filter(({ level }) => level === "good");
    const others = own.filter(({ level }) => level !== "good");
    if (good.length === 0) return others;
    const message = firstOf(good.map(({ tenant, message }) => `${tenant}: ${message}`));
    return [{ check, level: "good" as const, message }, ...others];
  });
}
