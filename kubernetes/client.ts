/** How a cluster is reached, by the same means as kubectl. */
export interface ClusterAddress {
  /** Path of a kubeconfig. Default: KUBECONFIG names it, or it is ~/.kube/config. */
  kubeconfig?: string;
  /** Default: the kubeconfig's current one. */
  context?: string;
}

type Library = Awaited<ReturnType<typeof clientLibrary>>;

export interface KubernetesClient {
  config: InstanceType<Library["KubeConfig"]>;
  core: InstanceType<Library["CoreV1Api"]>;
  objects: InstanceType<Library["CustomObjectsApi"]>;
  authorization: InstanceType<Library["AuthorizationV1Api"]>;
  apps: InstanceType<Library["AppsV1Api"]>;
  discovery: InstanceType<Library["DiscoveryV1Api"]>;
  storage: InstanceType<Library["StorageV1Api"]>;
  version: InstanceType<Library["VersionApi"]>;
}

export type Pod = Awaited<ReturnType<KubernetesClient["core"]["readNamespacedPod"]>>;

/** Large, and slow to load: commands and stacks on Docker do without. */
export async function clientLibrary() {
  return import("@kubernetes/client-node");
}

const clients = new Map<string, Promise<KubernetesClient>>();

/** @throws Error that says what is wrong with the kubeconfig */
export function kubernetesClient(address: ClusterAddress): Promise<KubernetesClient> {
  const key = JSON.stringify([address.kubeconfig, address.context]);
  const client = clients.get(key) ?? connect(address);
  clients.set(key, client);
  return client;
}

async function connect({ kubeconfig, context }: ClusterAddress): Promise<KubernetesClient> {
  const library = await clientLibrary();
  const config = new library.KubeConfig();
  try {
    if (kubeconfig === undefined) config.loadFromDefault();
    else config.loadFromFile(kubeconfig);
  } catch (error) {
    throw new Error(
      `the kubeconfig ${kubeconfig ?? process.env.KUBECONFIG ?? "~/.kube/config"} cannot be read: ${(error as Error).message}`,
    );
  }
  const names = config.getContexts().map(({ name }) => name);
  if (context !== undefined) {
    if (!names.includes(context)) {
      throw new Error(`the kubeconfig has no context ${context}; there are ${names.join(", ") || "none"}`);
    }
    config.setCurrentContext(context);
  }
  if (!config.getCurrentCluster()) {
    throw new Error(
      "no cluster is chosen: name a kubeconfig by pgs:kubernetes.kubeconfig or KUBECONFIG, and a context in it by pgs:kubernetes.context",
    );
  }
  return {
    config,
    core: config.makeApiClient(library.CoreV1Api),
    objects: config.makeApiClient(library.CustomObjectsApi),
    authorization: config.makeApiClient(library.AuthorizationV1Api),
    apps: config.makeApiClient(library.AppsV1Api),
    discovery: config.makeApiClient(library.DiscoveryV1Api),
    storage: config.makeApiClient(library.StorageV1Api),
    version: config.makeApiClient(library.VersionApi),
  };
}

/** Of one request; undefined where there is no such object, or no such kind of objects. */
export async function ifPresent<T>(request: Promise<T>): Promise<T | undefined> {
  try {
    return await request;
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw readable(error);
  }
}

/** The HTTP status that the API server answered with; undefined where there was no answer. */
export function statusOf(error: unknown): number | undefined {
  const { code } = error as { code?: unknown };
  return typeof code === "number" ? code : undefined;
}

/** What the API server says, without the headers that the library shows. */
export function readable(error: unknown): Error {
  const { body, message } = error as { body?: unknown; message?: string };
  const status = typeof body === "string" ? parsed(body) : body;
  const said = (status as { message?: string } | undefined)?.message ?? message ?? String(error);
  const cause = (error as { cause?: Error }).cause?.message;
  return new Error(`the cluster says: ${said}${cause ? ` (${cause})` : ""}`);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
