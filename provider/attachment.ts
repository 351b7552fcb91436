import type Docker from "dockerode";
import { networksByName } from "../docker/cache";
import { dockerClient, ensureRunning, ifPresent } from "../docker/client";
import type { ResourceType } from "./resource-type";

/** A container that runs in a network: started again, and put there again, when somebody changed that. */
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
    await bringAbout(inputs);
    return { id: `${inputs.network}:proxy`, state: inputs };
  },

  async read(_id, state) {
    const info = await ifPresent(dockerClient(state.host).getContainer(state.container).inspect());
    const holds = info?.State.Running && (await isAttached(state.host, info, state.network));
    return holds ? state : undefined;
  },

  async update(_id, _state, inputs) {
    await bringAbout(inputs);
    return inputs;
  },

  async delete() {
    // It goes with the container.
  },
};

async function bringAbout({ host, container, network }: AttachmentInputs): Promise<void> {
  const found = dockerClient(host).getContainer(container);
  const info = await found.inspect();
  await attach(host, info, network);
  await ensureRunning(found, info);
}

/** Whether a container is in the network of this name as it is now: one made anew is another network. */
export async function isAttached(
  host: string | undefined,
  container: Docker.ContainerInspectInfo,
  network: string,
): Promise<boolean> {
  const id = (await networksByName(host)).get(network)?.Id;
  return id !== undefined && container.NetworkSettings.Networks[network]?.NetworkID === id;
}

export async function attach(
  host: string | undefined,
  container: Docker.ContainerInspectInfo,
  network: string,
): Promise<void> {
  if (await isAttached(host, container, network)) return;
  await dockerClient(host).getNetwork(network).connect({ Container: container.Id });
}
