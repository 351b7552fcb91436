import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { clearCache, networksByName } from "../docker/cache";
import { dockerClient, ifPresent } from "../docker/client";
import { stackLabel } from "../docker/labels";
import { takenName } from "./container/ownership";

/** A bridge network of the stack. */
export interface NetworkSpec {
  name: string;
  /** Whether it is cut off from the internet and from the host's other networks. */
  internal: boolean;
  /** IPv4 range (CIDR, /8 to /29) from which a subnet is taken when it is made; without one the engine chooses. */
  pool?: string;
  /** Prefix length of that subnet. */
  prefixLength?: number;
  /** IPv6 range (CIDR) that it has beside that subnet. */
  ipv6Subnet?: string;
}

/** Where a network is made, and whose it is. */
export interface NetworkOwner {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  stack: string;
}

/** By host and name, those that are being made now: two calls must not make the same one twice. */
const underWay = new Map<string, Promise<string>>();

/**
 * Makes the network, or adopts the stack's own of that name.
 * @returns the engine's id of it
 * @throws Error where another's has the name
 */
export function ensureNetwork(owner: NetworkOwner, spec: NetworkSpec): Promise<string> {
  const key = `${owner.host} ${spec.name}`;
  const ensured = (underWay.get(key) ?? Promise.resolve()).then(
    () => findOrCreate(owner, spec),
    () => findOrCreate(owner, spec),
  );
  underWay.set(key, ensured);
  return ensured;
}

async function findOrCreate(owner: NetworkOwner, spec: NetworkSpec): Promise<string> {
  const present = (await networksByName(owner.host)).get(spec.name);
  if (!present) {
    await createNetwork(owner, spec);
    clearCache();
    const made = await dockerClient(owner.host).getNetwork(spec.name).inspect();
    return made.Id;
  }
  const problem = ownershipProblem(present, owner.stack);
  if (problem) throw new Error(problem);
  if (present.Internal !== spec.internal) {
    throw new Error(
      `the network ${spec.name} was made again by hand: remove it (docker network rm ${spec.name})`,
    );
  }
  return present.Id;
}

/** Why a network of this name cannot be this stack's; undefined where nothing is in the way. */
export async function networkNameProblem(
  host: string | undefined,
  name: string,
  stack: string | undefined,
): Promise<string | undefined> {
  const present = (await networksByName(host)).get(name);
  return present && ownershipProblem(present, stack);
}

function ownershipProblem({ Name, Labels }: Docker.NetworkInspectInfo, stack: string | undefined) {
  const owner = Labels?.[stackLabel];
  if (owner !== undefined && owner === stack) return undefined;
  return takenName("network", Name, owner);
}

/**
 * Removes a network that a container has left, unless another is still in it: the last one that leaves it does so.
 * By its id: a network that was made since under the same name stays. One that is gone is no error.
 * @param proxy id of the proxy's container, which is in every tenant's network
 */
export async function releaseNetwork(
  { host, stack }: NetworkOwner,
  id: string | undefined,
  proxy?: string,
): Promise<void> {
  if (!id) return;
  const network = dockerClient(host).getNetwork(id);
  const info = await ifPresent(network.inspect());
  if (!info || info.Id !== id || info.Labels?.[stackLabel] !== stack) return;
  const others = Object.keys(info.Containers ?? {}).filter((container) => container !== proxy);
  if (others.length > 0) return;
  if (proxy && lists(info, proxy)) {
    try {
      await ifPresent(network.disconnect({ Container: proxy, Force: true }));
    } catch (error) {
      // Two have left it at the same time.
      if (!/is not connected to network/.test(String(error))) throw error;
    }
  }
  try {
    await ifPresent(network.remove());
  } catch (error) {
    // Another container came meanwhile, or two have left it at the same time.
    if ((error as { statusCode?: number }).statusCode !== 403) throw error;
  }
}

/** One that is stopped is attached, but not listed. */
function lists(info: Docker.NetworkInspectInfo, container: string): boolean {
  return Object.hasOwn(info.Containers ?? {}, container);
}

/** What is wrong with a range that networks are to be taken from; `before`: the range of those that there are. */
export function poolProblem(pool: string, before: string | undefined): string | undefined {
  if (!parsePool(pool)) return `expected an IPv4 range such as 10.213.0.0/16, got ${pool}`;
  if (before === undefined || contains(pool, before)) return undefined;
  // The routes are closed to clients of the pool: one outside of it could reach them.
  return `there are networks in ${before}, which pgs:tenantSubnets ${pool} does not contain: set a range that does`;
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
async function createNetwork({ host, stack }: NetworkOwner, spec: NetworkSpec): Promise<void> {
  const { name, internal, ipv6Subnet } = spec;
  const pool = spec.pool ? parsePool(spec.pool) : undefined;
  const create = (subnet?: Subnet) =>
    dockerClient(host).createNetwork({
      Name: name,
      Driver: "bridge",
      Internal: internal,
      CheckDuplicate: true,
      Labels: { [stackLabel]: stack },
      Options: internal ? withoutHost : undefined,
      EnableIPv6: ipv6Subnet !== undefined,
      IPAM: ipv6Subnet
        ? { Config: [{ Subnet: ipv6Subnet }] }
        : subnet && {
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
  for (const subnet of candidates(pool, Math.max(spec.prefixLength ?? 29, pool.length), name)) {
    try {
      await create(subnet);
      return;
    } catch (error) {
      if (!/overlap/i.test(String(error))) throw error;
    }
  }
  throw new Error(`no subnet is free in ${spec.pool}: set pgs:tenantSubnets to a larger range`);
}

/** The address that is kept for the proxy; undefined in a network that has no subnet of the pool. */
export function proxyAddress(info: Docker.NetworkInspectInfo): string | undefined {
  const subnet = parsePool(info.IPAM?.Config?.[0]?.Subnet ?? "");
  return subnet && dotted(subnet.base + 2 ** (32 - subnet.length) - 2);
}

/** Attaches the running proxy to a network, at the address that is kept for it. @returns the address */
export async function attachProxy(
  host: string | undefined,
  id: string,
  proxy: string,
): Promise<string | undefined> {
  const address = proxyAddress(await dockerClient(host).getNetwork(id).inspect());
  await attach(host, id, proxy, address);
  return address;
}

/** Attaches a running container to a network that it may be in already. @param address one of its own; default: a free one */
export async function attach(
  host: string | undefined,
  id: string,
  container: string,
  address?: string,
): Promise<void> {
  const network = dockerClient(host).getNetwork(id);
  if (lists(await network.inspect(), container)) return;
  try {
    await network.connect({
      Container: container,
      ...(address && { EndpointConfig: { IPAMConfig: { IPv4Address: address } } }),
    });
  } catch (error) {
    if (!/already exists in network/.test(String(error))) throw error;
  }
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
