import { beforeEach, describe, expect, it, vi } from "vitest";
import { clearCache } from "../../../../../docker/cache";
import { configuration, pooler } from "../../../../../provider/server/parts/pooler";
import { engine } from "../../../support/engine";
import { acme, asWanted, FakePostgres, host, pooled, running } from "../../../support/postgres";

vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

const sight = { info: undefined, inside: undefined };
const file = "/var/lib/postgresql/.pgbouncer.ini";
const files = () => engine.filesOf(engine.container("pgs-acme"), file);

let postgres: FakePostgres;

beforeEach(async () => {
  host();
  engine.addNetwork("pgs-acme", { "pgs.stack": "ours" });
  postgres = new FakePostgres();
  await asWanted(postgres);
  running(postgres);
});

describe("a pooler", () => {
  it("is a container in the tenant's network alone, which only reads the tenant's volume", async () => {
    expect(await pooler.differs(pooled(), sight)).toBe(true);
    await pooler.apply(pooled());
    const made = engine.container("pgs-acme--pooler");
    expect(made.HostConfig).toMatchObject({
      NetworkMode: "pgs-acme",
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      Memory: 128 << 20,
      PidsLimit: 32,
    });
    expect(made.Mounts).toEqual([{ Name: "pgs-acme", Destination: "/var/lib/postgresql", RW: false }]);
    expect(made.Config.Labels).toMatchObject({ "pgs.tenant": "acme", "pgs.role": "pooler" });
    expect(made.Config.User).toBe("999:999");
    expect(await pooler.differs(pooled(), sight)).toBe(false);
  });

  it("has no password in its file, and asks the server for those of roles that may log in", () => {
    const text = configuration(pooled(7));
    expect(text).toContain("\ndefault_pool_size = 7\nmax_db_connections = 7\n");
    expect(text).toContain("\nauth_type = scram-sha-256\n");
    expect(text).toMatch(/^auth_query = .*rolcanlogin.*rolvaliduntil/m);
    expect(text).not.toMatch(/secret|password *=|auth_file/);
  });

  it("changes live: its file is written, and it reads that", async () => {
    await pooler.apply(pooled());
    const { Id } = engine.container("pgs-acme--pooler");
    postgres.log = [];
    expect(await pooler.differs(pooled(5), sight)).toBe(true);
    await pooler.apply(pooled(5));
    expect(engine.container("pgs-acme--pooler").Id).toBe(Id);
    expect(files().get(file)).toBe(configuration(pooled(5)));
    expect(postgres.log).toEqual(["reload pooler"]);
  });

  it.each([
    ["stopped", () => Object.assign(engine.container("pgs-acme--pooler").State, { Running: false })],
    ["removed", () => engine.containers.splice(engine.containers.length - 1)],
    ["given another file by the tenant", () => files().set(file, "[databases]\n* = host=elsewhere\n")],
    ["left without a file", () => files().delete(file)],
  ])("that was %s differs, and is put right", async (_, change) => {
    await pooler.apply(pooled());
    change();
    expect(await pooler.differs(pooled(), sight)).toBe(true);
    await pooler.apply(pooled());
    expect(await pooler.differs(pooled(), sight)).toBe(false);
    expect(files().get(file)).toBe(configuration(pooled()));
  });

  it("that is wanted no more is removed, also one that a killed run had begun to make", async () => {
    await pooler.apply(pooled());
    const { Labels } = engine.container("pgs-acme--pooler").Config;
    engine.addContainer("old-acme--pooler", { Labels }, false);
    clearCache();
    expect(await pooler.differs(acme(), sight)).toBe(true);
    await pooler.apply(acme());
    expect(engine.names).toEqual(["pgs-acme", "pgs-proxy"]);
    clearCache();
    expect(await pooler.differs(acme(), sight)).toBe(false);
  });

  it("of another stack stays", async () => {
    const Labels = { "pgs.stack": "theirs", "pgs.tenant": "acme", "pgs.role": "pooler" };
    engine.addContainer("pgs-acme--pooler", { Labels });
    await pooler.apply(acme());
    await expect(pooler.apply(pooled())).rejects.toThrow(/belongs to the pgs stack theirs/);
    expect(engine.names).toContain("pgs-acme--pooler");
  });
});

describe("a pause", () => {
  it("ends by itself too, and is waited for until no transaction is open", async () => {
    await pooler.apply(pooled());
    clearCache();
    const { session } = running(postgres, pooled());
    postgres.log = [];
    const read = vi.spyOn(session, "read").mockResolvedValueOnce("2").mockResolvedValueOnce("0");
    await pooler.pause({ inputs: pooled(), session });
    expect(postgres.log).toEqual(["pause pooler", "end the pause later"]);
    expect(read).toHaveBeenCalledTimes(2);
    await pooler.resume(pooled());
    expect(postgres.log.at(-1)).toBe("resume pooler");
  });

  it("of a tenant without a pooler asks nothing", async () => {
    const { session } = running(postgres);
    const read = vi.spyOn(session, "read");
    await pooler.pause({ inputs: acme(), session });
    await pooler.resume(acme());
    expect(read).not.toHaveBeenCalled();
    expect(engine.ran).toEqual([]);
  });
});
