import type Docker from "dockerode";
import fc from "fast-check";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { limits, limitsFor, restartReason } from "../../../../../provider/server/parts/limits";
import { engine } from "../../../support/engine";
import { acme, acmeWith, FakePostgres, host, running } from "../../../support/postgres";

vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

beforeEach(host);

const info = () => engine.container("pgs-acme") as unknown as Docker.ContainerInspectInfo;

describe("limits", () => {
  it("are applied live, and then do not differ", async () => {
    const server = running(new FakePostgres());
    expect(limits.differs(acme(), { info: info(), inside: undefined })).toBe(true);
    await limits.apply(server, { memory: 1, cpus: 1, pids: 1 });
    expect(limits.differs(acme(), { info: info(), inside: undefined })).toBe(false);
    expect(info().HostConfig).toMatchObject({
      Memory: 2 ** 29,
      MemorySwap: 2 ** 29,
      NanoCpus: 1e9,
      PidsLimit: 2048,
    });
    expect(engine.done).toEqual(["update pgs-acme"]);
  });

  it("that are as they should be cost nothing", async () => {
    await limits.apply(running(new FakePostgres()), limitsFor(acme()));
    expect(engine.done).toEqual([]);
  });

  it("take processors in hundredths as they are written", async () => {
    const inputs = acmeWith({ limits: { cpus: 0.29 } });
    await limits.apply(running(new FakePostgres(), inputs), limitsFor(acme()));
    expect(info().HostConfig.NanoCpus).toBe(290_000_000);
    expect(limits.differs(inputs, { info: info(), inside: undefined })).toBe(false);
  });

  it("cannot differ where there is no container", () => {
    expect(limits.differs(acme(), { info: undefined, inside: undefined })).toBe(false);
  });

  it("restart a server only where less memory would be filled by its shared_buffers", () => {
    expect(restartReason(1000, 416, 250)).toContain("shared_buffers");
    expect(restartReason(1000, 417, 250)).toBeUndefined();
    expect(restartReason(1000, 2000, 1900)).toBeUndefined();
    expect(restartReason(1000, 10, undefined)).toBeUndefined();
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.nat(), (present, wanted, buffers) => {
        fc.pre(wanted >= present);
        expect(restartReason(present, wanted, buffers)).toBeUndefined();
      }),
    );
  });
});
