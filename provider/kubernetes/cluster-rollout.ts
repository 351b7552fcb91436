import { setTimeout as delay } from "node:timers/promises";
import {
  type ClusterAddress,
  ifPresent,
  type KubernetesClient,
  kubernetesClient,
  type Pod,
} from "../../kubernetes/client";
import { bytesOf, healthy, hibernate, instancePods, readCluster } from "../../kubernetes/clusters";
import { askServer, serverContainer } from "../../kubernetes/exec";
import { cnpg, poolerName } from "../../kubernetes/names";
import { IncompleteError, type ResourceType } from "../resource-type";
import { literal } from "../server/session";
import { renameRestoredDatabase, whyRecoveryFails } from "./restored-database";

/**
 * What follows a change of a Cluster: the operator has brought all its servers to what is asked for, and where access is
 * closed no session is left.
 */
export interface ClusterRolloutInputs extends ClusterAddress {
  namespace: string;
  cluster: string;
  /** The Cluster's: another one after each change of it. */
  generation: number;
  /** `running`, `stopped`, or `incomplete`: what no `up` has brought about yet. */
  state: string;
  /** PostgreSQL's major version. */
  version: number;
  /** Servers, the primary among them. */
  instances: number;
  image: string;
  /** As Kubernetes writes them. */
  limits: { memory: string; cpu: string };
  /** PostgreSQL's, by when a change of them counts. */
  settings: { live: Record<string, string>; restart: Record<string, string> };
  /** Whether a commit waits for a replica. */
  sync: boolean;
  /** Bytes of each server's volume. */
  disk: number;
  /** The line of pg_hba.conf that keeps clients out; without one, they may come in. */
  closed?: string;
  /** Whose backups the data was made from, if from any. */
  restoredFrom?: string;
  /** What removing the tenant does to its data. */
  onRemove: "retain" | "delete";
  /** Its Pooler; undefined without one. */
  pooler?: { generation: number; image: string };
}

/** Of an `up`. A new replica copies all data. */
const seconds = 900;

/** Data that is restored comes from far away. */
const secondsToRestore = 4 * 3600;

/** In which servers end, in seconds. */
const secondsToEnd = 180;
const pause = 400;

export const ClusterRollout: ResourceType<ClusterRolloutInputs> = {
  updatable: [
    "kubeconfig",
    "context",
    "generation",
    "state",
    "instances",
    "image",
    "limits",
    "settings",
    "sync",
    "disk",
    "closed",
    "restoredFrom",
    "onRemove",
    "pooler",
  ],
  replacing: ["namespace", "cluster"],

  planWarnings(before, after) {
    if (before.state !== "running" || after.state !== "running") return [];
    const changed = (one: object, other: object) =>
      Object.keys({ ...one, ...other }).filter(
        (key) => one[key as keyof typeof one] !== other[key as keyof typeof other],
      );
    const reasons = [
      ...changed({ image: before.image }, { image: after.image }),
      ...changed(before.limits, after.limits).map((name) => (name === "cpu" ? "cpus" : name)),
      ...changed(before.settings.restart, after.settings.restart),
    ];
    const ends = before.pooler && (after.pooler === undefined || before.pooler.image !== after.pooler.image);
    return [
      ...(reasons.length > 0 ? [`${after.namespace} is restarted once: ${reasons.join(", ")}`] : []),
      ...(ends ? [`open sessions of the pooler of ${after.namespace} are ended`] : []),
    ];
  },

  async create(inputs) {
    const id = `${inputs.namespace}/${inputs.cluster}`;
    await rolledOut(id, inputs, "incomplete");
    return { id, state: inputs };
  },

  async read(_id, state) {
    return state;
  },

  async update(id, before, inputs) {
    const incomplete = before.state === "incomplete";
    // A restore that was begun is brought to its end, also by an entry that does not name it any more.
    const restoredFrom = inputs.restoredFrom ?? (incomplete ? before.restoredFrom : undefined);
    await rolledOut(id, { ...inputs, restoredFrom }, incomplete ? "incomplete" : inputs.state);
    return inputs;
  },

  /** The Cluster outlives it. While the bucket's credentials are there, its last WAL gets to the bucket. */
  async delete(_id, { kubeconfig, context, namespace, cluster, onRemove }) {
    if (onRemove === "delete") return;
    await hibernate(await kubernetesClient({ kubeconfig, context }), namespace, cluster, secondsToEnd);
  },
};

/**
 * @param failed the state of one that does not get there
 * @throws IncompleteError when it takes too long: the next `up` goes on
 */
