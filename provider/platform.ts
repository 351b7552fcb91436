import { type ClusterAddress, kubernetesClient } from "../kubernetes/client";
import type { ResourceType } from "./resource-type";

/** Where a stack's tenants are. Their data does not move with an edit: another place is refused before anything changes. */
export interface PlatformInputs extends ClusterAddress {
  platform: "docker" | "kubernetes";
  /** On a cluster: names of the stack's namespaces start with it. */
  prefix?: string;
}

interface PlatformState extends PlatformInputs {
  /** Of a cluster, what no other one has. */
  cluster?: string;
}

export const Platform: ResourceType<PlatformInputs, PlatformState> = {
  updatable: ["kubeconfig", "context"],
  replacing: [],

  async refusal(before, after) {
    const { platform, prefix } = before;
    if (platform !== after.platform) {
      return `pgs:platform: this stack's tenants have their data on ${platform}, and an edit does not move it: write ${platform} again; for ${after.platform}, make another stack and load dumps there`;
    }
    if (prefix !== after.prefix) {
      return `pgs:prefix: the namespaces of this stack's tenants start with ${prefix}, and an edit does not move them: write ${prefix} again`;
    }
    return otherCluster(before, await clusterOf(after));
  },

  async create(inputs) {
    return { id: inputs.platform, state: await found(inputs) };
  },

  async read(_id, state) {
    const problem = otherCluster(state, await clusterOf(state));
    if (problem) throw new Error(problem);
    return state;
  },

  async update(_id, _state, inputs) {
    return found(inputs);
  },

  async delete() {
    // The tenants' resources have gone before it.
  },
};

async function found(inputs: PlatformInputs): Promise<PlatformState> {
  return { ...inputs, cluster: await clusterOf(inputs) };
}

async function clusterOf({ platform, kubeconfig, context }: PlatformInputs): Promise<string | undefined> {
  if (platform !== "kubernetes") return undefined;
  const { core } = await kubernetesClient({ kubeconfig, context });
  return (await core.readNamespace({ name: "kube-system" })).metadata?.uid;
}

function otherCluster({ cluster }: PlatformState, present: string | undefined): string | undefined {
  if (cluster === present) return undefined;
  return "pgs:kubernetes: this is another cluster than the one that this stack's tenants are on: name that one again by kubeconfig and context; for the other, make another stack";
}
