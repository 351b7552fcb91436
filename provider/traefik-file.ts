import { posix } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { askedOnce, engine, exec, getFolder, ifPresent, replaceFile } from "./engine";
import type { ResourceType } from "./resource-type";

/** One file of Traefik's dynamic configuration, in the folder that the proxy watches. */
export interface TraefikFileInputs {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  /** Name of the proxy's container. The file itself is in its volume and outlives the container. */
  container: string;
  /** Absolute path in the container, ending in .yml. */
  path: string;
  content: string;
  /** What the operator is told when the file is deleted. */
  farewell?: string;
}

export const TraefikFile: ResourceType<TraefikFileInputs> = {
  updatable: ["content", "farewell"],
  replacing: ["host", "container", "path"],

  async create(inputs) {
    await writeFile(inputs);
    return { id: `${inputs.container}:${inputs.path}`, state: inputs };
  },

  async read(_id, state) {
    const folder = posix.dirname(state.path);
    const files = await askedOnce(`files ${state.host} ${state.container} ${folder}`, () =>
      getFolder(containerOf(state), folder),
    );
    const content = files?.get(posix.basename(state.path));
    return content === undefined ? undefined : { ...state, content };
  },

  async update(id, state, inputs) {
    // Where only the farewell changes, nothing is written: a proxy that is away would end the `up`.
    const holds =
      inputs.content === state.content && (await this.read(id, state))?.content === inputs.content;
    if (!holds) await writeFile(inputs);
    return inputs;
  },

  async delete(_id, state) {
    if (state.farewell) await pulumi.log.info(state.farewell);
    const container = containerOf(state);
    // Without its container, or while that is stopped, nobody reads the file, and a proxy that comes back on this
    // volume finds in it at worst a route to a server that is gone.
    const info = await ifPresent(container.inspect());
    if (!info?.State.Running) return;
    const removed = await exec(container, ["rm", "-f", state.path]);
    if (removed.code !== 0) throw new Error(`cannot remove ${state.path}: ${removed.stderr.trim()}`);
  },
};

export async function writeFile(inputs: TraefikFileInputs): Promise<void> {
  const container = containerOf(inputs);
  const info = await ifPresent(container.inspect());
  if (!info?.State.Running) throw notRunning(inputs);
  await replaceFile(container, inputs.path, inputs.content);
}

function containerOf(inputs: TraefikFileInputs) {
  return engine(inputs.host).getContainer(inputs.container);
}

function notRunning(inputs: TraefikFileInputs): Error {
  return new Error(
    `the proxy's container ${inputs.container} is not running: run \`pulumi up\`, which makes it anew ` +
      `or starts it; if it stops again, \`docker logs ${inputs.container}\` says why`,
  );
}
