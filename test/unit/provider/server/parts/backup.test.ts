import * as pulumi from "@pulumi/pulumi";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { backup } from "../../../../../provider/server/parts/backup";
import { engine } from "../../../support/engine";
import { acme, acmeWith, host, server } from "../../../support/postgres";

vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

const warn = vi.spyOn(pulumi.log, "warn").mockResolvedValue();
const sight = { info: undefined, inside: undefined };
const none = () => ({ ...acme(), backup: undefined });

beforeEach(() => {
  host();
  warn.mockClear();
});

describe("a tenant's backups", () => {
  it("are in a container and a volume of their own, without a network", async () => {
    expect(await backup.differs(acme(), sight)).toBe(true);
    const id = await backup.apply(acme(), undefined);
    const made = engine.container("pgs-acme--backup");
    expect(made.Id).toBe(id);
    expect(made.HostConfig).toMatchObject({ NetworkMode: "none", ReadonlyRootfs: true, Memory: 512 << 20 });
    expect(made.Mounts).toEqual([
      { Name: "pgs-acme", Destination: "/var/lib/postgresql", RW: false },
      { Name: "pgs-acme--backup", Destination: "/var/lib/barman", RW: true },
    ]);
    expect(engine.volumes.get("pgs-acme--backup")).toEqual({
      "pgs.stack": "ours",
      "pgs.tenant": "acme",
    });
    expect(await backup.differs(acme(), sight)).toBe(false);
  });

  it("that nobody wants differ from nothing, and make nothing", async () => {
    expect(await backup.differs(none(), sight)).toBe(false);
    expect(await backup.apply(none(), undefined)).toBeUndefined();
    await backup.remove(none(), "c1");
    expect(engine.done).toEqual([]);
  });

  it.each([
    ["stopped", { Running: false }],
    ["paused", { Paused: true }],
  ])("that were %s go on", async (_, state) => {
    const id = await backup.apply(acme(), undefined);
    Object.assign(engine.container("pgs-acme--backup").State, state);
    expect(await backup.differs(acme(), sight)).toBe(true);
    expect(await backup.apply(acme(), id)).toBe(id);
    expect(await backup.differs(acme(), sight)).toBe(false);
  });

  it("with another time or retention get another container on the same volume", async () => {
    await backup.apply(acme(), undefined);
    for (const change of [{ schedule: "03:00" }, { retention: 30 }]) {
      const inputs = acmeWith({ backup: change });
      expect(await backup.differs(inputs, sight)).toBe(true);
      await backup.apply(inputs, undefined);
      expect(await backup.differs(inputs, sight)).toBe(false);
    }
    expect(server().log).toEqual([]);
    expect(engine.container("pgs-acme--backup").Config.Command).toContain("30");
  });

  it("that end archive what was received, and stay", async () => {
    const id = await backup.apply(acme(), undefined);
    await backup.remove(acme(), id);
    expect(server().log).toEqual(["backup retire"]);
    expect(engine.names).toEqual(["pgs-proxy"]);
    expect(engine.volumes.has("pgs-acme--backup")).toBe(true);
    expect(warn).not.toHaveBeenCalled();
    await backup.remove(acme(), id);
    expect(server().log).toEqual(["backup retire"]);
  });

  it("whose container was stopped is started to end them", async () => {
    const id = await backup.apply(acme(), undefined);
    Object.assign(engine.container("pgs-acme--backup").State, { Running: false });
    await backup.remove(acme(), id);
    expect(server().log).toEqual(["backup retire"]);
  });

  it("that do not answer keep nothing from being removed, and say what may be missing", async () => {
    const id = await backup.apply(acme(), undefined);
    engine.answer = () => ({ stdout: '{"error": "no\\u001b]0;x"}' });
    await backup.remove(acme(), id);
    expect(engine.names).toEqual(["pgs-proxy"]);
    expect(warn.mock.calls).toEqual([
      [expect.stringContaining("pgs-acme--backup: its last WAL may be missing")],
    ]);
    expect(String(warn.mock.calls)).not.toContain("\u001b");
  });

  it("of another stack are not touched", async () => {
    const id = await backup.apply(acme(), undefined);
    engine.container("pgs-acme--backup").Config.Labels["pgs.stack"] = "theirs";
    await backup.remove(acme(), id);
    expect([engine.names, server().log]).toEqual([["pgs-acme--backup", "pgs-proxy"], []]);
  });
});
