import { afterEach, describe, expect, it, vi } from "vitest";
import { Platform } from "../../../provider/platform";
import { find, types } from "../support/graph";
import { runProgram } from "../support/program";

let uid = "";
vi.mock("../../../kubernetes/client", () => ({
  kubernetesClient: async () => ({ core: { readNamespace: async () => ({ metadata: { uid } }) } }),
}));
afterEach(() => {
  uid = "";
});

const onCluster = { platform: "kubernetes", prefix: "pgs" } as const;

describe("a stack's tenants stay where their data is:", () => {
  it("another platform is refused, both ways", async () => {
    const { state } = await Platform.create({ platform: "docker" });
    expect(await Platform.refusal?.(state, onCluster)).toMatch(
      /^pgs:platform: .*on docker.* write docker again/,
    );
    uid = "one";
    const other = (await Platform.create(onCluster)).state;
    expect(await Platform.refusal?.(other, { platform: "docker" })).toMatch(/write kubernetes again/);
    expect(await Platform.refusal?.(state, { platform: "docker" })).toBeUndefined();
  });

  it("another cluster is refused, in a plan and by a look, and another way to the same one is not", async () => {
    uid = "one";
    const { id, state } = await Platform.create(onCluster);
    expect(await Platform.refusal?.(state, { ...onCluster, context: "renamed" })).toBeUndefined();
    expect(await Platform.read(id, state)).toEqual(state);
    uid = "two";
    expect(await Platform.refusal?.(state, onCluster)).toMatch(/^pgs:kubernetes: this is another cluster/);
    await expect(Platform.read(id, state)).rejects.toThrow("another cluster");
  });

  it("another prefix is refused on a cluster, whose namespaces have it", async () => {
    const { state } = await Platform.create(onCluster);
    expect(await Platform.refusal?.(state, { ...onCluster, prefix: "new" })).toMatch(/write pgs again/);
  });

  it("all that has the stack's id waits for it, and on Docker it has nothing that may change", async () => {
    const graph = await runProgram("tenants: { acme: {} }");
    expect(find(graph, "platform", "platform").inputs).toEqual({ platform: "docker" });
    expect(find(graph, "randomId", "stack").dependencies).toContain(`${types.platform} platform`);
  });
});
