import * as pulumi from "@pulumi/pulumi";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { Programs } from "../../../provider/programs";
import { engine } from "../support/engine";
import { StackOfOne } from "../support/stack";

vi.mock("../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

const programs = {
  stack: "ours",
  volume: "pgs--programs",
  image: "postgres:18",
  files: { "start-server": "#!/bin/sh\n" },
};
let stack: StackOfOne;
vi.spyOn(pulumi.log, "info").mockResolvedValue();

/** What is in the volume. */
function files(): Record<string, string> {
  return Object.fromEntries(engine.files.get("pgs--programs") ?? []);
}

beforeEach(() => {
  engine.reset();
  stack = new StackOfOne("Programs");
});

describe("the volume with programs", () => {
  it("is made with the stack's label, and filled without starting anything", async () => {
    await stack.up(programs);
    expect(engine.volumes.get("pgs--programs")).toEqual({ "pgs.stack": "ours" });
    expect(files()).toEqual({ "/programs/start-server": "#!/bin/sh\n" });
    expect(engine.done.some((change) => change.startsWith("start"))).toBe(false);
    expect(engine.names).toEqual([]);
    expect(await stack.up(programs)).toBeUndefined();
  });

  it("gets a changed program in place", async () => {
    await stack.up(programs);
    expect(await stack.up({ ...programs, files: { "start-server": "new" } })).toBe("update");
    expect(files()).toEqual({ "/programs/start-server": "new" });
  });

  it("keeps its name, which running containers know", async () => {
    await stack.up(programs);
    const renamed = { ...programs, volume: "b--programs" };
    expect(await stack.up(renamed)).toBeUndefined();
    await stack.up({ ...renamed, files: { "start-server": "new" } });
    expect([...engine.volumes.keys()]).toEqual(["pgs--programs"]);
    expect(stack.state?.volume).toBe("pgs--programs");
  });

  it("that is gone is made again", async () => {
    await stack.up(programs);
    engine.volumes.clear();
    engine.files.clear();
    expect(await stack.up(programs)).toBe("update");
    expect(files()).toEqual({ "/programs/start-server": "#!/bin/sh\n" });
  });

  it.each([
    ["another stack's", { "pgs.stack": "theirs" }, "belongs to the pgs stack theirs"],
    ["not pgs's", {}, "was not made by pgs"],
  ])("that is %s is refused in preview, and not written to", async (_, labels, message) => {
    engine.volumes.set("pgs--programs", labels);
    expect(await Programs.check?.(programs, {})).toEqual([
      { property: "volume", reason: expect.stringContaining(message) },
    ]);
    await expect(Programs.create(programs)).rejects.toThrow(message);
    expect(engine.done).toEqual([]);
    await Programs.delete("pgs--programs", programs);
    expect(engine.volumes.size).toBe(1);
  });

  it("that an interrupted run left is adopted", async () => {
    engine.volumes.set("pgs--programs", { "pgs.stack": "ours" });
    expect(await Programs.check?.(programs, {})).toEqual([]);
    await stack.up(programs);
    expect(files()).toEqual({ "/programs/start-server": "#!/bin/sh\n" });
  });

  it("leaves no container behind when it cannot be filled", async () => {
    engine.refusing = (change) => change.startsWith("put files");
    await expect(stack.up(programs)).rejects.toThrow("refused");
    expect(engine.names).toEqual([]);
  });

  it("goes with the stack, and is no error when it is gone", async () => {
    await stack.up(programs);
    const state = stack.state as unknown as typeof programs;
    await stack.destroy();
    expect(engine.volumes.size).toBe(0);
    await Programs.delete("pgs--programs", state);
  });
});
