import { networksByName, sharedContainer } from "../../../docker/cache";
import { dockerClient, ifPresent } from "../../../docker/client";
import { stackLabel } from "../../../docker/labels";
import { isAttached } from "../../container/reconcile";
import { attachProxy, ensureNetwork, type NetworkOwner, releaseNetwork } from "../../networks";
import type { PostgresServerInputs, PostgresServerState } from "../inputs";
import type { Part } from "../part";

/** The internal network that the server is in, with the proxy attached: no way out, and none to another tenant. */
export const network: Part & {
  /** @returns the engine's id of the network */
  apply(inputs: PostgresServerInputs): Promise<string>;
  /** The engine's id of the stack's own network of that name. */
  find(inputs: PostgresServerInputs): Promise<string | undefined>;
  remove(owner: NetworkOwner, id: string | undefined, proxy: string | undefined): Promise<void>;
  leave(inputs: PostgresServerInputs, id: string, before: Partial<PostgresServerState>): Promise<string[]>;
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

  async find({ host, stack, network: { name } }) {
    const info = await ifPresent(dockerClient(host).getNetwork(name).inspect());
    return info?.Labels?.[stackLabel] === stack ? info.Id : undefined;
  },

  /** When its last server has left. */
  remove: releaseNetwork,

  /** After the server is in another network. @returns ids of those that it has now */
  async leave(inputs, id, { networkIds = [], network: former }) {
    for (const one of networkIds) if (one !== id) await releaseNetwork(inputs, one, former?.proxy);
    return [id];
  },
};
