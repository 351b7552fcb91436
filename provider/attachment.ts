import type Docker from "dockerode";
import { askedOnce, engine, ifPresent, networkIds } from "./engine";
import type { ResourceType } from "./resource-type";

/** A running container's place in a network: made again when somebody took it out. */
export interface AttachmentInputs {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  /** Id of the container. */
  container: string;
  /** Name of the network. */
  network: string;
}

export const Attachment: ResourceType<AttachmentInputs> = {
  updatable: ["container"],
  replacing: ["host", "network"],

  async create(inputs) {
    await attach(inputs.host, inputs.container, inputs.network);
    return { id: `${inputs.network}:proxy`, state: inputs };
  },

  async read(_id, state) {
    const info = await ifPresent(engine(state.host).getContainer(state.container).inspect());
    return info && (await isAttached(state.host, info, state.network)) ? state : undefined;
  },

  async update(_id, _state, inputs) {
    await attach(inputs.host, inputs.container, inputs.network);
    return inputs;
  },

  async delete() {
    // It goes with the container.
  },
};

/** Whether a container is in the network of this name as it is now: one made anew is another network. */
export async function isAttached(
  host: string | undefined,
  container: Docker.ContainerInspectInfo,
  network: string,
): Promise<boolean> {
  const ids = await askedOnce(`networks ${host}`, () => networkIds(engine(host)));
  const id = ids.get(network);
  return id !== undefined && container.NetworkSettings.Networks[network]?.NetworkID === id;
}

export async function attach(host: string | undefined, container: string, network: string): Promise<void> {
  const info = await engine(host).getContainer(container).inspect();
  if (await isAttached(host, info, network)) return;
  await engine(host).getNetwork(network).connect({ Container: container });
}