async function rolledOut(id: string, inputs: ClusterRolloutInputs, failed: string): Promise<void> {
  const client = await kubernetesClient(inputs);
  const isNew = failed === "incomplete";
  const limit = isNew && inputs.restoredFrom ? secondsToRestore : seconds;
  const deadline = Date.now() + limit * 1000;
  try {
    for (;;) {
      const problem = await whatIsMissing(client, inputs).catch((error: Error) => error.message);
      if (problem === undefined) break;
      const fatal = inputs.restoredFrom && (await whyRecoveryFails(client, inputs.namespace, inputs.cluster));
      if (fatal) throw new Error(`restore of ${inputs.restoredFrom} into ${inputs.namespace}: ${fatal}`);
      if (Date.now() > deadline) {
        throw new Error(`${id} is not ready after ${limit} s: ${problem}; the next up goes on`);
      }
      await delay(pause);
    }
    if (inputs.closed && inputs.state === "running") await endSessions(client, inputs);
    if (isNew && inputs.restoredFrom && inputs.state === "running") {
      await nameDatabase(client, inputs.restoredFrom, inputs);
    }
  } catch (error) {
    // What is not known to be true is asked for again.
    throw new IncompleteError(id, { ...inputs, generation: 0, state: failed }, error as Error);
  }
}

/** Undefined when all is as it should be. */
async function whatIsMissing(
  client: KubernetesClient,
  inputs: ClusterRolloutInputs,
): Promise<string | undefined> {
  const { namespace, cluster: name, instances } = inputs;
  const [cluster, pods] = await Promise.all([
    readCluster(client, namespace, name),
    instancePods(client, namespace, name),
  ]);
  if (!cluster) return "the Cluster is gone";
  if (inputs.state === "stopped") return pods.length > 0 ? "its servers are shutting down" : undefined;
  const {
    phase = "the operator has not seen it yet",
    phaseReason,
    readyInstances,
    ...status
  } = cluster.status ?? {};
  if (phase !== healthy) return [phase, phaseReason, ...pods.map(whyNotReady)].filter(Boolean).join("; ");
  if (pods.length !== instances || readyInstances !== instances) {
    return `${readyInstances} of ${instances} servers are ready`;
  }
  if (status.currentPrimary !== status.targetPrimary)
    return `${status.targetPrimary} is to become the primary`;
  const different = pods.find((pod) => !isReady(pod) || !runsAs(pod, inputs));
  if (different) return `${different.metadata?.name} is not what it should be yet`;
  for (const pod of pods) {
    const names = await notInForce(client, pod, inputs);
    if (names !== "") return `settings that are not in force yet: ${names}`;
  }
  return (
    (await smallVolume(client, inputs)) ??
    (await otherReplication(client, inputs, status.currentPrimary)) ??
    (await otherPooler(client, inputs))
  );
}

/** A PgBouncer that takes no clients yet, or is of another image. Its size and mode are read by itself. */
async function otherPooler(
  { apps, core }: KubernetesClient,
  { namespace, cluster, pooler }: ClusterRolloutInputs,
): Promise<string | undefined> {
  if (!pooler) return undefined;
  const name = poolerName(cluster);
  const deployment = await ifPresent(apps.readNamespacedDeployment({ namespace, name }));
  const { metadata, spec, status } = deployment ?? {};
  const container = spec?.template.spec?.containers.find((one) => one.name === "pgbouncer");
  const { updatedReplicas, readyReplicas, replicas } = status ?? {};
  const asked = container?.image === pooler.image && status?.observedGeneration === metadata?.generation;
  if (asked && updatedReplicas === 1 && readyReplicas === 1 && replicas === 1) return undefined;
  const { items } = await core.listNamespacedPod({ namespace, labelSelector: `${cnpg.pooler}=${name}` });
  return [`the pooler ${name} is not ready`, ...items.map(whyNotReady)].filter(Boolean).join("; ");
}

/** A volume that has not grown yet. */
async function smallVolume(
  { core }: KubernetesClient,
  { namespace, cluster, disk }: ClusterRolloutInputs,
): Promise<string | undefined> {
  const labelSelector = `${cnpg.cluster}=${cluster}`;
  const { items } = await core.listNamespacedPersistentVolumeClaim({ namespace, labelSelector });
  const small = items.find(({ status }) => (bytesOf(status?.capacity?.storage ?? "") ?? disk) < disk);
  if (!small) return undefined;
  const { metadata, status } = small;
  const reasons = (status?.conditions ?? []).map(({ message, reason }) => message ?? reason);
  const found = `the volume ${metadata?.name} has ${status?.capacity?.storage}, and grows where its StorageClass has allowVolumeExpansion`;
  return [found, ...reasons].join("; ");
}

