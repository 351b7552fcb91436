import type Docker from "dockerode";
import { beforeEach, describe, expect, it, vi } from "vitest";
import {
  containerOptions,
  definitionOf,
  removeServer,
  runContainer,
  type ServerContainer,
} from "../../provider/postgres-server/container";

interface Container {
  Id: string;
  name: string;
  Image: string;
  Config: { Labels: Record<string, string> };
  HostConfig: Docker.HostConfig;
  Mounts: { Name: string; Destination: string }[];
  NetworkSettings: { Networks: Record<string, { NetworkID: string }> };
  State: { Running: boolean; Paused: boolean; Restarting: boolean };
}

/** What is done to the engine, in order. */
let done: string[];
let containers: Container[];
let volumes: string[];
/** What the engine answers to a request to make one. */
let refusal: Error | undefined;

function missing(): Error {
  return Object.assign(new Error("no such thing"), { statusCode: 404 });
}

function containerAt(key: string) {
  const find = () => {
    const found = containers.find(({ Id, name }) => Id === key || name === key);
    if (!found) throw missing();
    return found;
  };
  const noted = (what: string, change: (container: Container) => void) => async () => {
    done.push(`${what} ${find().Id}`);
    change(find());
  };
  return {
    id: key,
    inspect: async () => find(),
    start: noted("start", ({ State }) => Object.assign(State, { Running: true })),
    unpause: noted("unpause", ({ State }) => Object.assign(State, { Paused: false })),
    stop: async ({ t }: { t: number }) =>
      noted(`stop in ${t} s`, ({ State }) => Object.assign(State, { Running: false }))(),
    update: noted("update", () => {}),
    rename: async ({ name }: { name: string }) =>
      noted(`rename to ${name}`, (container) => Object.assign(container, { name }))(),
    remove: async ({ v }: { v: boolean }) =>
      noted(`remove${v ? " with volumes" : ""}`, (one) => containers.splice(containers.indexOf(one), 1))(),
  };
}

const docker = {
  getContainer: containerAt,
  getVolume: (name: string) => ({
    inspect: async () => (volumes.includes(name) ? {} : Promise.reject(missing())),
  }),
  getImage: () => ({ inspect: async () => ({}) }),
  getNetwork: () => ({
    connect: async ({ Container }: { Container: string }) => void done.push(`connect ${Container}`),
  }),
  listNetworks: async () => [{ Name: "pgs-acme", Id: "the network" }],
  createContainer: async ({ name, ...options }: Docker.ContainerCreateOptions & { name: string }) => {
    if (refusal) throw refusal;
    done.push(`create ${name}`);
    containers.push({ ...made(options), Id: "made", name });
    return containerAt("made");
  },
};
vi.mock("../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => docker,
}));
vi.mock("../../docker/cache", async (original) => ({
  ...(await original<object>()),
  networksByName: async () =>
    new Map((await docker.listNetworks()).map((network) => [network.Name, network])),
}));

const inputs: ServerContainer = {
  container: "pgs-acme",
  image: "sha256:18.6",
  volume: "pgs-acme",
  network: "pgs-acme",
  adopted: false,
  stack: "ours",
  definition: definitionOf(false),
  memory: 2 ** 28,
  cpus: 1,
  settingsAtNextStart: { shared_buffers: "64MB" },
};

/** A container as the engine tells of it that was made with these options. */
function made({ Image = "", Labels = {}, HostConfig = {} }: Docker.ContainerCreateOptions): Container {
  const network = HostConfig.NetworkMode ?? "";
  return {
    Id: "present",
    name: "pgs-acme",
    Image,
    Config: { Labels },
    HostConfig,
    Mounts: (HostConfig.Mounts ?? []).map(({ Source, Target }) => ({ Name: Source, Destination: Target })),
    NetworkSettings: { Networks: { [network]: { NetworkID: "the network" } } },
    State: { Running: true, Paused: false, Restarting: false },
  };
}

/** Its container, made from inputs that differ in this. */
function present(different: Partial<ServerContainer> = {}): Container {
  const container = made(containerOptions({ ...inputs, ...different }));
  containers.push(container);
  return container;
}

beforeEach(() => {
  done = [];
  containers = [];
  volumes = ["pgs-acme"];
  refusal = undefined;
});

