import fc from "fast-check";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { clearCache } from "../../../docker/cache";
import {
  attachProxy,
  candidates,
  ensureNetwork,
  type NetworkSpec,
  networkNameProblem,
  parsePool,
  poolProblem,
  proxyAddress,
  releaseNetwork,
} from "../../../provider/networks";
import { engine } from "../support/engine";

vi.mock("../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

const owner = { stack: "ours" };
const ours = { "pgs.stack": "ours" };
const acme: NetworkSpec = { name: "pgs-acme", internal: true, pool: "10.213.0.0/16", prefixLength: 29 };

/** A container that runs in a network. */
function inNetwork(name: string, network: string) {
  return engine.addContainer(name, { Labels: ours, HostConfig: { NetworkMode: network } });
}

beforeEach(() => engine.reset());

describe("a network", () => {
  it("is made with the stack's label and a subnet of the pool", async () => {
    const id = await ensureNetwork(owner, acme);
    const made = engine.network("pgs-acme");
    expect(made).toMatchObject({ Id: id, Internal: true, Labels: ours });
    const [base, length] = (made.IPAM.Config[0]?.Subnet ?? "").split("/");
    expect(base).toMatch(/^10\.213\./);
    expect(length).toBe("29");
  });

  it("gets the next subnet where another has its first", async () => {
    await ensureNetwork(owner, acme);
    const first = engine.network("pgs-acme").IPAM.Config[0]?.Subnet ?? "";
    engine.networks = [];
    engine.addNetwork("somebody", {}, true, first);
    clearCache();
    await ensureNetwork(owner, acme);
    expect(engine.network("pgs-acme").IPAM.Config[0]?.Subnet).not.toBe(first);
  });

  it("that finds no subnet says which setting has the range", async () => {
    const pool = "10.9.0.0/28";
    for (const [index, subnet] of ["10.9.0.0/29", "10.9.0.8/29"].entries()) {
      engine.addNetwork(`taken-${index}`, {}, true, subnet);
    }
    await expect(ensureNetwork(owner, { ...acme, pool })).rejects.toThrow("pgs:tenantSubnets");
  });

  it("that the engine cannot make for another reason is not tried again", async () => {
    let tries = 0;
    engine.refusing = () => ++tries > 0;
    await expect(ensureNetwork(owner, acme)).rejects.toThrow("refused: create network");
    expect(tries).toBe(1);
  });

  it("is adopted by its name and label", async () => {
    const { Id } = engine.addNetwork("pgs-acme", ours);
    expect(await ensureNetwork(owner, acme)).toBe(Id);
    expect(engine.done).toEqual([]);
  });

  it("that many ask for at once is made once", async () => {
    const ids = await Promise.all([1, 2, 3].map(() => ensureNetwork(owner, { ...acme, name: "shared" })));
    expect(new Set(ids).size).toBe(1);
    expect(engine.done).toEqual(["create network shared"]);
  });

  it("is made by the next who asks when the first failed", async () => {
    engine.refusing = () => true;
    await expect(ensureNetwork(owner, acme)).rejects.toThrow("refused");
    engine.refusing = undefined;
    await ensureNetwork(owner, acme);
    expect(engine.done).toEqual(["create network pgs-acme"]);
  });

  it.each([
    ["another stack", { "pgs.stack": "theirs" }, "belongs to the pgs stack theirs"],
    ["nobody that pgs knows", {}, "was not made by pgs"],
  ])("of %s is refused, in preview too", async (_, labels, message) => {
    engine.addNetwork("pgs-acme", labels);
    expect(await networkNameProblem(undefined, "pgs-acme", "ours")).toContain(message);
    await expect(ensureNetwork(owner, acme)).rejects.toThrow(message);
    expect(engine.done).toEqual([]);
  });

  it("with a way out in place of one without is not adopted", async () => {
    engine.addNetwork("pgs-acme", ours, false);
    await expect(ensureNetwork(owner, acme)).rejects.toThrow("docker network rm pgs-acme");
  });

  it("is nobody's problem where there is none, or it is the stack's own", async () => {
    expect(await networkNameProblem(undefined, "pgs-acme", "ours")).toBeUndefined();
    engine.addNetwork("pgs-acme", ours);
    clearCache();
    expect(await networkNameProblem(undefined, "pgs-acme", "ours")).toBeUndefined();
    expect(await networkNameProblem(undefined, "pgs-acme", undefined)).toBeDefined();
  });
});

describe("the proxy in a network", () => {
  it("has the last address of it", async () => {
    const network = engine.addNetwork("pgs-acme", ours, true, "10.213.0.8/29");
    const proxy = engine.addContainer("pgs-proxy");
    expect(await attachProxy(undefined, network.Id, proxy.Id)).toBe("10.213.0.14");
    expect(proxy.NetworkSettings.Networks["pgs-acme"]?.IPAddress).toBe("10.213.0.14");
    await attachProxy(undefined, network.Id, proxy.Id);
    expect(engine.done).toEqual(["connect pgs-proxy to pgs-acme"]);
  });

  it("that is stopped is attached already, though the engine does not list it", async () => {
    const network = engine.addNetwork("pgs-acme", ours);
    const proxy = engine.addContainer("pgs-proxy", { HostConfig: { NetworkMode: "pgs-acme" } }, false);
    await attachProxy(undefined, network.Id, proxy.Id);
    expect(engine.done).toEqual([]);
  });

  it("has an address in networks of the pool alone", () => {
    const of = (Subnet: string) => proxyAddress({ IPAM: { Config: [{ Subnet }] } } as never);
    expect(of("10.213.0.0/20")).toBe("10.213.15.254");
    expect(of("fd00::/64")).toBeUndefined();
    expect(proxyAddress({} as never)).toBeUndefined();
  });
});

describe("a network that a container has left", () => {
  it("goes when two containers leave it at the same time", async () => {
    const { Id } = engine.addNetwork("shared", ours);
    const proxy = inNetwork("pgs-proxy", "shared");
    await Promise.all([releaseNetwork(owner, Id, proxy.Id), releaseNetwork(owner, Id, proxy.Id)]);
    expect(engine.networks).toEqual([]);
  });

  it("is removed, the proxy taken out of it first", async () => {
    const { Id } = engine.addNetwork("pgs-acme", ours);
    const proxy = inNetwork("pgs-proxy", "pgs-acme");
    await releaseNetwork(owner, Id, proxy.Id);
    expect(engine.done).toEqual(["disconnect pgs-proxy from pgs-acme", "remove network pgs-acme"]);
  });

  it("stays while another container is in it", async () => {
    const { Id } = engine.addNetwork("shared", ours);
    const proxy = inNetwork("pgs-proxy", "shared");
    inNetwork("pgs-globex", "shared");
    await releaseNetwork(owner, Id, proxy.Id);
    expect(engine.done).toEqual([]);
    expect(engine.members("shared")).toEqual(["pgs-globex", "pgs-proxy"]);
  });

  it("stays where another container comes at the last moment", async () => {
    const { Id } = engine.addNetwork("shared", ours);
    const other = inNetwork("pgs-globex", "shared");
    const inspect = engine.docker.getNetwork(Id).inspect;
    vi.spyOn(engine.docker, "getNetwork").mockReturnValueOnce({
      ...engine.docker.getNetwork(Id),
      inspect: async () => ({ ...(await inspect()), Containers: {} }),
    });
    await releaseNetwork(owner, Id);
    expect(engine.members("shared")).toEqual([other.Name.slice(1)]);
  });

  it("that was made again since under the same name stays", async () => {
    const { Id } = engine.addNetwork("pgs-acme", ours);
    engine.networks = [];
    engine.addNetwork("pgs-acme", ours);
    await releaseNetwork(owner, Id);
    await releaseNetwork(owner, "pgs-acme");
    await releaseNetwork(owner, undefined);
    expect(engine.networks).toHaveLength(1);
  });

  it("stays where it is another stack's by now", async () => {
    const { Id } = engine.addNetwork("pgs-acme", { "pgs.stack": "theirs" });
    await releaseNetwork(owner, Id);
    expect(engine.networks).toHaveLength(1);
  });
});

describe("a change of the range", () => {
  it("has to contain the networks that there are: routes are closed to the range alone", () => {
    expect(poolProblem("10.213.0.0/16", undefined)).toBeUndefined();
    expect(poolProblem("10.213.0.0/16", "10.213.0.0/16")).toBeUndefined();
    expect(poolProblem("10.0.0.0/8", "10.213.0.0/16")).toBeUndefined();
    expect(poolProblem("10.213.0.0/17", "10.213.0.0/16")).toContain("there are networks in 10.213.0.0/16");
    expect(poolProblem("10.214.0.0/16", "10.213.0.0/16")).toContain("pgs:tenantSubnets 10.214.0.0/16");
    expect(poolProblem("10.213.0.1/16", undefined)).toContain("got 10.213.0.1/16");
  });

  it("is accepted just where every address of the former range is in it", () => {
    const range = fc.tuple(fc.nat(2 ** 16 - 1), fc.integer({ min: 8, max: 16 })).map(([start, length]) => {
      const base = Math.floor((start * 2 ** 16) / 2 ** (32 - length)) * 2 ** (32 - length);
      return {
        base,
        end: base + 2 ** (32 - length),
        text: `${(base / 2 ** 24) | 0}.${((base / 2 ** 16) % 256) | 0}.0.0/${length}`,
      };
    });
    fc.assert(
      fc.property(range, range, (wanted, before) => {
        const holds = wanted.base <= before.base && before.end <= wanted.end;
        expect(poolProblem(wanted.text, before.text) === undefined).toBe(holds);
      }),
    );
  });
});

describe("the range of the tenants' networks", () => {
  it("is read as its first address and its prefix length", () => {
    expect(parsePool("10.213.0.0/16")).toEqual({ base: 0x0a_d5_00_00, length: 16 });
    expect(parsePool("10.0.0.0/8")).toEqual({ base: 0x0a_00_00_00, length: 8 });
    expect(parsePool("192.168.255.248/29")).toEqual({ base: 0xc0_a8_ff_f8, length: 29 });
    expect(parsePool("255.255.255.248/29")).toEqual({ base: 0xff_ff_ff_f8, length: 29 });
  });

  it.each([
    "",
    "10.213.0.0",
    "10.0.0.0/7",
    "10.213.0.0/30",
    "10.213.0.0/16 ",
    "10.213.0/16",
    "10.213.0.0.0/16",
    "10.256.0.0/16",
    "10.-1.0.0/16",
    "fd00::/16",
    "a.b.c.d/16",
  ])("cannot be %j", (range) => {
    expect(parsePool(range)).toBeUndefined();
  });

  it("starts at a multiple of its own size", () => {
    fc.assert(
      fc.property(
        fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)),
        fc.integer({ min: 8, max: 29 }),
        (octets, length) => {
          const bits = octets.map((octet) => octet.toString(2).padStart(8, "0")).join("");
          const aligned = !bits.slice(length).includes("1");
          expect(parsePool(`${octets.join(".")}/${length}`)).toEqual(
            aligned ? { base: Number.parseInt(bits, 2), length } : undefined,
          );
        },
      ),
    );
    expect(parsePool("10.213.0.8/28")).toBeUndefined();
    expect(parsePool("10.213.0.16/28")).toBeDefined();
  });
});

