import { beforeEach, describe, expect, it, vi } from "vitest";
import type { PostgresServerState } from "../../../../../provider/server/inputs";
import { extensions } from "../../../../../provider/server/parts/extensions";
import { engine } from "../../../support/engine";
import { acme, asWanted, FakePostgres, host, running, sightOf } from "../../../support/postgres";

vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

const positions = { extensions: "tenants.yaml:5:3", "extensions.vector": "tenants.yaml:5:18" };
const wanting = (wanted?: Record<string, string>) => ({ ...acme(), extensions: wanted, positions });
let postgres: FakePostgres;
/** What the last `up` left. */
let last: Record<string, string> | undefined;

beforeEach(async () => {
  host();
  last = undefined;
  postgres = new FakePostgres();
  await asWanted(postgres);
});

/** An `up` of them. @returns the statements that it ran */
async function up(
  wanted?: Record<string, string>,
  before: Partial<PostgresServerState> = { extensions: last },
): Promise<string[]> {
  postgres.statements = [];
  await extensions.remove(running(postgres, wanting(wanted), before));
  await extensions.apply(running(postgres, wanting(wanted), before));
  expect(extensions.differs(wanting(wanted), sightOf(postgres))).toBe(false);
  last = wanted;
  return postgres.statements;
}

describe("a tenant's extensions", () => {
  it("are made after they are noted, the newest or the version that is written", async () => {
    expect(await up({ vector: "", pg_trgm: "1.4" })).toEqual([
      expect.stringMatching(/^ALTER DATABASE postgres SET pgs\.extensions = /),
      'CREATE EXTENSION IF NOT EXISTS "vector" CASCADE;',
      "CREATE EXTENSION IF NOT EXISTS \"pg_trgm\" VERSION E'1.4' CASCADE;",
    ]);
    expect(postgres.installed).toEqual({ vector: "0.8.0", pg_trgm: "1.4" });
    expect(await up({ vector: "", pg_trgm: "1.4" })).toEqual([]);
  });

  it("cost a tenant without any no session", async () => {
    engine.ran = [];
    expect(await up()).toEqual([]);
    expect(engine.ran).toEqual([]);
  });

  it("are updated where the image has a newer version, and not where it has an older one", async () => {
    await up({ vector: "" });
    postgres.newest.vector = "0.10.0";
    expect(extensions.differs(wanting({ vector: "" }), sightOf(postgres))).toBe(true);
    expect(await up({ vector: "" })).toEqual([`ALTER EXTENSION "vector" UPDATE TO E'0.10.0';`]);
    postgres.newest.vector = "0.9.9";
    expect(await up({ vector: "" })).toEqual([]);
    expect(await up({ vector: "0.9.9" })).toEqual([`ALTER EXTENSION "vector" UPDATE TO E'0.9.9';`]);
  });

  it("that the tenant dropped, or whose note it dropped, are made again", async () => {
    await up({ vector: "" });
    postgres.installed = {};
    expect(extensions.differs(wanting({ vector: "" }), sightOf(postgres))).toBe(true);
    expect(await up({ vector: "" })).toHaveLength(1);
    postgres.inside.extensions = [];
    expect(extensions.differs(wanting({ vector: "" }), sightOf(postgres))).toBe(true);
    expect(await up({ vector: "" })).toHaveLength(1);
  });

  it("are dropped when they are taken out, and others are the tenant's own", async () => {
    postgres.installed.hstore = "1.8";
    await up({ vector: "", pg_trgm: "" });
    expect(await up({ pg_trgm: "" })).toEqual([
      "DROP EXTENSION vector",
      expect.stringMatching(/^ALTER DATABASE postgres SET pgs\.extensions/),
    ]);
    expect(Object.keys(postgres.installed)).toEqual(["hstore", "pg_trgm"]);
  });

  it("are dropped by what the last up left where the tenant dropped the note", async () => {
    await up({ vector: "" });
    postgres.inside.extensions = [];
    expect(await up()).toEqual(["DROP EXTENSION vector"]);
  });

  it("that an up which failed has made are dropped; those of restored data are the tenant's own", async () => {
    postgres.inside.extensions = ["vector"];
    postgres.installed.vector = "0.8.0";
    expect(await up(undefined, {})).toEqual([expect.stringMatching(/= E'\[\]';$/)]);
    expect(postgres.installed.vector).toBe("0.8.0");
    postgres.inside.extensions = ["vector"];
    expect(await up(undefined, { state: "failed" })).toContain("DROP EXTENSION vector");
  });

  it("that were taken out while the tenant was stopped are dropped", async () => {
    await up({ vector: "" });
    const stopped = { state: "stopped", leftExtensions: { vector: "" } };
    expect(await up(undefined, stopped)).toContain("DROP EXTENSION vector");
  });

  it("that something uses stay, and the line says so", async () => {
    await up({ vector: "" });
    postgres.users.vector = "column v of table t depends on type vector";
    await expect(up()).rejects.toThrow(
      /^tenants\.yaml:5:3: the extension vector was taken out of the entry, and is in use: column v of table t depends on type vector\. Write it again/,
    );
    expect(postgres.installed).toEqual({ vector: "0.8.0" });
  });

  it("of a note that holds anything but names are left alone", async () => {
    postgres.inside.extensions = ["$$; \\! reboot", 'a"b', "a--b"];
    expect(await up(undefined, { state: "failed" })).toEqual([expect.stringMatching(/= E'\[\]';$/)]);
  });

  it("that cannot be made say where they stand", async () => {
    postgres.refuses = /^CREATE EXTENSION/;
    await expect(up({ vector: "" })).rejects.toThrow("tenants.yaml:5:18: extension vector: refused");
  });
});
