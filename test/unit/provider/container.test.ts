import { createServer } from "node:net";
import * as pulumi from "@pulumi/pulumi";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Container, type ContainerInputs, type ContainerState } from "../../../provider/container";
import { limitsOf } from "../../../provider/container/limits";
import { digestOf, removeContainer } from "../../../provider/container/reconcile";
import { IncompleteError } from "../../../provider/resource-type";
import { engine } from "../support/engine";
import { StackOfOne } from "../support/stack";

vi.mock("../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

const proxy: ContainerInputs = {
  host: "tcp://docker.test:2376",
  name: "pgs-proxy",
  stack: "ours",
  role: "proxy",
  image: "traefik:3.6",
  imageId: "sha256:36",
  command: ["--ping"],
  mounts: [{ volume: "pgs-proxy", path: "/etc/traefik/dynamic" }],
  networks: [{ name: "pgs-proxy", internal: false, pool: "10.213.0.0/16", prefixLength: 29 }],
  ports: [{ internal: 5432, external: 5432 }],
  resolvesNames: false,
  memory: 2 ** 28,
  pids: 256,
  stopSeconds: 10,
};

const info = vi.spyOn(pulumi.log, "info").mockResolvedValue();
let stack: StackOfOne;
let state: ContainerState;

beforeEach(() => {
  engine.reset();
  engine.volumes.set("pgs-proxy", {});
  engine.images.set("traefik:3.6", "sha256:36");
  engine.images.set("traefik:3.7", "sha256:37");
  stack = new StackOfOne("Container");
});
afterEach(() => info.mockClear());

/** As after an `up` that ended well. */
async function present(inputs = proxy): Promise<void> {
  await stack.up(inputs);
  state = stack.state as unknown as ContainerState;
  engine.done = [];
}

describe("a container", () => {
  it("is made, hardened and labelled, and started", async () => {
    await present();
    const made = engine.container("pgs-proxy");
    expect(made.State.Running).toBe(true);
    expect(made.Config.Image).toBe("traefik:3.6");
    expect(made.Config.Labels).toMatchObject({ "pgs.stack": "ours", "pgs.digest": expect.any(String) });
    expect(made.HostConfig).toMatchObject({
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges:true"],
      Memory: 2 ** 28,
      MemorySwap: 2 ** 28,
      PidsLimit: 256,
      RestartPolicy: { Name: "unless-stopped" },
    });
    expect(state).toMatchObject({ containerId: made.Id, running: true });
    expect(state.networkIds).toEqual([engine.network("pgs-proxy").Id]);
  });

  it("that is as it should be is no change, and a second up does nothing", async () => {
    await present();
    expect(await stack.up(structuredClone(proxy))).toBeUndefined();
    await Container.update("", state, proxy);
    expect(engine.done).toEqual([]);
  });

  it("without a network has none", async () => {
    await present({ ...proxy, networks: [], ports: [] });
    expect(engine.container("pgs-proxy").HostConfig.NetworkMode).toBe("none");
    expect(engine.networks).toEqual([]);
    expect(await stack.differs({ ...proxy, networks: [], ports: [] })).toBe(false);
  });

  it("that an interrupted run left is adopted by its name and label", async () => {
    await present();
    const again = await Container.create(proxy);
    expect(again.state.containerId).toBe(state.containerId);
    expect(engine.done).toEqual([]);
  });

  it.each([
    ["another stack's", { "pgs.stack": "theirs" }, "belongs to the pgs stack theirs"],
    ["not pgs's", {}, "was not made by pgs"],
  ])("that is %s is refused in preview, and not touched", async (_, Labels, message) => {
    engine.addContainer("pgs-proxy", { Labels });
    expect(await Container.check?.(proxy, {})).toEqual([
      { property: "name", reason: expect.stringContaining(message) },
    ]);
    await expect(Container.create(proxy)).rejects.toThrow(message);
    expect(engine.names).toEqual(["pgs-proxy"]);
    expect(engine.done.filter((change) => !change.includes("network"))).toEqual([]);
    expect(await Container.read("", { ...proxy, containerId: "", networkIds: [], running: true })).toBe(
      undefined,
    );
  });

  it("of a stack without an id yet is nobody's own", async () => {
    engine.addContainer("pgs-proxy");
    const { stack: _, ...unknown } = proxy;
    expect(await Container.check?.(unknown, {})).toHaveLength(1);
  });

  it("is refused in preview where another stack has its network's name", async () => {
    engine.addNetwork("pgs-proxy", { "pgs.stack": "theirs" });
    expect(await Container.check?.(proxy, {})).toEqual([
      { property: "networks", reason: expect.stringContaining("the network pgs-proxy") },
    ]);
  });

  it.each<[string, Partial<ContainerInputs>]>([
    ["image", { image: "traefik:3.7", imageId: "sha256:37" }],
    ["image under the same tag", { imageId: "sha256:37" }],
    ["command", { command: ["--ping", "--accesslog"] }],
    ["environment", { env: ["A=1"] }],
    ["mount", { mounts: [{ volume: "pgs-proxy", path: "/etc/traefik/dynamic", readOnly: true }] }],
    ["port", { ports: [{ internal: 5432, external: 5433 }] }],
    ["folder in memory", { tmpfs: ["/tmp"] }],
    ["way to look up names", { resolvesNames: true }],
    ["weight", { cpuShares: 64 }],
  ])("is replaced for another %s, the new one made before the old one stops", async (_, change) => {
    await present();
    expect(await stack.up({ ...proxy, ...change })).toBe("update");
    expect(engine.done).toEqual([
      "create pgs-proxy--new",
      "stop pgs-proxy in 10 s",
      "remove pgs-proxy",
      "rename pgs-proxy--new to pgs-proxy",
      "start pgs-proxy",
    ]);
    expect(engine.names).toEqual(["pgs-proxy"]);
    expect((stack.state as unknown as ContainerState).containerId).toBe(engine.container("pgs-proxy").Id);
    expect(await stack.differs({ ...proxy, ...change })).toBe(false);
  });

  it("keeps running where the new one cannot be made", async () => {
    await present();
    engine.refusing = (change) => change.startsWith("create");
    await expect(stack.up({ ...proxy, command: [] })).rejects.toThrow("refused: create");
    expect(engine.done).toEqual([]);
    expect(engine.container("pgs-proxy").State.Running).toBe(true);
    expect((stack.state as unknown as ContainerState).containerId).toBe(state.containerId);
  });

  it("that is paused can be replaced", async () => {
    await present();
    Object.assign(engine.container("pgs-proxy").State, { Paused: true });
    await stack.up({ ...proxy, command: [] });
    expect(engine.done.slice(1, 3)).toEqual(["unpause pgs-proxy", "stop pgs-proxy in 10 s"]);
  });

  it("says nothing new of itself when the same is written in another order", () => {
    const spec = { ...proxy, network: "n", limits: { memory: 1, cpus: 1, pids: 1 } };
    const one = digestOf({ ...spec, options: { Env: ["a"], User: "1" } });
    expect(digestOf({ ...spec, options: { User: "1", Env: ["a"] } })).toBe(one);
    expect(
      digestOf({ ...spec, limits: { memory: 2, cpus: 2, pids: 2 }, options: { Env: ["a"], User: "1" } }),
    ).toBe(one);
    expect(digestOf({ ...spec, image: "other", options: { Env: ["a"], User: "1" } })).toBe(one);
    expect(digestOf({ ...spec, options: { Env: ["b"], User: "1" } })).not.toBe(one);
  });

  it("gets the image by its tag, and by its id where the tag has moved since the plan", async () => {
    engine.images.set("traefik:3.6", "sha256:moved");
    await expect(Container.create(proxy)).rejects.toThrow("pulumi up --refresh");
    expect(engine.names).toEqual([]);
    engine.images.set("kept", "sha256:36");
    await present();
    expect(engine.container("pgs-proxy")).toMatchObject({
      Image: "sha256:36",
      Config: { Image: "sha256:36" },
    });
  });

  it("is never made with an empty volume in place of one that is gone", async () => {
    engine.volumes.clear();
    await expect(Container.create(proxy)).rejects.toThrow("No such volume: pgs-proxy");
    expect(engine.names).toEqual([]);
  });

  it("with a volume that was made again by hand is replaced", async () => {
    await present();
    engine.container("pgs-proxy").Mounts = [];
    await Container.update("", state, proxy);
    expect(engine.done[0]).toBe("create pgs-proxy--new");
  });

  it("gets its limits live", async () => {
    await present();
    for (const change of [{ memory: 2 ** 29 }, { memory: 2 ** 27 }, { pids: 64 }]) {
      expect(await stack.up({ ...proxy, ...change })).toBe("update");
      expect(limitsOf(engine.container("pgs-proxy") as never)).toMatchObject(change);
      expect(await stack.differs({ ...proxy, ...change })).toBe(false);
    }
    expect(engine.done).toEqual(["update pgs-proxy", "update pgs-proxy", "update pgs-proxy"]);
  });

  it.each<[string, (one: ReturnType<typeof engine.container>) => void, string[], string]>([
    ["was stopped", ({ State }) => Object.assign(State, { Running: false }), ["start pgs-proxy"], "running"],
    ["was paused", ({ State }) => Object.assign(State, { Paused: true }), ["unpause pgs-proxy"], "running"],
    [
      "fails to start",
      ({ State }) => Object.assign(State, { Restarting: true }),
      ["restart pgs-proxy"],
      "running",
    ],
    [
      "was taken out of its network",
      ({ NetworkSettings }) => Object.assign(NetworkSettings, { Networks: {} }),
      ["connect pgs-proxy to pgs-proxy"],
      "container",
    ],
    [
      "has another memory limit",
      ({ HostConfig }) => Object.assign(HostConfig, { Memory: 1 }),
      ["update pgs-proxy"],
      "limits",
    ],
    [
      "may swap",
      ({ HostConfig }) => Object.assign(HostConfig, { MemorySwap: -1 }),
      ["update pgs-proxy"],
      "limits",
    ],
    [
      "is not started again",
      ({ HostConfig }) => Object.assign(HostConfig, { RestartPolicy: { Name: "no" } }),
      ["update pgs-proxy"],
      "limits",
    ],
  ])("that %s is put right in place, and the plan says so", async (_, change, done, word) => {
    await present();
    change(engine.container("pgs-proxy"));
    expect(await stack.up(proxy)).toBe("update");
    expect(info.mock.calls).toEqual([
      [`Container acme was changed by hand (${word}); \`pulumi up\` restores it`],
    ]);
    expect(engine.done).toEqual(done);
    expect(await stack.differs(proxy)).toBe(false);
  });

  it("that was removed by hand is made again, and the plan says so", async () => {
    await present();
    engine.containers = [];
    expect(await stack.up(proxy)).toBe("update");
    expect(info.mock.calls).toEqual([["Container acme is missing; `pulumi up` restores it"]]);
    expect(engine.done).toEqual(["create pgs-proxy", "start pgs-proxy"]);
  });

  it("that somebody renamed gets its name back", async () => {
    await present();
    engine.container("pgs-proxy").Name = "/mine";
    expect(await stack.up(proxy)).toBe("update");
    expect(engine.done).toEqual(["rename mine to pgs-proxy"]);
    expect((stack.state as unknown as ContainerState).containerId).toBe(state.containerId);
  });

  it("with another name is renamed, and replaced only where something else differs", async () => {
    await present();
    expect(await stack.up({ ...proxy, name: "b-proxy" })).toBe("update");
    expect(engine.done).toEqual(["rename pgs-proxy to b-proxy"]);
  });

  it("gets another network before it leaves the first, which goes with it", async () => {
    await present();
    const networks = [{ ...proxy.networks[0], name: "b-proxy", internal: false }];
    await stack.up({ ...proxy, networks });
    expect(engine.networks.map(({ Name }) => Name)).toEqual(["b-proxy"]);
    expect(engine.members("b-proxy")).toEqual(["pgs-proxy"]);
    expect(engine.done.at(-1)).toBe("remove network pgs-proxy");
  });

  it("is in all its networks", async () => {
    const networks = [...proxy.networks, { name: "out", internal: false }];
    await present({ ...proxy, networks });
    expect(engine.members("out")).toEqual(["pgs-proxy"]);
    const { Networks } = engine.container("pgs-proxy").NetworkSettings;
    delete Networks.out;
    expect(await stack.up({ ...proxy, networks })).toBe("update");
    expect(engine.members("out")).toEqual(["pgs-proxy"]);
  });

  it("of an up that failed stays known by its id, and the next up finishes it", async () => {
    engine.refusing = (change) => change.startsWith("start");
    const error = await Container.create(proxy).catch((reason) => reason);
    expect(error).toBeInstanceOf(IncompleteError);
    expect(error).toMatchObject({
      id: "pgs-proxy",
      properties: {
        containerId: engine.container("pgs-proxy").Id,
        networkIds: [engine.network("pgs-proxy").Id],
        running: false,
      },
    });
    await expect(stack.up(proxy)).rejects.toThrow("refused");
    engine.refusing = undefined;
    expect(await stack.up(proxy)).toBe("update");
    expect(engine.container("pgs-proxy").State.Running).toBe(true);
    await stack.destroy();
    expect([engine.containers, engine.networks]).toEqual([[], []]);
  });

  it("that a killed run was about to be replaced with is removed by the next, whatever that is to do", async () => {
    await present();
    engine.refusing = (change) => /^(stop|remove pgs-proxy--new)/.test(change);
    await stack.killedUp({ ...proxy, command: [] });
    engine.refusing = undefined;
    expect(engine.names).toEqual(["pgs-proxy", "pgs-proxy--new"]);
    await Container.update("", state, proxy);
    expect(engine.names).toEqual(["pgs-proxy"]);

    engine.addContainer("pgs-proxy--new", { Labels: { "pgs.stack": "ours" } }, false);
    await Container.update("", state, { ...proxy, command: [] });
    expect(engine.names).toEqual(["pgs-proxy"]);

    engine.addContainer("pgs-proxy--new", { Labels: { "pgs.stack": "ours" } }, false);
    await removeContainer(proxy, engine.container("pgs-proxy").Id);
    expect(engine.names).toEqual([]);
  });

  it("of another's under the name for the new one is in the way, and stays", async () => {
    await present();
    engine.addContainer("pgs-proxy--new");
    await expect(stack.up({ ...proxy, command: [] })).rejects.toThrow("already in use");
    expect(engine.done).toEqual([]);
    expect(engine.names).toEqual(["pgs-proxy", "pgs-proxy--new"]);
  });
});

describe("removing a container", () => {
  it("stops it cleanly first, and keeps its volume", async () => {
    await present();
    await stack.destroy();
    expect(engine.done).toEqual(["stop pgs-proxy in 10 s", "remove pgs-proxy", "remove network pgs-proxy"]);
    expect([...engine.volumes.keys()]).toEqual(["pgs-proxy"]);
  });

  it("never takes its successor of the same name", async () => {
    await present();
    engine.containers = [];
    await Container.create(proxy);
    engine.done = [];
    await Container.delete("pgs-proxy", state);
    expect(engine.done).toEqual([]);
    expect(engine.names).toEqual(["pgs-proxy"]);
  });

  it("that is gone, or that somebody made another stack's, is no error", async () => {
    await present();
    engine.container("pgs-proxy").Config.Labels["pgs.stack"] = "theirs";
    await Container.delete("pgs-proxy", state);
    expect(engine.names).toEqual(["pgs-proxy"]);
    engine.containers = [];
    engine.networks = [];
    await Container.delete("pgs-proxy", state);
    await removeContainer(proxy, undefined);
    expect(engine.done).toEqual([]);
  });

  it("that somebody renamed finds it by its id", async () => {
    await present();
    engine.container("pgs-proxy").Name = "/mine";
    await stack.destroy();
    expect(engine.names).toEqual([]);
  });
});

describe("a port", () => {
  const published = { HostConfig: { PortBindings: { "80/tcp": [{ HostPort: "5432" }] } } };

  it("that another container has is refused in preview, with its name", async () => {
    engine.addContainer("somebody", published);
    expect(await Container.check?.(proxy, {})).toEqual([
      { property: "ports", reason: expect.stringContaining("published by the container somebody") },
    ]);
  });

  it("of the stack's own is no reason to refuse", async () => {
    engine.addContainer("pgs-proxy", { ...published, Labels: { "pgs.stack": "ours" } });
    expect(await Container.check?.(proxy, {})).toEqual([]);
  });

  it("that another program has is refused in preview, on this machine alone", async () => {
    const program = createServer();
    await new Promise<void>((resolve) => program.listen(0, resolve));
    const ports = [{ internal: 5432, external: (program.address() as { port: number }).port }];
    const here = { ...proxy, host: "unix:///run/docker.sock", ports };
    const check = () => Promise.resolve(Container.check?.(here, {}));
    expect(await check()).toEqual([
      { property: "ports", reason: expect.stringContaining("another program on this machine") },
    ]);
    expect(await Container.check?.({ ...here, host: proxy.host }, {})).toEqual([]);
    await new Promise((resolve) => program.close(resolve));
    expect(await check()).toEqual([]);
  });
});

describe("names that are changed, with a failure in between", () => {
  const renamed: ContainerInputs = {
    ...proxy,
    name: "b-proxy",
    networks: [{ name: "b-proxy", internal: false, pool: "10.213.0.0/16", prefixLength: 29 }],
    command: ["--ping", "b"],
  };

  /** How many changes such an up makes. */
  const changes = Array.from({ length: 8 }, (_, index) => index);

  /** The engine refuses the change with this number and, for good, those after it. */
  function failAt(number: number, forGood: boolean): void {
    let made = 0;
    engine.refusing = () => {
      const at = made++;
      return forGood ? at >= number : at === number;
    };
  }

  async function converges(inputs: ContainerInputs): Promise<void> {
    engine.refusing = undefined;
    await stack.up(inputs);
    expect(engine.names).toEqual([inputs.name]);
    expect(engine.container(inputs.name).State.Running).toBe(true);
    expect(engine.networks.map(({ Name }) => Name)).toEqual([inputs.networks[0]?.name]);
    expect(engine.members(inputs.networks[0]?.name ?? "")).toEqual([inputs.name]);
    expect(await stack.differs(inputs)).toBe(false);
    await stack.destroy();
    expect([engine.containers, engine.networks]).toEqual([[], []]);
  }

  describe.each(changes)("at change %i", (number) => {
    it.each([
      ["changed back", proxy],
      ["tried again", renamed],
    ])("converge when %s", async (_, last) => {
      await present();
      failAt(number, false);
      await expect(stack.up(renamed)).rejects.toThrow("refused");
      await converges(last);
    });

    it("converge when the engine answers nothing more and all is tried again", async () => {
      await present();
      failAt(number, true);
      await expect(stack.up(renamed)).rejects.toThrow("refused");
      await converges(renamed);
    });
  });

  it("are all the changes that there are", async () => {
    await present();
    await stack.up(renamed);
    expect(engine.done).toHaveLength(changes.length);
  });
});
