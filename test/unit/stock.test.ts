import { beforeEach, describe, expect, it, vi } from "vitest";
import { takeStock } from "../../provider/stock";

/** What is done to the engine, in order. */
let done: string[];
let containers: { Id: string; Names: string[]; State: string; Labels: object; Mounts: object[] }[];
let images: { Id: string; Config: { Volumes?: object } }[];

const docker = {
  listContainers: async () => containers,
  listImages: async () => images,
  getImage: (id: string) => ({ inspect: async () => images.find(({ Id }) => Id === id) }),
  getContainer: (id: string) => ({
    stop: async ({ t }: { t: number }) => void done.push(`stop ${id} ${t}`),
    remove: async ({ v }: { v: boolean }) => void done.push(`remove ${id}${v ? " with volumes" : ""}`),
  }),
  createContainer: async ({ name, Image }: { name: string; Image: string }) =>
    void done.push(`create ${name} of ${Image}`),
};
vi.mock("../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => docker,
}));

const container = (
  Id: string,
  name: string,
  State = "running",
  Labels: object = { "pgs.generation": "one" },
) => ({
  Id,
  Names: [`/${name}`],
  State,
  Labels,
  Mounts: [],
});

describe("the stock of a stack's containers", () => {
  const gone = "a".repeat(64);

  beforeEach(() => {
    done = [];
    containers = [
      container("1", "pgs-acme"),
      container("2", "pgs-left"),
      container("3", "pgs-old", "exited", {}),
    ];
    images = [
      { Id: "postgres", Config: { Volumes: { "/var/lib/postgresql": {} } } },
      { Id: "traefik", Config: {} },
    ];
  });

  it("is only looked at in a preview", async () => {
    expect(await takeStock({ stack: "s" })).toEqual({
      generations: { "pgs-acme": "one", "pgs-left": "one", "pgs-old": "" },
      removed: [],
      gone: [],
    });
    expect(done).toEqual([]);
  });

  it("loses in an up what is not in the state, stopped first and without its volumes", async () => {
    const { removed, generations } = await takeStock({ stack: "s", inState: { docker: [], servers: ["1"] } });
    expect(removed).toEqual(["pgs-left", "pgs-old"]);
    expect(generations).toEqual({ "pgs-acme": "one" });
    expect(done.toSorted()).toEqual(["remove 2", "remove 3", "stop 2 120"]);
  });

  it("has in an up something for the Docker provider to delete where a container is gone, of an image without volumes", async () => {
    expect(
      await takeStock({ stack: "s", inState: { docker: ["1", "2", "3", gone], servers: ["b"] } }),
    ).toMatchObject({ gone: [gone] });
    expect(done).toEqual([`create ${gone} of traefik`]);
  });

  it("loses what stood in for one in the last up, and says nothing of it", async () => {
    containers = [container("4", gone, "created", {})];
    expect((await takeStock({ stack: "s", inState: { docker: [], servers: [] } })).removed).toEqual([]);
    expect(done).toEqual(["remove 4"]);
  });

  it("is an error on a host that has neither containers nor images of the stack", async () => {
    containers = [];
    images = [];
    await expect(takeStock({ stack: "s", inState: { docker: [gone], servers: [] } })).rejects.toThrow(
      "pulumi up --refresh",
    );
  });
});
