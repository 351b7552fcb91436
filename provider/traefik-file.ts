import { posix } from "node:path";
import { askedOnce, networksByName } from "../docker/cache";
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
  /** `network:NAME` in it stands for the IPv4 subnet of that network. */
  content: string;
  /** User and group id; it alone reads the file. Default: root. */
  owner?: number;
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
    if (content === undefined) return undefined;
    return content === (await resolved(state)) ? state : { ...state, content };
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
  const content = await resolved(file);
  if (content === undefined) throw new Error(`${file.path} names a network that is not there`);
  await changes.replaceFile(container, file.path, content, { mode, owner: file.owner });
}

/** Its content as it is written; undefined where a network that it names is not there. */
export async function resolved({ host, content }: TraefikFileInputs): Promise<string | undefined> {
  const names = [...content.matchAll(networkName)].map(([, name]) => name as string);
  if (names.length === 0) return content;
  const networks = await networksByName(host);
  const subnets = new Map(names.map((name) => [name, networks.get(name)?.IPAM?.Config?.[0]?.Subnet]));
  if ([...subnets.values()].includes(undefined)) return undefined;
  return content.replace(networkName, (_, name) => subnets.get(name) as string);
}

const networkName = /\bnetwork:([a-z][a-z0-9-]*)/g;

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
    `the container ${container} is not running: run \`pulumi up\`, which makes it anew ` +
      `or starts it; if it stops again, \`docker logs ${container}\` says why`,
  );
}
