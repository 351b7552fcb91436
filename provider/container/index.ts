import { createServer } from "node:net";
import type Docker from "dockerode";
import { containersByName } from "../../docker/cache";
import { dockerClient } from "../../docker/client";
import { hardened, withoutNames } from "../../docker/hardening";
import { stackLabel } from "../../docker/labels";
import {
  attach,
  attachProxy,
  ensureNetwork,
  type NetworkSpec,
  networkNameProblem,
  releaseNetwork,
} from "../networks";
import { IncompleteError, type ResourceType } from "../resource-type";
import { limitsOf, setLimits } from "./limits";
import { isOfStack, nameProblem } from "./ownership";
import {
  type ContainerSpec,
  inspectContainer,
  isAsMade,
  isAttached,
  type Mount,
  reconcileContainer,
  removeContainer,
} from "./reconcile";

/** One container of the stack, whatever runs in it: hardened, labelled, restarted when it ends. */
export interface ContainerInputs {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  name: string;
  /** The stack's id, which it is known by. */
  stack: string;
  /** What it is to the stack, which has no other of it; a label. */
  role: string;
  /** The image's name and tag. */
  image: string;
  imageId: string;
  /** Default: the image's own. */
  entrypoint?: string[];
  /** Arguments; nothing secret. */
  command: string[];
  /** `NAME=VALUE`; nothing secret. */
  env?: string[];
  /** Default: the image's own. */
  user?: string;
  mounts: Mount[];
  /** Networks that are made for it, and go when the last container leaves them. Without one it has no network. */
  networks: NetworkSpec[];
  /** Ports that the Docker host publishes on all its addresses. */
  ports?: { internal: number; external: number }[];
  /** Folders in memory, beside its read-only root. */
  tmpfs?: string[];
  /** Whether it may use the engine that it runs on: it then is as good as root there. */
  engine?: boolean;
  /** Whether it may look up names on the internet. */
  resolvesNames: boolean;
  /** Hard limit in bytes, no swap. */
  memory: number;
  /** Processes and threads. */
  pids: number;
  /** Weight where processors are short; the engine's default is 1024. */
  cpuShares?: number;
  /** Seconds from the stop signal until it is killed. */
  stopSeconds: number;
  /** A digest of its configuration, which is in a volume: after a change, SIGHUP makes the program reload it. */
  configuration?: string;
}

export interface ContainerState extends ContainerInputs {
  containerId: string;
  /** Engine's ids of its networks, in their order. */
  networkIds: string[];
  /** Whether it was as it should be when it was last looked at. */
  running: boolean;
}

export const Container: ResourceType<ContainerInputs, ContainerState> = {
  updatable: [
    "name",
    "image",
    "imageId",
    "entrypoint",
    "command",
    "env",
    "user",
    "mounts",
    "networks",
    "ports",
    "tmpfs",
    "engine",
    "resolvesNames",
    "memory",
    "pids",
    "cpuShares",
    "stopSeconds",
    "configuration",
  ],
  replacing: ["host"],

  async check({ host, name, stack, networks = [], ports = [] }) {
    const taken = name === undefined ? undefined : await nameProblem(host, name, stack);
    if (taken) return [{ property: "name", reason: taken }];
    const foreign = await Promise.all(networks.map((one) => networkNameProblem(host, one.name, stack)));
    if (foreign.some(Boolean)) {
      return foreign.flatMap((reason) => (reason ? [{ property: "networks" as const, reason }] : []));
    }
    const problems = await Promise.all(ports.map(({ external }) => portProblem(host, external, stack)));
    return problems.flatMap((reason) => (reason ? [{ property: "ports" as const, reason }] : []));
  },

  async create(inputs) {
    return { id: inputs.name, state: await reconcile(inputs) };
  },

  async read(_id, state) {
    const info = await inspectContainer(state);
    if (!info || !isOfStack(info, state.stack)) return undefined;
    const spec = specOf(state);
    const { memory, pids } = limitsOf(info);
    const { Running, Paused, Restarting } = info.State;
    return {
      ...state,
      containerId: info.Id,
      memory,
      pids,
      imageId: (await isAsMade(spec, info)) && (await isInAll(state, info)) ? state.imageId : "",
      running: Running && !Paused && !Restarting,
    };
  },

  async drift(id, state) {
    const present = await this.read(id, state);
    if (!present) return undefined;
    const parts = [];
    if (!present.running) parts.push("running");
    if (present.imageId !== state.imageId) parts.push("container");
    if (present.memory !== state.memory || present.pids !== state.pids) parts.push("limits");
    return parts;
  },

  async update(_id, state, inputs) {
    return reconcile(inputs, state);
  },

  async delete(_id, state) {
    await removeContainer(state, state.containerId);
    for (const id of state.networkIds) await releaseNetwork(state, id);
  },
};

