import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { PostgresServer } from "../../../../../provider/server";
import { refuseOtherLocale } from "../../../../../provider/server/locale";
import { database } from "../../../../../provider/server/parts/database";
import type { Session } from "../../../../../provider/server/session";
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
    expect(postgres.statements.map((sql) => sql.split(" ")[0])).toEqual([
      "ALTER",
      "CREATE",
      "CREATE",
      "ALTER",
      "\\!",
    ]);
  });

  it("has the locale that it is to be made with, from a template without data", async () => {
    await apply(acmeWith({ database: { init: [], locale: "sv_SE.UTF-8", encoding: "UTF8", icu: "sv" } }));
    expect(postgres.statements[1]).toBe(
      "CREATE DATABASE \"acme\" TEMPLATE template0 ENCODING E'UTF8' LOCALE E'sv_SE.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE E'sv';",
    );
  });

  it("keeps its locale: another one is refused once it is made, also where it was there before its entry", async () => {
    const state = (locale?: string, made = "running") => ({
      ...acmeWith({ database: { init: [], ...(locale && { locale }) } }),
      state: made,
    });
    const refusal = async (before: ReturnType<typeof state>, after: ReturnType<typeof state>) =>
      PostgresServer.refusal?.(before, after);
    expect(await refusal(state("C"), state("C"))).toBeUndefined();
    expect(await refusal(state("C", "incomplete"), state("POSIX"))).toBeUndefined();
    expect(await refusal(state("C"), state("POSIX"))).toMatch(/of acme is made, .* write locale: C again/);
    expect(await refusal(state("C"), state())).toMatch(/write locale: C again/);
    expect(await refusal(state(), state("C"))).toMatch(/leave locale out/);
    // One that was made by the image's own locale may say so later.
    host();
    engine.addContainer("pgs-acme", { Labels: { "pgs.stack": "ours" } });
    engine.answer = () => ({ stdout: "C\nUTF8\n\n" });
    expect(await refusal(state(), state("C"))).toBeUndefined();
    expect(await refusal(state(), state("POSIX"))).toMatch(/leave locale out/);
    expect(await refusal(state("C"), state())).toMatch(/write locale: C again/);

    const session = (answer: string) => ({ tenant: "acme", read: async () => answer }) as unknown as Session;
    await refuseOtherLocale(session("en_US.utf8\nUTF8\n"), { init: [], locale: "en_US.UTF-8" });
    await expect(refuseOtherLocale(session("C\nUTF8\n"), { init: [], locale: "POSIX" })).rejects.toThrow(
      "the database is there already, with locale C: write locale: C",
    );
    await expect(refuseOtherLocale(session("C\nUTF8\n"), { init: [], icu: "sv" })).rejects.toThrow(
      "without icu: leave icu out",
    );
  });

  it("takes a script that is packed, whatever its name", async () => {
    const inputs = scripts("");
    writeFileSync(inputs.database.init[0] ?? "", gzipSync("packed"));
    await apply(inputs);
    expect(postgres.scripts).toEqual(["packed"]);
  });

  it("is not complete where psql ended before the end of a script, as it does at an empty statement after COPY", async () => {
    await expect(apply(scripts("COPY t FROM stdin;\n1\n\\.\n;\nSELECT 1;\n"))).rejects.toThrow(
      /psql ended before the end of the script: is a semicolon alone/,
    );
    expect(postgres.inside.creating).toBe(true);
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
