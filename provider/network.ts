import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { networksByName, sharedContainer } from "../docker/cache";
import { dockerClient, ifPresent } from "../docker/client";
import { isAttached } from "./attachment";
import type { ResourceType } from "./resource-type";

/** A bridge network, with the running proxy attached to it where that is asked for. */
export interface NetworkInputs {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  name: string;
  /** Whether it is cut off from the internet and from the host's other networks. */
  internal: boolean;
  /** IPv4 range (CIDR, /8 to /29) from which a subnet is taken when it is made; without one the engine chooses. */
  pool?: string;
  /** Prefix length of that subnet. */
  prefixLength?: number;
  /** Id of the proxy's container, if it is to be attached. */
  proxy?: string;
}

export interface NetworkState extends NetworkInputs {
  /** The proxy's address in a subnet of the pool: the same after the proxy is made anew. */
  proxyAddress?: string;
}

export const Network: ResourceType<NetworkInputs, NetworkState> = {
  updatable: ["proxy"],
  replacing: ["host", "name", "internal"],

  check({ pool }, before) {
    const fails = (reason: string) => [{ property: "pool" as const, reason }];
    if (pool === undefined) return [];
    if (!parsePool(pool)) return fails(`expected an IPv4 range such as 10.213.0.0/16, got ${pool}`);
    if (before.pool === undefined || contains(pool, before.pool)) return [];
    // The routes are closed to clients of the pool: one outside of it could reach them.
    return fails(
      `there are networks in ${before.pool}, which pgs:tenantSubnets ${pool} does not contain: set a range that does`,
    );
  },

  async create(inputs) {
    return { id: inputs.name, state: await bringAbout(inputs) };
  },

  async read(_id, state) {
    const info = await ifPresent(networkOf(state).inspect());
    if (!info) return undefined;
    const proxy = state.proxy && (lists(info, state.proxy) ? state.proxy : "");
    return { ...state, proxy };
  },

  /** As the engine's list and the proxy tell of it: one question for all of the stack. */
  async look(_id, state) {
    if (!(await networksByName(state.host)).has(state.name)) return undefined;
    if (!state.proxy) return state;
    const proxy = await sharedContainer(state.host, state.proxy);
    return { ...state, proxy: proxy && (await isAttached(state.host, proxy, state.name)) ? state.proxy : "" };
  },

  async update(_id, _state, inputs) {
    return bringAbout(inputs);
  },

  async delete(_id, state) {
    const network = networkOf(state);
    const info = await ifPresent(network.inspect());
    if (!info) return;
    if (state.proxy) await detach(dockerClient(state.host), state.name, state.proxy);
    await ifPresent(network.remove());
  },
};

async function bringAbout(inputs: NetworkInputs): Promise<NetworkState> {
  const existing = await ifPresent(networkOf(inputs).inspect());
  if (existing && existing.Internal !== inputs.internal) {
    throw new Error(
      `a network ${inputs.name} exists that is not this stack's: remove it (docker network rm ${inputs.name}) or set another pgs:prefix`,
    );
  }
  if (!existing) await createNetwork(inputs);
  if (!inputs.proxy) return inputs;
  const proxyAddress = await attachAt(dockerClient(inputs.host), inputs.name, inputs.proxy, "proxy");
  return { ...inputs, proxyAddress };
}

function networkOf(inputs: NetworkInputs): Docker.Network {
  return dockerClient(inputs.host).getNetwork(inputs.name);
}

/** One that is stopped is attached, but not listed. */
function lists(info: Docker.NetworkInspectInfo, container: string): boolean {
  return Object.hasOwn(info.Containers ?? {}, container);
}

/**
 * The host has no address in such a network, so nothing that listens on the host can be reached from it: what
 * engines from version 28 on also call gateway mode `isolated`.
 * https://docs.docker.com/engine/network/drivers/bridge/#options
 */
const withoutHost = { "com.docker.network.bridge.inhibit_ipv4": "true" };

/** The first address as a number, and the prefix length. */
interface Subnet {
  base: number;
  length: number;
}

/**
 * Subnets of a pool, in the order in which they are tried. Those of single tenants begin where their name says, in the
 * lower half; larger ones begin at the pool's other end, and shrink to a /24 where small ones lie everywhere.
 */
