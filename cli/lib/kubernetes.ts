import { PassThrough, type Readable } from "node:stream";
import { printable } from "../../docker/exec";
import {
  clientLibrary,
  ifPresent,
  type KubernetesClient,
  kubernetesClient,
  readable,
} from "../../kubernetes/client";
import { type Cluster, healthy, listClusters, readCluster } from "../../kubernetes/clusters";
import { askServer, type PodName, serverContainer } from "../../kubernetes/exec";
import { labels, objectNames } from "../../kubernetes/names";
import type { Ask } from "./ask-server";
import { CommandError } from "./pulumi";
import type { StackConfig, StackOutputs, TenantSummary } from "./stack";
import type { TenantStatus } from "./tenant-status";

/** @throws CommandError that says what is wrong with the kubeconfig */
export async function clientOf({ kubernetes }: Pick<StackConfig, "kubernetes">): Promise<KubernetesClient> {
  return kubernetesClient(kubernetes ?? {}).catch((error: Error) => {
    throw new CommandError(error.message);
  });
}

/** A verb, an API group and a resource. */
type Right = [string, string, string];

/** What an `up` does on the cluster. */
const neededRights: Right[] = [
  ["create", "", "namespaces"],
  ["patch", "", "namespaces"],
  ["create", "", "secrets"],
  ["create", "", "serviceaccounts"],
  ["create", "", "services"],
  ["create", "", "pods/exec"],
  ["create", "apps", "deployments"],
  ["create", "networking.k8s.io", "networkpolicies"],
  ["create", "policy", "poddisruptionbudgets"],
  ["create", "rbac.authorization.k8s.io", "roles"],
  ["create", "rbac.authorization.k8s.io", "rolebindings"],
  ["create", "postgresql.cnpg.io", "clusters"],
  ["list", "postgresql.cnpg.io", "clusters"],
  ["create", "postgresql.cnpg.io", "poolers"],
  ["create", "traefik.io", "ingressroutetcps"],
  ["create", "traefik.io", "middlewaretcps"],
  ["create", "traefik.io", "tlsoptions"],
  ["create", "traefik.io", "tlsstores"],
  ["list", "discovery.k8s.io", "endpointslices"],
];

/** A restore looks into the bucket in a pod, whose program is a ConfigMap. */
const rightsForBucket: Right[] = [
  ["create", "postgresql.cnpg.io", "scheduledbackups"],
  ["create", "", "pods"],
  ["create", "", "configmaps"],
];

const rightsToInstall: Right[] = [
  ["create", "apiextensions.k8s.io", "customresourcedefinitions"],
  ["create", "rbac.authorization.k8s.io", "clusterroles"],
];

/** @throws CommandError when the cluster does not answer, or does not let this user do what an `up` does */
export async function requireCluster(config: Pick<StackConfig, "kubernetes" | "offsite">): Promise<void> {
  const client = await clientOf(config);
  const { operatorManifest, proxyManifest } = config.kubernetes ?? {};
  const rights = [
    ...neededRights,
    ...(config.offsite ? rightsForBucket : []),
    ...(operatorManifest || proxyManifest ? rightsToInstall : []),
  ];
  const answers = await Promise.all(
    rights.map(([verb, group, name]) => {
      const [resource, subresource] = name.split("/");
      const resourceAttributes = { verb, group, resource, subresource };
      return client.authorization.createSelfSubjectAccessReview({ body: { spec: { resourceAttributes } } });
    }),
  ).catch((error) => {
    const { server, name } = client.config.getCurrentCluster() ?? {};
    throw new CommandError(
      `the cluster ${name} at ${server} (context ${client.config.getCurrentContext()}) does not answer: ${readable(error).message}`,
    );
  });
  const lacking = rights.filter((_, index) => !answers[index]?.status?.allowed);
  if (lacking.length === 0) return;
  const list = lacking.map(([verb, group, name]) => `${verb} ${name}${group && `.${group}`}`).join(", ");
  throw new CommandError(
    `the user of the context ${client.config.getCurrentContext()} may not do what an up does: ${list}`,
  );
}

/** A tenant's, by its id. */
export type ClusterOf = (id: string) => Cluster | undefined;

/** The Clusters of a stack. @throws CommandError when the cluster does not answer */
export async function stackClusters(config: StackConfig): Promise<ClusterOf> {
  const clusters = await listClusters(await clientOf(config), labels.version).catch((error: Error) => {
    throw new CommandError(error.message);
  });
  const names = objectNames(config.prefix);
  return (id) =>
    clusters.find(({ metadata }) => metadata.namespace === names.tenant(id) && metadata.name === id);
}