/** Whether commits do not wait as they should. */
async function otherReplication(
  client: KubernetesClient,
  { namespace, version, sync }: ClusterRolloutInputs,
  primary = "",
): Promise<string | undefined> {
  const sql = `SELECT current_setting('synchronous_standby_names') <> '',
    (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))`;
  const pod = { namespace, name: primary };
  const [waits, replicas] = (await askServer(client, pod, { version, kind: "read", sql })).stdout
    .trim()
    .split("|");
  if (!sync) return waits === "t" ? "commits still wait for a replica" : undefined;
  return waits === "t" && Number(replicas) > 0 ? undefined : "commits do not wait for a replica yet";
}

function isReady({ status, metadata }: Pod): boolean {
  const ready = status?.conditions?.find(({ type }) => type === "Ready");
  return metadata?.deletionTimestamp === undefined && ready?.status === "True";
}

function whyNotReady(pod: Pod): string | undefined {
  const [waiting] = (pod.status?.containerStatuses ?? []).flatMap(({ state }) => state?.waiting ?? []);
  const unscheduled = pod.status?.conditions?.find(
    ({ type, status }) => type === "PodScheduled" && status === "False",
  );
  const reason = waiting?.message ?? waiting?.reason ?? unscheduled?.message;
  return reason && `${pod.metadata?.name}: ${reason}`;
}

function runsAs(pod: Pod, { image, limits }: ClusterRolloutInputs): boolean {
  const server = pod.spec?.containers.find(({ name }) => name === serverContainer);
  const { memory, cpu } = server?.resources?.limits ?? {};
  return server?.image === image && memory === limits.memory && cpu === limits.cpu;
}

/** Names of settings, and `pg_hba.conf`. A tenant may have set others of them by itself. */
async function notInForce(
  client: KubernetesClient,
  pod: Pod,
  { settings, closed, version, namespace }: ClusterRolloutInputs,
): Promise<string> {
  const wanted = Object.entries({ ...settings.live, ...settings.restart });
  const rows = wanted.map((pair) => `(${pair.map(literal).join(", ")})`).join(", ");
  const sql = `SELECT pg_catalog.string_agg(name, ', ') FROM (
    SELECT name FROM (VALUES ${rows}) AS wanted (name, value) WHERE NOT EXISTS (
      SELECT FROM pg_catalog.pg_file_settings AS f
      WHERE pg_catalog.lower(f.name) = pg_catalog.lower(wanted.name) AND f.setting = value AND f.applied)
    UNION ALL SELECT 'pg_hba.conf' WHERE ${closed ? "NOT" : ""} EXISTS (
      SELECT FROM pg_catalog.pg_hba_file_rules WHERE auth_method = 'reject' AND address = 'all'
      AND 'all' = ANY (user_name) AND 'all' = ANY (database))
  ) AS missing`;
  const target = { namespace, name: pod.metadata?.name ?? "" };
  return (await askServer(client, target, { version, kind: "read", sql })).stdout.trim();
}

async function nameDatabase(
  client: KubernetesClient,
  from: string,
  { namespace, cluster: to, version }: ClusterRolloutInputs,
): Promise<void> {
  const { currentPrimary = "" } = (await readCluster(client, namespace, to))?.status ?? {};
  await renameRestoredDatabase(client, { namespace, name: currentPrimary }, { version, from, to });
}

/**
 * By then no new one can begin: the line in pg_hba.conf counts once it is reloaded. Those of the operator and of replicas
 * are by other ways.
 */
async function endSessions(client: KubernetesClient, inputs: ClusterRolloutInputs): Promise<void> {
  const deadline = Date.now() + 30_000;
  do {
    await delay(pause);
    if (Date.now() > deadline) throw new Error(`${inputs.namespace}: its sessions do not end`);
  } while ((await endClientSessions(client, inputs)) > 0);
}

/** By which CloudNativePG's PgBouncer asks who may log in, also where clients may not come in. It is no client's. */
const poolerRole = "cnpg_pooler_pgbouncer";

/** Of a Cluster's servers. @returns how many there were */
export async function endClientSessions(
  client: KubernetesClient,
  { namespace, cluster, version }: Pick<ClusterRolloutInputs, "namespace" | "cluster" | "version">,
): Promise<number> {
  const sql = `SELECT pg_catalog.pg_reload_conf() \\g /dev/null
    SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
    WHERE backend_type = 'client backend' AND client_addr IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()
    AND usename IS DISTINCT FROM '${poolerRole}'`;
  const pods = await instancePods(client, namespace, cluster);
  const ended = await Promise.all(
    pods.map(async ({ metadata }) => {
      const pod = { namespace, name: metadata?.name ?? "" };
      return Number((await askServer(client, pod, { version, kind: "change", sql })).stdout);
    }),
  );
  return ended.reduce((sum, one) => sum + one, 0);
}