describe("a server's container", () => {
  it("is made and started where there is none", async () => {
    expect(await runContainer(inputs, undefined)).toEqual({
      containerId: "made",
      limits: { memory: 2 ** 28, cpus: 1 },
    });
    expect(done).toEqual(["create pgs-acme", "start made"]);
  });

  it("is never made in the place of a volume that is gone", async () => {
    volumes = [];
    await expect(runContainer(inputs, undefined)).rejects.toThrow("No such volume: pgs-acme");
    expect(done).toEqual([]);
  });

  it("is left alone when it is as it should be", async () => {
    present();
    expect((await runContainer(inputs, "present")).containerId).toBe("present");
    expect(done).toEqual([]);
  });

  it("that was stopped, paused or taken out of its network is put right, and not made anew", async () => {
    const container = present();
    Object.assign(container.State, { Running: false });
    await runContainer(inputs, "present");
    Object.assign(container.State, { Paused: true });
    container.NetworkSettings.Networks = {};
    await runContainer(inputs, "present");
    expect(done).toEqual(["start present", "connect present", "unpause present"]);
  });

  it("gets its limits at once, but waits with less memory", async () => {
    present({ memory: 2 ** 29, cpus: 2 });
    expect((await runContainer(inputs, "present")).limits).toEqual({ memory: 2 ** 29, cpus: 2 });
    expect(done).toEqual([]);
    await runContainer({ ...inputs, memory: 2 ** 30 }, "present");
    expect(done).toEqual(["update present"]);
  });

  it.each([
    ["image", { image: "sha256:18.5" }],
    ["definition", { definition: "another" }],
    ["volume", { volume: "pgs-other" }],
    ["network", { network: "pgs--tenants" }],
  ])("of another %s runs until the new one is there, and is shut down cleanly", async (_, different) => {
    present(different);
    expect((await runContainer(inputs, "present")).containerId).toBe("made");
    expect(done).toEqual([
      "create pgs-acme_new",
      "stop in 120 s present",
      "remove present",
      "rename to pgs-acme made",
      "start made",
    ]);
    expect(containers.map(({ name }) => name)).toEqual(["pgs-acme"]);
  });

  it("goes on where the new one cannot be made", async () => {
    present({ image: "sha256:18.5" });
    refusal = new Error("no space left on device");
    await expect(runContainer(inputs, "present")).rejects.toThrow("no space left");
    expect(done).toEqual([]);
  });

  it("that was paused can end", async () => {
    Object.assign(present({ image: "sha256:18.5" }).State, { Paused: true });
    await runContainer(inputs, "present");
    expect(done.slice(1, 3)).toEqual(["unpause present", "stop in 120 s present"]);
  });

  it("that somebody gave another name gets its own back", async () => {
    present().name = "somebody-elses-idea";
    expect((await runContainer(inputs, "present")).containerId).toBe("present");
    expect(done).toEqual(["rename to pgs-acme present"]);
    present().name = "another-idea";
    containers = containers.slice(1);
    await removeServer(inputs, "present");
    expect(containers).toEqual([]);
  });

  it("of another stack, or of none, is not touched", async () => {
    present({ stack: "theirs" });
    await expect(runContainer(inputs, undefined)).rejects.toThrow(
      "a container pgs-acme exists that is not this stack's",
    );
    await removeServer(inputs, undefined);
    expect(done).toEqual([]);
  });

  it("is stopped cleanly before it is removed, and its volume stays", async () => {
    present();
    await removeServer(inputs, "present");
    expect(done).toEqual(["stop in 120 s present", "remove present"]);
    await removeServer(inputs, "present");
  });

  it("that is the Docker provider's is left to it, stopped and under another name", async () => {
    delete present().Config.Labels["pgs.made"];
    await runContainer(inputs, "present");
    expect(done).toEqual([
      "create pgs-acme_new",
      "stop in 120 s present",
      "rename to pgs-acme_former present",
      "rename to pgs-acme made",
      "start made",
    ]);
    // As after a run that was cut off there.
    containers = containers.filter(({ Id }) => Id === "present");
    expect((await runContainer(inputs, "present")).containerId).toBe("made");
  });
});
