import { posix } from "node:path";
import { askedOnce } from "../docker/cache";
import { dockerClient, ifPresent } from "../docker/client";
import * as changes from "../docker/file-changes";
import { getFolder } from "../docker/files";
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
}

export const TraefikFile: ResourceType<TraefikFileInputs> = {
  // The file is in the proxy's volume, which keeps its name: another name of the container is no other file.
  updatable: ["container", "content"],
  replacing: ["host", "path"],

  async create(inputs) {
    await writeFile(inputs);
    return { id: `${inputs.container}:${inputs.path}`, state: inputs };
  },

  async read(_id, state) {
    const content = await readFile(state);
    return content === undefined ? undefined : { ...state, content };
  },

  async update(_id, _state, inputs) {
    await writeFile(inputs);
    return inputs;
  },

  async delete(_id, state) {
    await removeFile(state);
  },
};

/**
 * Its content; undefined when it, or the proxy's container, is not there.
 * @param mode one with other permissions is taken for none
 */
export async function readFile(file: TraefikFileInputs, mode?: number): Promise<string | undefined> {
  const folder = posix.dirname(file.path);
  const files = await askedOnce(`files ${file.host} ${file.container} ${folder}`, () =>
    getFolder(containerOf(file), folder),
  );
  const found = files?.get(posix.basename(file.path));
  return mode === undefined || found?.mode === mode ? found?.content : undefined;
}

/** Traefik never reads half of it. @param mode by default root alone reads it */
export async function writeFile(file: TraefikFileInputs, mode?: number): Promise<void> {
  const container = containerOf(file);
  const info = await ifPresent(container.inspect());
  if (!info?.State.Running) throw notRunning(file);
  await changes.replaceFile(container, file.path, file.content, mode);
}

/** One that is gone already is no error. */
export async function removeFile(file: TraefikFileInputs): Promise<void> {
  const container = containerOf(file);
  // Without its container, or while that is stopped, nobody reads the file, and a proxy that comes back on this
  // volume finds in it at worst a route to a server that is gone.
  const info = await ifPresent(container.inspect());
  if (!info?.State.Running) return;
  await changes.removeFile(container, file.path);
}

function containerOf({ host, container }: TraefikFileInputs) {
  return dockerClient(host).getContainer(container);
}

function notRunning({ container }: TraefikFileInputs): Error {
  return new Error(
    `the proxy's container ${container} is not running: run \`pulumi up\`, which makes it anew ` +
      `or starts it; if it stops again, \`docker logs ${container}\` says why`,
  );
}
