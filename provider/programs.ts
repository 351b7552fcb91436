import { buffer } from "node:stream/consumers";
import * as tar from "tar-stream";
import { dockerClient, ifPresent } from "../docker/client";
import { stackLabel } from "../docker/labels";
import { takenName } from "./container/ownership";
import type { ResourceType } from "./resource-type";

/** The volume with the programs that containers of the stack start with. They mount it read-only. */
export interface ProgramsInputs {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  stack: string;
  /** Name of the volume. It stays what it was when the volume was made. */
  volume: string;
  /** Some image that is on the Docker host: nothing of it runs. */
  image: string;
  /** Contents by file name. */
  files: Record<string, string>;
}

export const Programs: ResourceType<ProgramsInputs> = {
  updatable: ["files"],
  replacing: ["host"],

  async check({ host, stack, volume }, before) {
    const name = before.volume ?? volume;
    const reason = name === undefined ? undefined : await volumeProblem(host, name, stack);
    return reason ? [{ property: "volume", reason }] : [];
  },

  async create(inputs) {
    await write(inputs);
    return { id: inputs.volume, state: inputs };
  },

  async read(_id, state) {
    const volume = dockerClient(state.host).getVolume(state.volume);
    return (await ifPresent(volume.inspect())) ? state : undefined;
  },

  async update(_id, { volume }, inputs) {
    const state = { ...inputs, volume };
    await write(state);
    return state;
  },

  async delete(_id, { host, stack, volume: name }) {
    const volume = dockerClient(host).getVolume(name);
    const info = await ifPresent(volume.inspect());
    if (info?.Labels?.[stackLabel] === stack) await ifPresent(volume.remove());
  },
};

/** By the engine's archive API, into a container that is never started: the Docker host may be remote. */
async function write({ host, stack, volume, image, files }: ProgramsInputs): Promise<void> {
  const docker = dockerClient(host);
  const labels = { [stackLabel]: stack };
  const problem = await volumeProblem(host, volume, stack);
  if (problem) throw new Error(problem);
  // Of one that exists, the engine says that it was made, and changes nothing.
  await docker.createVolume({ Name: volume, Labels: labels });
  const archive = tar.pack();
  for (const [name, content] of Object.entries(files)) archive.entry({ name, mode: 0o555 }, content);
  archive.finalize();
  const container = await docker.createContainer({
    Image: image,
    Labels: labels,
    HostConfig: {
      NetworkMode: "none",
      Mounts: [{ Type: "volume", Source: volume, Target: "/programs" }],
    },
  });
  try {
    await container.putArchive(await buffer(archive), { path: "/programs" });
  } finally {
    await ifPresent(container.remove({ force: true, v: true }));
  }
}

/** Why a volume of this name cannot be this stack's; undefined where nothing is in the way. */
async function volumeProblem(
  host: string | undefined,
  name: string,
  stack: string | undefined,
): Promise<string | undefined> {
  const present = await ifPresent(dockerClient(host).getVolume(name).inspect());
  const owner = present?.Labels?.[stackLabel];
  if (!present || (owner !== undefined && owner === stack)) return undefined;
  return takenName("volume", name, owner);
}