export function* candidates(pool: Subnet, length: number, name: string): Generator<Subnet> {
  const count = 2 ** (length - pool.length);
  const at = (index: number) => ({ base: pool.base + index * 2 ** (32 - length), length });
  if (length === 29) {
    const half = Math.ceil(count / 2);
    const first = createHash("sha256").update(name).digest().readUInt32BE() % half;
    for (let tried = 0; tried < half; tried++) yield at((first + tried) % half);
    for (let index = half; index < count; index++) yield at(index);
    return;
  }
  for (let index = count - 1; index >= 0; index--) yield at(index);
  if (length < 24) yield* candidates(pool, length + 1, name);
}

/**
 * Offers the engine one subnet after another until it accepts one; it refuses those that overlap. Networks of the
 * engine's own choosing would end at about 31.
 */
async function createNetwork(inputs: NetworkInputs): Promise<void> {
  const { name, internal } = inputs;
  const pool = inputs.pool ? parsePool(inputs.pool) : undefined;
  const create = (subnet?: Subnet) =>
    dockerClient(inputs.host).createNetwork({
      Name: name,
      Driver: "bridge",
      Internal: internal,
      CheckDuplicate: true,
      Options: internal ? withoutHost : undefined,
      IPAM: subnet && {
        Driver: "default",
        // The engine gives out addresses of the lower half, so that the proxy's is free whenever it comes.
        Config: [
          {
            Subnet: `${dotted(subnet.base)}/${subnet.length}`,
            IPRange: `${dotted(subnet.base)}/${subnet.length + 1}`,
          },
        ],
      },
    });
  if (!pool) {
    await create();
    return;
  }
  for (const subnet of candidates(pool, Math.max(inputs.prefixLength ?? 29, pool.length), name)) {
    try {
      await create(subnet);
      return;
    } catch (error) {
      if (!/overlap/i.test(String(error))) throw error;
    }
  }
  throw new Error(`no subnet is free in ${inputs.pool}: set pgs:tenantSubnets to a larger range`);
}

/** Who has an address of its own in every tenant's network, counted from the subnet's end. */
const places = { proxy: 2, barman: 3 };

/** The address that is kept for one of them; undefined in a network that has no subnet of the pool. */
export function reservedAddress(
  info: Docker.NetworkInspectInfo,
  place: keyof typeof places,
): string | undefined {
  const subnet = parsePool(info.IPAM?.Config?.[0]?.Subnet ?? "");
  return subnet && dotted(subnet.base + 2 ** (32 - subnet.length) - places[place]);
}

/** Attaches a running container at the address that is kept for it. @returns the address */
export async function attachAt(
  docker: Docker,
  name: string,
  container: string,
  place: keyof typeof places,
): Promise<string | undefined> {
  const network = docker.getNetwork(name);
  const info = await network.inspect();
  const address = reservedAddress(info, place);
  if (!lists(info, container)) {
    try {
      await network.connect({
        Container: container,
        EndpointConfig: { IPAMConfig: { IPv4Address: address } },
      });
    } catch (error) {
      if (!/already exists in network/.test(String(error))) throw error;
    }
  }
  return address;
}

/** Takes a container out of a network; one that is not in it, or gone, is no error. */
export async function detach(docker: Docker, name: string, container: string): Promise<void> {
  const network = docker.getNetwork(name);
  const info = await ifPresent(network.inspect());
  if (!info || !lists(info, container)) return;
  await ifPresent(network.disconnect({ Container: container, Force: true }));
}

/** The range's first address as a number and its prefix length; undefined when it is no such range. */
export function parsePool(text: string): Subnet | undefined {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(text);
  if (!match) return undefined;
  const [a, b, c, d, length] = match.slice(1).map(Number) as [number, number, number, number, number];
  if ([a, b, c, d].some((octet) => octet > 255) || length < 8 || length > 29) return undefined;
  const base = ((a * 256 + b) * 256 + c) * 256 + d;
  return base % 2 ** (32 - length) === 0 ? { base, length } : undefined;
}

function contains(outer: string, inner: string): boolean {
  const [one, other] = [parsePool(outer), parsePool(inner)];
  if (!one || !other || one.length > other.length) return false;
  return Math.floor(other.base / 2 ** (32 - one.length)) * 2 ** (32 - one.length) === one.base;
}

function dotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
}
