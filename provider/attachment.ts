import type Docker from "dockerode";
import { engine, ifPresent } from "./engine";
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
    await attach(engine(inputs.host), inputs.container, inputs.network);
    return { id: `${inputs.network}:proxy`, state: inputs };
  },

  async read(_id, state) {
    return (await isAttached(engine(state.host), state.container, state.network)) ? state : undefined;
  },

  async update(_id, _state, inputs) {
    await attach(engine(inputs.host), inputs.container, inputs.network);
    return inputs;
  },

  async delete() {
    // It goes with the container.
  },
};

/** Whether the container is in the network of this name as it is now: one made anew is another network. */
export async function isAttached(docker: Docker, container: string, network: string): Promise<boolean> {
  const info = await ifPresent(docker.getNetwork(network).inspect());
  const inspected = await ifPresent(docker.getContainer(container).inspect());
  if (!info || !inspected) return false;
  return inspected.NetworkSettings.Networks[network]?.NetworkID === info.Id;
}

export async function attach(docker: Docker, container: string, network: string): Promise<void> {
  if (await isAttached(docker, container, network)) return;
  await docker.getNetwork(network).connect({ Container: container });
}
