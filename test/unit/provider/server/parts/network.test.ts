import { beforeEach, describe, expect, it, vi } from "vitest";
import { clearCache } from "../../../../../docker/cache";
import { network } from "../../../../../provider/server/parts/network";
import { engine } from "../../../support/engine";
import { acme, acmeWith, host } from "../../../support/postgres";

vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

const sight = { info: undefined, inside: undefined };
const differs = (inputs = acme()) => {
  clearCache();
  return network.differs(inputs, sight);
};

beforeEach(host);

describe("a tenant's network", () => {
  it("has no way out, and the running proxy in it", async () => {
    expect(await differs()).toBe(true);
    const id = await network.apply(acme());
    expect(engine.network(id)).toMatchObject({
      Name: "pgs-acme",
      Internal: true,
      Labels: { "pgs.stack": "ours" },
    });
    expect(engine.members("pgs-acme")).toEqual(["pgs-proxy"]);
    expect(await differs()).toBe(false);
    expect(await network.apply(acme())).toBe(id);
    expect(engine.done).toHaveLength(2);
  });

  it("that the proxy was taken out of, or that another proxy is in, gets the proxy again", async () => {
    await network.apply(acme());
    delete engine.container("pgs-proxy").NetworkSettings.Networks["pgs-acme"];
    expect(await differs()).toBe(true);
    await network.apply(acme());
    expect(await differs()).toBe(false);
    expect(await differs(acmeWith({ network: { proxy: "gone" } }))).toBe(true);
  });

  it("that was made again by hand is another network, though it has the name", async () => {
    await network.apply(acme());
    engine.networks = engine.networks.filter(({ Name }) => Name !== "pgs-acme");
    engine.addNetwork("pgs-acme", { "pgs.stack": "ours" });
    expect(await differs()).toBe(true);
  });

  it("is left for another by its id, whatever else there is", async () => {
    const former = await network.apply(acme());
    const inputs = acmeWith({ network: { name: "b" } });
    const id = await network.apply(inputs);
    expect(await network.leave(inputs, id, { ...acme(), networkIds: [former, id, "gone"] })).toEqual([id]);
    expect(engine.networks.map(({ Name }) => Name)).toEqual(["pgs-proxy", "b"]);
  });

  it("is found by its name where it is the stack's own", async () => {
    expect(await network.find(acme())).toBeUndefined();
    const { Id, Labels } = engine.addNetwork("pgs-acme", { "pgs.stack": "ours" });
    expect(await network.find(acme())).toBe(Id);
    Labels["pgs.stack"] = "theirs";
    expect(await network.find(acme())).toBeUndefined();
  });
});
