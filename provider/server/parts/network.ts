import { networksByName, sharedContainer } from "../../../docker/cache";
import { isAttached } from "../../container/reconcile";
import { attachProxy, ensureNetwork, type NetworkOwner, releaseNetwork } from "../../networks";
import type { PostgresServerInputs, PostgresServerState } from "../inputs";
import type { Part } from "../part";

/** The internal network that the server is in, with the proxy attached: no way out, and none to another tenant. */
export const network: Part & {
  /** @returns the engine's id of the network */
  apply(inputs: PostgresServerInputs): Promise<string>;
  remove(owner: NetworkOwner, id: string | undefined, proxy: string | undefined): Promise<void>;
  leave(inputs: PostgresServerInputs, id: string, before: Partial<PostgresServerState>): Promise<void>;
} = {
  name: "network",

  async differs({ host, network: wanted }) {
    if (!(await networksByName(host)).has(wanted.name)) return true;
    const proxy = await sharedContainer(host, wanted.proxy);
    return !proxy || !(await isAttached(host, proxy, wanted.name));
  },

  async apply(inputs) {
    const { name, pool, prefixLength, proxy } = inputs.network;
    const id = await ensureNetwork(inputs, { name, internal: true, pool, prefixLength });
    await attachProxy(inputs.host, id, proxy);
    return id;
  },

  /** When its last server has left. */
  remove: releaseNetwork,

  /** After the server is in another network. */
  async leave(inputs, id, { networkId, network: former }) {
    if (networkId && networkId !== id) await releaseNetwork(inputs, networkId, former?.proxy);
  },
};
