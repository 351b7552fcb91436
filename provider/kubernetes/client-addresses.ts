import { setTimeout as delay } from "node:timers/promises";
import { type ClusterAddress, type KubernetesClient, kubernetesClient } from "../../kubernetes/client";
import { cnpg, poolerName } from "../../kubernetes/names";
import { excluded } from "../../tenants/addresses";
import { IncompleteError, type ResourceType } from "../resource-type";
import { endClientSessions } from "./cluster-rollout";

/**
 * Where a tenant's clients may come from. Its route says so, which comes before: sessions from elsewhere end here. A server
 * sees the proxy's address alone, so all of the tenant's sessions end.
 */
export interface ClientAddressesInputs extends ClusterAddress {
  namespace: string;
  cluster: string;
  /** PostgreSQL's major version. */
  version: number;
  /** Addresses and ranges; undefined: any. */
  allow?: string[];
}

/** Until each proxy has the new route. */
const rounds = 3;
const pause = 700;

export const ClientAddresses: ResourceType<ClientAddressesInputs> = {
  updatable: ["kubeconfig", "context", "version", "allow"],
  replacing: ["namespace", "cluster"],

  planWarnings(before, after) {
    if (excluded(before.allow, after.allow).length === 0) return [];
    return [`all open sessions of ${after.namespace} are ended: fewer addresses than before may connect`];
  },

  async create(inputs) {
    return { id: inputs.namespace, state: inputs };
  },

  async read(_id, state) {
    return state;
  },

  async update(id, state, inputs) {
    if (excluded(state.allow, inputs.allow).length === 0) return inputs;
    try {
      const client = await kubernetesClient(inputs);
      for (let round = 0; round < rounds; round++) {
        await delay(pause);
        await endClientSessions(client, inputs);
      }
      await endPooledSessions(client, inputs);
      return inputs;
    } catch (error) {
      throw new IncompleteError(id, { ...inputs, allow: state.allow }, error as Error);
    }
  },

  async delete() {
    // Of a tenant that is closed, the rollout has ended all sessions.
  },
};

/** A pooler keeps its clients when their sessions in the server end: another one takes its place. */
async function endPooledSessions(
  { core }: KubernetesClient,
  { namespace, cluster }: ClientAddressesInputs,
): Promise<void> {
  const labelSelector = `${cnpg.pooler}=${poolerName(cluster)}`;
  await core.deleteCollectionNamespacedPod({ namespace, labelSelector, gracePeriodSeconds: 1 });
}
