import { beforeEach, describe, expect, it, vi } from "vitest";
import { clearCache } from "../../../../../docker/cache";
import { route } from "../../../../../provider/server/parts/route";
import { engine } from "../../../support/engine";
import { acme, acmeWith, host, routeFile } from "../../../support/postgres";

vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

const sight = { info: undefined, inside: undefined };

beforeEach(() => {
  host();
  vi.useRealTimers();
});

describe("a route", () => {
  it("is written, and waited for until the proxy has applied it", async () => {
    expect(await route.differs(acme(), sight)).toBe(true);
    const applied = await route.apply(acme());
    expect(routeFile()).toBe("open\n");
    const started = performance.now();
    await applied?.();
    expect(performance.now() - started).toBeGreaterThan(200);
  });

  it("that is as it should be is not written, nor waited for", async () => {
    await route.apply(acme());
    clearCache();
    engine.ran = [];
    expect(await route.apply(acme())).toBeUndefined();
    expect(engine.ran).toEqual([]);
    expect(await route.differs(acmeWith({ route: { content: "closed" } }), sight)).toBe(true);
  });

  it("that an earlier version wrote for root alone is written again: cancel requests need it", async () => {
    await route.apply(acme());
    clearCache();
    engine.modes.set(acme().route.path, 0o600);
    expect(await route.differs(acme(), sight)).toBe(true);
  });

  it("goes with the tenant; one that is gone is no error", async () => {
    await route.apply(acme());
    await route.remove(acme());
    expect(routeFile()).toBeUndefined();
    await route.remove(acme());
  });

  it("needs a proxy that runs", async () => {
    Object.assign(engine.container("pgs-proxy").State, { Running: false });
    await expect(route.apply(acme())).rejects.toThrow("pgs-proxy is not running");
  });
});
