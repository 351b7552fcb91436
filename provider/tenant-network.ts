import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { engine, ifPresent } from "./engine";
import type { ResourceType } from "./resource-type";

/**
 * An internal network for one tenant, with the running proxy attached to it: its server reaches neither
 * another tenant nor the internet.
 */
export interface TenantNetworkInputs {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  name: string;
  /** IPv4 range (CIDR, /8 to /29) from which the network takes a /29. Counts only when it is made. */
  pool: string;
  /** Id of the proxy's container. */
  proxy: string;
}

/** Prefix length of a tenant's network: six addresses, of which the gateway, the server and the proxy take three. */
const prefixLength = 29;

export const TenantNetwork: ResourceType<TenantNetworkInputs> = {
  updatable: ["proxy"],
  replacing: ["host", "name"],

  check({ pool }) {
    if (pool === undefined || parsePool(pool)) return [];
    return [{ property: "pool", reason: `expected an IPv4 range such as 10.213.0.0/16, got ${pool}` }];
  },

  async create(inputs) {
    const existing = await ifPresent(networkOf(inputs).inspect());
    if (existing && !existing.Internal) {
      throw new Error(
        `a network ${inputs.name} exists that is not internal, so it is not this stack's: remove it or set another pgs:prefix`,
      );
    }
    if (!existing) await createNetwork(inputs);
    await attach(inputs);
    return { id: inputs.name, state: inputs };
  },

  async read(_id, state) {
    const network = await ifPresent(networkOf(state).inspect());
    if (!network) return undefined;
    const attached = Object.keys(network.Containers ?? {}).includes(state.proxy);
    return { ...state, proxy: attached ? state.proxy : "" };
  },

  async update(_id, _state, inputs) {
    await attach(inputs);
    return inputs;
  },

  async delete(_id, state) {
    const network = networkOf(state);
    const info = await ifPresent(network.inspect());
    if (!info) return;
    if (Object.keys(info.Containers ?? {}).includes(state.proxy)) {
      await ifPresent(network.disconnect({ Container: state.proxy, Force: true }));
    }
    await ifPresent(network.remove());
  },
};

function networkOf(inputs: TenantNetworkInputs): Docker.Network {
  return engine(inputs.host).getNetwork(inputs.name);
}

/**
 * Offers the engine one subnet after another until it accepts one; it refuses those that overlap. Networks
 * of the engine's own choosing would end at about 31.
 */
async function createNetwork(inputs: TenantNetworkInputs): Promise<void> {
  const pool = parsePool(inputs.pool);
  if (!pool) throw new Error(`not an IPv4 range: ${inputs.pool}`);
  const count = 2 ** (prefixLength - pool.length);
  const first = createHash("sha256").update(inputs.name).digest().readUInt32BE() % count;
  for (let tried = 0; tried < count; tried++) {
    const base = pool.base + ((first + tried) % count) * 2 ** (32 - prefixLength);
    try {
      await engine(inputs.host).createNetwork({
        Name: inputs.name,
        Driver: "bridge",
        Internal: true,
        CheckDuplicate: true,
        IPAM: { Driver: "default", Config: [{ Subnet: `${dotted(base)}/${prefixLength}` }] },
      });
      return;
    } catch (error) {
      if (!/overlap/i.test(String(error))) throw error;
    }
  }
  throw new Error(`no subnet is free in ${inputs.pool}: set pgs:tenantSubnets to a larger range`);
}

/** Attaching twice is an error to the engine, so it is asked first. */
async function attach(inputs: TenantNetworkInputs): Promise<void> {
  const network = networkOf(inputs);
  const info = await network.inspect();
  if (Object.keys(info.Containers ?? {}).includes(inputs.proxy)) return;
  try {
    await network.connect({ Container: inputs.proxy });
  } catch (error) {
    // A proxy that is stopped is attached but not listed.
    if (!/already exists in network/.test(String(error))) throw error;
  }
}

/** The range's first address as a number and its prefix length; undefined when it is no such range. */
export function parsePool(text: string): { base: number; length: number } | undefined {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(text);
  if (!match) return undefined;
  const [a, b, c, d, length] = match.slice(1).map(Number) as [number, number, number, number, number];
  if ([a, b, c, d].some((octet) => octet > 255) || length < 8 || length > prefixLength) return undefined;
  const base = ((a * 256 + b) * 256 + c) * 256 + d;
  return base % 2 ** (32 - length) === 0 ? { base, length } : undefined;
}

function dotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
}
