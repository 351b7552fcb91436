import { setTimeout as delay } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { type ApiServer, apiServerOf } from "../../kubernetes/api-server";
import { type ClusterAddress, ifPresent, kubernetesClient, readable } from "../../kubernetes/client";
import { refusesClusters } from "../../kubernetes/clusters";
import { labels, objectNames } from "../../kubernetes/names";
import type { ResourceType } from "../resource-type";

/** CloudNativePG's operator on a cluster: there and taking Clusters, and the stack's names are its own there. */
export interface KubernetesOperatorInputs extends ClusterAddress {
  /** The stack's id. */
  stack: string;
  /** Names of what the stack has start with it. */
  prefix: string;
  /** Whether the stack installs it. */
  installed: boolean;
}

interface State extends KubernetesOperatorInputs {
  /** As the cluster says. Another one later is drift. */
  apiServer: ApiServer;
}

const seconds = 120;

export const KubernetesOperator: ResourceType<KubernetesOperatorInputs, State> = {
  updatable: ["kubeconfig", "context", "installed"],
  replacing: [],

  async check({ kubeconfig, context, prefix = "", stack, installed }) {
    const client = await kubernetesClient({ kubeconfig, context });
    const name = objectNames(prefix).proxy;
    const namespace = await ifPresent(client.core.readNamespace({ name }));
    const owner = namespace?.metadata?.labels?.[labels.stack];
    if (namespace && owner !== stack) {
      const whose = owner ? `of the stack ${owner}` : "not this stack's";
      return [
        {
          property: "prefix",
          reason: `the namespace ${name} is ${whose}: give this stack names of its own by pgs:prefix`,
        },
      ];
    }
    const refusal = installed === false ? await refusesClusters(client) : undefined;
    return refusal === undefined
      ? []
      : [
          {
            property: "installed",
            reason: `CloudNativePG does not take Clusters here: install it, or have the stack do so by pgs:kubernetes.operatorManifest (${refusal})`,
          },
        ];
  },

  async create(inputs) {
    return { id: inputs.prefix, state: await accepting(inputs) };
  },

  async read(_id, state) {
    return { ...state, apiServer: await apiServer(state) };
  },

  async drift(_id, state) {
    return isDeepStrictEqual(await apiServer(state), state.apiServer) ? [] : ["addresses of the API server"];
  },

  async update(_id, _state, inputs) {
    return accepting(inputs);
  },

  async delete() {
    // Whoever installed it removes it.
  },
};

async function apiServer(address: ClusterAddress): Promise<ApiServer> {
  return apiServerOf(await kubernetesClient(address)).catch((error) => {
    throw readable(error);
  });
}

/** It answers some seconds after its pod is ready. */
async function accepting(inputs: KubernetesOperatorInputs): Promise<State> {
  const client = await kubernetesClient(inputs);
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const refusal = await refusesClusters(client).catch((error) => readable(error).message);
    if (refusal === undefined) return { ...inputs, apiServer: await apiServer(inputs) };
    if (Date.now() > deadline)
      throw new Error(`CloudNativePG takes no Clusters after ${seconds} s: ${refusal}`);
    await delay(500);
  }
}