/** What the tenants' Clusters tell of each, by its id: one request, whatever their number. */
export function clusterStates(
  { tenants }: StackOutputs,
  clusterOf: ClusterOf,
): Map<string, Required<Pick<TenantStatus, "state" | "servers">>> {
  return new Map(
    Object.entries(tenants).map(([id, summary]) => {
      const cluster = clusterOf(id);
      const wanted = summary.state === "stopped" ? 0 : 1 + (summary.replicas ?? 0);
      const ready = cluster?.status?.readyInstances ?? 0;
      return [id, { state: clusterState(summary, cluster), servers: { ready, wanted } }];
    }),
  );
}

/** `degraded`: answers, and not all its servers are ready. */
function clusterState({ state }: TenantSummary, cluster: Cluster | undefined): string {
  if (state === "incomplete") return state;
  if (!cluster) return state === "running" ? "missing" : "stopped";
  const { phase, readyInstances = 0 } = cluster.status ?? {};
  if (state === "stopped") return readyInstances === 0 ? "stopped" : "stopping";
  if (phase === healthy) return "running";
  return readyInstances > 0 ? "degraded" : "starting";
}

/** An address where the proxy is reached, as in DOCKER_HOST; undefined where the cluster knows none. */
export async function clusterProxyHost(config: StackConfig): Promise<string | undefined> {
  const client = await clientOf(config);
  const namespace = objectNames(config.prefix).proxy;
  const address = await proxyAddress(client, namespace).catch(() => undefined);
  return address && `tcp://${address.includes(":") ? `[${address}]` : address}`;
}

async function proxyAddress({ core }: KubernetesClient, namespace: string): Promise<string | undefined> {
  const service = await ifPresent(core.readNamespacedService({ namespace, name: "traefik" }));
  const [ingress] = service?.status?.loadBalancer?.ingress ?? [];
  if (service?.spec?.type === "LoadBalancer") return ingress?.ip ?? ingress?.hostname;
  const pods = await ifPresent(core.listNamespacedPod({ namespace, labelSelector: "app=traefik" }));
  return pods?.items.find(({ status }) => status?.phase === "Running")?.status?.hostIP;
}

/** The pod of a tenant's primary. @throws CommandError where no server runs */
export async function primaryOf(
  id: string,
  { state }: Pick<TenantSummary, "state">,
  config: StackConfig,
): Promise<{ client: KubernetesClient; pod: PodName }> {
  const client = await clientOf(config);
  const namespace = objectNames(config.prefix).tenant(id);
  const cluster = await readCluster(client, namespace, id).catch((error: Error) => {
    throw new CommandError(error.message);
  });
  const name = cluster?.status?.currentPrimary;
  if (state !== "running" || !name)
    throw new CommandError(`${id} ${state === "running" ? "has no server: ./pgs up" : "is stopped"}`);
  return { client, pod: { namespace, name } };
}

/** Asks a tenant's primary. @throws CommandError where no server runs */
export async function askPrimary(id: string, tenant: TenantSummary, config: StackConfig): Promise<Ask> {
  const { client, pod } = await primaryOf(id, tenant, config);
  return async ({ version, targets: [target], user, sql, seconds }) => {
    const question = {
      version,
      kind: "read",
      sql,
      seconds,
      ...(target && { target }),
      ...(user && { user }),
    } as const;
    return askServer(client, pod, question).then(
      ({ stdout }) => stdout.trim(),
      (error: Error) => {
        throw new CommandError(printable(error.message, 500));
      },
    );
  };
}

/**
 * What the tenant's primary wrote, as the cluster keeps it.
 * @param options.tail only so many last lines
 * @throws CommandError where no server runs
 */
export async function clusterLog(
  id: string,
  tenant: TenantSummary,
  config: StackConfig,
  { follow = false, tail }: { follow?: boolean; tail?: number },
): Promise<Readable> {
  const { client, pod } = await primaryOf(id, tenant, config);
  const { Log } = await clientLibrary();
  const text = new PassThrough();
  await new Log(client.config)
    .log(pod.namespace, pod.name, serverContainer, text, {
      follow,
      ...(tail !== undefined && { tailLines: tail }),
    })
    .catch((error) => {
      throw new CommandError(readable(error).message);
    });
  return text;
}