async function reconcile(inputs: ContainerInputs, before?: ContainerState): Promise<ContainerState> {
  const spec = specOf(inputs);
  const networkIds: string[] = [];
  try {
    for (const network of inputs.networks) networkIds.push(await ensureNetwork(inputs, network));
    const { containerId, limits } = await reconcileContainer(spec, before?.containerId);
    for (const id of networkIds.slice(1)) {
      await (inputs.role === "proxy" ? attachProxy : attach)(inputs.host, id, containerId);
    }
    for (const id of before?.networkIds ?? []) if (!networkIds.includes(id)) await releaseNetwork(inputs, id);
    if (limits.memory > spec.limits.memory) {
      await setLimits(dockerClient(inputs.host).getContainer(containerId), limits, spec.limits);
    }
    if (containerId === before?.containerId && before.configuration !== inputs.configuration) {
      await dockerClient(inputs.host).getContainer(containerId).kill({ signal: "SIGHUP" });
    }
    return { ...inputs, containerId, networkIds, running: true };
  } catch (error) {
    const info = await inspectContainer(inputs).catch(() => undefined);
    const containerId = info && isOfStack(info, inputs.stack) ? info.Id : (before?.containerId ?? "");
    const known = [...new Set([...networkIds, ...(before?.networkIds ?? [])])];
    // Without an image, it differs from any inputs: the next `up` tries again, also where only a network was left over.
    const incomplete = { ...inputs, imageId: "", containerId, networkIds: known, running: false };
    throw new IncompleteError(inputs.name, incomplete, error as Error);
  }
}

async function isInAll(
  { host, networks }: ContainerInputs,
  info: Docker.ContainerInspectInfo,
): Promise<boolean> {
  const inThem = await Promise.all(networks.map(({ name }) => isAttached(host, info, name)));
  return inThem.every(Boolean);
}

/** Where an engine listens on its own host. */
const engineSocket = "/var/run/docker.sock";

export function specOf(inputs: ContainerInputs): ContainerSpec {
  const { host, name, stack, role, image, imageId, mounts, networks, memory, pids, stopSeconds } = inputs;
  const network = networks[0]?.name;
  const { tmpfs = [], ports = [], resolvesNames, cpuShares } = inputs;
  const options: Docker.ContainerCreateOptions = {
    Entrypoint: inputs.entrypoint,
    Cmd: inputs.command,
    Env: inputs.env,
    User: inputs.user,
    ExposedPorts: Object.fromEntries(ports.map(({ internal }) => [`${internal}/tcp`, {}])),
    HostConfig: {
      ...hardened,
      ...(resolvesNames ? {} : withoutNames),
      Tmpfs: Object.fromEntries(tmpfs.map((path) => [path, ""])),
      ...(inputs.engine && { Binds: [`${engineSocket}:${engineSocket}`] }),
      PortBindings: Object.fromEntries(
        ports.map(({ internal, external }) => [`${internal}/tcp`, [{ HostPort: String(external) }]]),
      ),
      CpuShares: cpuShares,
    },
  };
  const limits = { memory, cpus: 0, pids };
  return { host, name, stack, role, image, imageId, mounts, network, limits, stopSeconds, options };
}

/** Who has a port that is to be published; undefined when it is free, or the stack's own. */
async function portProblem(
  host: string | undefined,
  port: number,
  stack: string | undefined,
): Promise<string | undefined> {
  const advice = `set another one: pulumi config set pgs:port …`;
  for (const [name, { Ports, Labels }] of await containersByName(host)) {
    if (!Ports?.some(({ PublicPort }) => PublicPort === port)) continue;
    if (Labels[stackLabel] !== undefined && Labels[stackLabel] === stack) return undefined;
    return `port ${port} of the Docker host is published by the container ${name}: ${advice}`;
  }
  const isLocal = (host ?? process.env.DOCKER_HOST ?? "unix:").startsWith("unix:");
  if (!isLocal || (await isFree(port))) return undefined;
  return `port ${port} is taken by another program on this machine: ${advice}`;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    // Only that the port is taken says something: to listen on it may not be allowed to this user.
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code !== "EADDRINUSE"));
    server.listen(port, () => server.close(() => resolve(true)));
  });
}