describe("the subnets that are tried for a network", () => {
  const pool = { base: 0x0a_d5_00_00, length: 16 };
  const tried = (length: number, name = "pgs-acme") => [...candidates(pool, length, name)];
  const size = ({ length }: { length: number }) => 2 ** (32 - length);

  it("are all of the pool, each once", () => {
    const bases = tried(29).map(({ base }) => base);
    expect(new Set(bases).size).toBe(2 ** 13);
    expect(Math.min(...bases)).toBe(pool.base);
    expect(Math.max(...bases)).toBe(pool.base + 2 ** 16 - 8);
  });

  it("leave the upper half to larger networks, as long as there is room in the lower one", () => {
    const firsts = Array.from({ length: 500 }, (_, index) => tried(29, `pgs-t${index}`)[0]?.base ?? 0);
    expect(Math.max(...firsts)).toBeLessThan(pool.base + 2 ** 15);
    expect(new Set(firsts).size).toBeGreaterThan(400);
    expect(tried(20)[0]).toEqual({ base: pool.base + 2 ** 16 - 2 ** 12, length: 20 });
  });

  it("become smaller for a large network where small ones lie in every part of the pool", () => {
    const taken = Array.from({ length: 16 }, (_, index) => pool.base + index * 4096 + 8);
    const free = tried(20).find((subnet) =>
      taken.every((base) => base + 8 <= subnet.base || base >= subnet.base + size(subnet)),
    );
    expect(free).toEqual({ base: pool.base + 2 ** 16 - 2048, length: 21 });
    expect(Math.max(...tried(20).map(({ length }) => length))).toBe(24);
  });

  it("are inside of the pool, whatever pool and size", () => {
    const sizes = fc
      .integer({ min: 8, max: 28 })
      .chain((pool) => fc.tuple(fc.constant(pool), fc.integer({ min: Math.max(pool, 17), max: 29 })));
    fc.assert(
      fc.property(sizes, fc.string(), ([poolLength, length], name) => {
        const pool = { base: 0x0a_00_00_00, length: poolLength };
        let count = 0;
        for (const subnet of candidates(pool, Math.max(length, poolLength), name)) {
          expect(subnet.base % size(subnet)).toBe(0);
          expect(subnet.base).toBeGreaterThanOrEqual(pool.base);
          expect(subnet.base + size(subnet)).toBeLessThanOrEqual(pool.base + size(pool));
          if (++count === 200) break;
        }
        expect(count).toBeGreaterThan(0);
      }),
    );
  });
});
