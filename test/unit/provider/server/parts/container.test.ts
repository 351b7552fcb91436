import type Docker from "dockerode";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { createOptions, digestOf } from "../../../../../provider/container/reconcile";
import { container, dataElsewhere, serverContainer } from "../../../../../provider/server/parts/container";
import { engine } from "../../../support/engine";
import { acme, acmeWith, host } from "../../../support/postgres";

vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

beforeEach(() => {
  host();
  engine.addNetwork("pgs-acme", { "pgs.stack": "ours" });
});

function seen() {
  const info = engine.container("pgs-acme") as unknown as Docker.ContainerInspectInfo;
  return { info, inside: undefined };
}

describe("a server's container", () => {
  it("can be read by a person, and has no secret", async () => {
    await container.apply(acme(), {});
    const made = engine.container("pgs-acme");
    expect(made.Config).toMatchObject({
      Image: "postgres:18",
      Command: ["/pgs/start-server", "postgres"],
      User: "999:999",
      Labels: { "pgs.stack": "ours", "pgs.tenant": "acme" },
    });
    const options = createOptions(serverContainer(acme()), "postgres:18");
    expect(JSON.stringify(options)).not.toContain("secret");
    expect(options).toMatchObject({
      StopSignal: "SIGINT",
      HostConfig: { ReadonlyRootfs: true, CapDrop: ["ALL"] },
    });
  });

  it("has the data, and the programs read-only", async () => {
    await container.apply(acme(), {});
    expect(engine.container("pgs-acme").Mounts).toEqual([
      { Name: "pgs-acme", Destination: "/var/lib/postgresql", RW: true },
      { Name: "pgs--programs", Destination: "/pgs", RW: false },
    ]);
  });

  it("before PostgreSQL 18 has its data in the tenant's volume too, and not in one of the image's", async () => {
    const { Env, HostConfig } = createOptions(serverContainer(acmeWith({ version: 17 })), "");
    expect(Env).toContain("PGDATA=/var/lib/postgresql/17/docker");
    expect(Object.keys(HostConfig?.Tmpfs ?? {})).toContain("/var/lib/postgresql/data");
    const { Env: newest } = createOptions(serverContainer(acme()), "");
    expect(newest?.filter((line) => line.startsWith("PGDATA"))).toEqual([]);
  });

  it("that was made with its data in a volume of the image's is left as it is", async () => {
    const older = acmeWith({ version: 17 });
    expect(await dataElsewhere(older)).toBeUndefined();
    await container.apply(older, {});
    expect(await dataElsewhere(older)).toBeUndefined();
    engine
      .container("pgs-acme")
      .Mounts.push({ Name: "4f2a", Destination: "/var/lib/postgresql/data", RW: true });
    expect(await dataElsewhere(older)).toMatch(/^the data of acme is in the volume 4f2a.*pgs dump acme/);
  });

  it("starts on adopted data with a check", () => {
    const adopted = serverContainer(acmeWith({ container: { adopted: true } }));
    expect(adopted.options.Cmd).toEqual(["--adopted", "postgres"]);
    expect(digestOf(adopted)).not.toBe(digestOf(serverContainer(acme())));
  });

  it("gets sizes for new data, whose change replaces nothing", async () => {
    const { Env } = createOptions(serverContainer(acme()), "");
    expect(Env).toContain(
      "POSTGRES_INITDB_ARGS=--set pg_stat_statements.max=1000 --set shared_buffers=64MB --set shared_preload_libraries=pg_stat_statements",
    );
    await container.apply(acme(), {});
    const more = acmeWith({
      settings: { initial: { shared_buffers: "1GB" } },
      limits: { memory: 2 ** 32, cpus: 8 },
    });
    expect(await container.differs(more, seen())).toBe(false);
  });

  it("differs where it was made of something else, and where it is gone", async () => {
    await container.apply(acme(), {});
    expect(await container.differs(acme(), seen())).toBe(false);
    for (const change of [{ imageId: "sha256:2" }, { volume: "other" }, { adopted: true }]) {
      expect(await container.differs(acmeWith({ container: change }), seen())).toBe(true);
    }
    expect(await container.differs(acmeWith({ network: { name: "pgs-proxy" } }), seen())).toBe(true);
    expect(await container.differs(acme(), { info: undefined, inside: undefined })).toBe(true);
  });

  it("waits with a lower memory limit until the server can have it", async () => {
    await container.apply(acme(), {});
    engine.done = [];
    const applied = await container.apply(acmeWith({ limits: { memory: 2 ** 28 } }), {});
    expect([engine.done, applied.limits.memory]).toEqual([[], 2 ** 29]);
    await container.apply(acmeWith({ limits: { memory: 2 ** 30 } }), {});
    expect(engine.done).toEqual(["update pgs-acme"]);
  });

  it("is stopped with two minutes for the shutdown, and its volume stays", async () => {
    const { containerId } = await container.apply(acme(), {});
    engine.done = [];
    await container.remove(acme(), containerId);
    await container.remove(acme(), containerId);
    await container.remove(acme(), undefined);
    expect(engine.done).toEqual(["stop pgs-acme in 120 s", "remove pgs-acme"]);
    expect(engine.volumes.has("pgs-acme")).toBe(true);
  });
});
