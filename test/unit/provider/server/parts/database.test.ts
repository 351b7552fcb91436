import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { database } from "../../../../../provider/server/parts/database";
import { engine } from "../../../support/engine";
import { acme, acmeWith, FakePostgres, host, running, sightOf } from "../../../support/postgres";
import { temporaryFolder } from "../../../support/program";

vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

let postgres: FakePostgres;

beforeEach(() => {
  host();
  postgres = new FakePostgres();
});

function scripts(...contents: string[]) {
  const folder = temporaryFolder();
  const init = contents.map((content, index) => {
    const path = join(folder, `${index}.sql`);
    writeFileSync(path, content);
    return path;
  });
  return acmeWith({ database: { init } });
}

/** As an `up` does it. */
async function apply(inputs = acme()): Promise<void> {
  const server = running(postgres, inputs);
  await database.maintain(server);
  await database.startOver(server);
  await database.apply(server);
}

describe("a tenant's database", () => {
  it("is made once, and its data directory then counts", async () => {
    expect(database.differs(acme(), sightOf(postgres))).toBe(true);
    await apply();
    expect(postgres.inside).toMatchObject({ database: true, creating: false, unfinished: false });
    expect(database.differs(acme(), sightOf(postgres))).toBe(false);
    postgres.statements = [];
    await apply();
    expect(postgres.statements).toEqual([]);
  });

  it.each([
    ["gone", ["CREATE DATABASE postgres TEMPLATE template0;"]],
    ["invalid", ["DROP DATABASE postgres;", "CREATE DATABASE postgres TEMPLATE template0;"]],
    ["closed", ["ALTER DATABASE postgres ALLOW_CONNECTIONS true;"]],
  ] as const)(
    "gets the database postgres back beside it where that is %s",
    async (maintenance, statements) => {
      await apply();
      Object.assign(postgres.inside, { maintenance });
      expect(database.differs(acme(), sightOf(postgres))).toBe(true);
      postgres.statements = [];
      await apply();
      expect(postgres.statements).toEqual(statements);
      expect(database.differs(acme(), sightOf(postgres))).toBe(false);
    },
  );

  it("is noted as being made before it is, and runs its scripts in their order", async () => {
    await apply(scripts("one", "two"));
    expect(postgres.scripts).toEqual(["one", "two"]);
    expect(postgres.statements.map((sql) => sql.split(" ")[0])).toEqual(["ALTER", "CREATE", "ALTER", "\\!"]);
  });

  it("does not run scripts that come later", async () => {
    await apply();
    await apply(scripts("late"));
    expect(postgres.scripts).toEqual([]);
  });

  it("of a new tenant whose script failed is begun again from nothing, the data directory with it", async () => {
    postgres.refuses = /wrong/;
    await expect(apply(scripts("one", "wrong"))).rejects.toThrow(
      /^init script 1.sql failed: line 2: ERROR: {2}no such thing\. The database acme is not complete/,
    );
    expect(database.differs(acme(), sightOf(postgres))).toBe(true);
    postgres.refuses = undefined;
    postgres.kept = true;
    await apply(scripts("one", "right"));
    expect(engine.done).toEqual(["restart pgs-acme"]);
    expect(postgres.scripts).toEqual(["one", "right"]);
    expect(postgres.inside).toMatchObject({ database: true, creating: false, unfinished: false });
  });

  it("in data that was complete once is begun again alone", async () => {
    Object.assign(postgres.inside, { unfinished: false, creating: true, database: true });
    await apply(scripts("one"));
    expect(engine.done).toEqual([]);
    expect(postgres.statements[0]).toMatch(/^DROP DATABASE IF EXISTS "acme" WITH \(FORCE\)/);
    expect(postgres.inside).toMatchObject({ database: true, creating: false });
    expect(postgres.scripts).toEqual(["one"]);
  });

  it("that is there and was not being made stays as it is", async () => {
    Object.assign(postgres.inside, { database: true, unfinished: true });
    await apply(scripts("one"));
    expect(postgres.scripts).toEqual([]);
    expect(postgres.inside.unfinished).toBe(false);
  });

  it("that takes no connections takes them again", async () => {
    Object.assign(postgres.inside, { database: true, unfinished: false, takesConnections: false });
    expect(database.differs(acme(), sightOf(postgres))).toBe(true);
    await apply();
    expect(postgres.inside.takesConnections).toBe(true);
  });

  it("cannot differ where the server was not asked", () => {
    expect(database.differs(acme(), { info: undefined, inside: undefined })).toBe(false);
  });
});
