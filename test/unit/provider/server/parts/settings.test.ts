import fc from "fast-check";
import { beforeEach, describe, expect, it, vi } from "vitest";
import type { PostgresServerInputs, PostgresServerState } from "../../../../../provider/server/inputs";
import { type Settings, settings } from "../../../../../provider/server/parts/settings";
import { engine } from "../../../support/engine";
import { acme, asWanted, FakePostgres, host, running, sightOf } from "../../../support/postgres";

vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

let postgres: FakePostgres;

beforeEach(() => {
  host();
  postgres = new FakePostgres();
});

function withSettings(change: Partial<PostgresServerInputs["settings"]>): PostgresServerInputs {
  return { ...acme(), settings: { live: {}, restart: {}, initial: {}, ...change } };
}

function apply(inputs: PostgresServerInputs, before: Partial<PostgresServerState> = {}, restart = false) {
  return settings.apply(running(postgres, inputs, before), { restart });
}

/** Whether an `up` sees something to do. */
function differs(inputs: PostgresServerInputs) {
  return settings.differs(inputs, sightOf(postgres));
}

describe("settings", () => {
  it("are written, noted as pgs's own, and read by the server", async () => {
    expect(await apply(withSettings({ live: { work_mem: "8MB" } }))).toBe(false);
    expect(postgres.settings).toEqual({ work_mem: "8MB" });
    expect(postgres.active).toEqual({ work_mem: "8MB" });
    expect(postgres.inside.managed).toEqual(["work_mem"]);
    expect(engine.done).toEqual([]);
  });

  it("are noted before they are written: what a killed run left is known", async () => {
    await apply(withSettings({ live: { work_mem: "8MB" } }));
    expect(postgres.statements[0]).toContain("pgs.settings");
  });

  it("of the tenant's own stay", async () => {
    postgres.settings = { log_statement: "all" };
    await apply(withSettings({ live: { work_mem: "8MB" } }));
    await apply(withSettings({}));
    expect(postgres.settings).toEqual({ log_statement: "all" });
    expect(differs(withSettings({}))).toBe(false);
  });

  it("leave alone how a server is made read-only for want of room, unless the entry wants it so too", async () => {
    postgres.settings = { default_transaction_read_only: "yes" };
    postgres.inside.managed = ["default_transaction_read_only"];
    expect(differs(withSettings({}))).toBe(false);
    expect(differs(withSettings({ live: { default_transaction_read_only: "off" } }))).toBe(false);
    expect(differs(withSettings({ live: { default_transaction_read_only: "on" } }))).toBe(true);
    postgres.settings = { default_transaction_read_only: "on" };
    expect(differs(withSettings({ live: { default_transaction_read_only: "off" } }))).toBe(true);
  });

  it("that are right already cost nothing", async () => {
    await asWanted(postgres);
    expect(await apply(acme())).toBe(false);
    expect(postgres.statements).toEqual([]);
    expect(differs(acme())).toBe(false);
  });

  it("cannot differ where the server was not asked", () => {
    expect(settings.differs(acme(), { info: undefined, inside: undefined })).toBe(false);
  });

  it("that need a restart restart the server, once", async () => {
    await asWanted(postgres);
    const more = withSettings({ restart: { max_connections: "99" } });
    expect(await apply(more)).toBe(true);
    expect(postgres.active.max_connections).toBe("99");
    expect(await apply(more)).toBe(false);
    expect(engine.done).toEqual(["restart pgs-acme"]);
  });

  it("that wait for the next start cause none, unless one is needed anyway", async () => {
    await asWanted(postgres);
    const wanted = acme();
    const more = { ...wanted, settings: { ...wanted.settings, initial: { shared_buffers: "128MB" } } };
    expect(await apply(more, wanted)).toBe(false);
    expect(postgres.pendingRestart).toContain("shared_buffers");
    expect(await apply(more, wanted, true)).toBe(true);
    expect(postgres.active.shared_buffers).toBe("128MB");
  });

  it("that need a restart to go away get one", async () => {
    await asWanted(postgres);
    const before = withSettings({ restart: { max_connections: "50" } });
    expect(await apply(withSettings({}), before)).toBe(true);
    expect(postgres.active).toEqual({});
  });

  it("that were the operator's and now follow from the memory limit get the restart that was announced", async () => {
    const before = withSettings({ restart: { max_connections: "50" } });
    await apply(before);
    expect(await apply(withSettings({ initial: { max_connections: "25" } }), before)).toBe(true);
    expect(postgres.active).toEqual({ max_connections: "25" });
  });

  it("of a new server outlive its restart for them", async () => {
    postgres.inside.unfinished = true;
    const inputs = withSettings({ live: { work_mem: "8MB" }, restart: { max_connections: "99" } });
    expect(await apply(inputs)).toBe(true);
    expect(postgres.active).toEqual({ work_mem: "8MB", max_connections: "99" });
  });

  it("that the server refuses leave the file as it was, and the message says where the setting stands", async () => {
    postgres.settings = { work_mem: "1MB" };
    postgres.refuses = /SET jit /;
    const inputs = {
      ...withSettings({ live: { work_mem: "8MB", jit: "maybe" } }),
      positions: { jit: "tenants.yaml:7:9" },
    };
    await expect(apply(inputs)).rejects.toThrow("tenants.yaml:7:9: setting jit: ERROR:  refused");
    expect(postgres.settings).toEqual({ work_mem: "1MB" });
    expect(postgres.active).toEqual({});
    expect(differs(inputs)).toBe(true);
    postgres.refuses = undefined;
    await apply(withSettings({}));
    expect(postgres.settings).toEqual({});
  });

  it("that a start would refuse leave the file as it was, and cause no restart", async () => {
    await asWanted(postgres);
    postgres.trial = "postgres: could not: max_connections must be less";
    const before = { ...postgres.settings };
    await expect(apply(withSettings({ restart: { max_connections: "9" } }))).rejects.toThrow(
      "setting max_connections: could not: max_connections must be less",
    );
    expect(postgres.settings).toEqual(before);
    expect(engine.done).toEqual([]);
  });

  it("that keep the server from starting are taken back, and it runs on", async () => {
    await asWanted(postgres);
    const answer = engine.answer;
    engine.onStart = (container) => {
      const ends = engine.done.at(-1)?.startsWith("restart");
      container.RestartCount = ends ? 1 : 0;
      container.log = "2026 UTC [1] FATAL:  cannot start with that\n";
      engine.answer = ends ? () => ({ code: 137 }) : answer;
    };
    await expect(apply(withSettings({ restart: { max_connections: "9" } }))).rejects.toThrow(
      "setting max_connections: the server does not start with it and runs with its previous settings: cannot start with that",
    );
    expect(engine.done).toEqual([
      "restart pgs-acme",
      "stop pgs-acme",
      "put files into pgs-acme",
      "start pgs-acme",
    ]);
    const file = engine.files.get("pgs-acme")?.get("/var/lib/postgresql/18/docker/postgresql.auto.conf");
    expect(file).toContain("max_connections = '50'\n");
  });

  it("with a library that the image does not have are refused before they are written", async () => {
    const inputs = withSettings({ restart: { shared_preload_libraries: "nothing" } });
    await expect(apply(inputs)).rejects.toThrow("the image has no library nothing");
    expect(postgres.statements).toEqual([]);
  });

  it.each<[string, string, string]>([
    ["shared_preload_libraries", "pg_stat_statements,auto_explain", "pg_stat_statements, auto_explain"],
    ["shared_preload_libraries", " pg_stat_statements ", "pg_stat_statements"],
    ["shared_preload_libraries", "$libdir/a.so", '"$libdir/a.so"'],
    ["search_path", "app, Other, 1st", 'app, "Other", "1st"'],
    ["search_path", "app,, other,", "app, other"],
    ["search_path", '"$user",public', '"$user", public'],
    ["search_path", "user, order", '"user", "order"'],
    ["search_path", '"a ""b"", c", d', '"a ""b"", c", d'],
  ])("that are a list of names are compared name by name: %s = %j", (name, asked, present) => {
    postgres.settings = { [name]: present };
    expect(differs(withSettings({ live: { [name]: asked } }))).toBe(false);
    postgres.settings = { [name]: `${present}, more` };
    expect(differs(withSettings({ live: { [name]: asked } }))).toBe(true);
  });

  it("that hold a comma but are no list of names are compared as they are", () => {
    postgres.settings = { datestyle: '"ISO", "DMY"' };
    expect(differs(withSettings({ live: { datestyle: "ISO, DMY" } }))).toBe(true);
    postgres.settings = { search_path: '"app, other"' };
    expect(differs(withSettings({ live: { search_path: "app, other" } }))).toBe(true);
  });

  it("that are an empty list of libraries are left out of the file", async () => {
    postgres.settings = { shared_preload_libraries: "old" };
    const inputs = withSettings({ restart: { shared_preload_libraries: " " } });
    expect(differs(inputs)).toBe(true);
    await apply(inputs);
    expect(postgres.settings).toEqual({});
    expect(differs(inputs)).toBe(false);
  });
});

describe("any settings, after any runs", () => {
  const names = ["work_mem", "jit", "search_path", "log_statement", "max_connections", "shared_buffers"];
  const some = (from: string[]): fc.Arbitrary<Settings> =>
    fc.dictionary(fc.constantFrom(...from), fc.constantFrom("1", "a'b", "x\\y", "a, B", "off"));
  const wanted = fc.record({
    live: some(names.slice(0, 4)),
    restart: some(["max_connections"]),
    initial: some(["shared_buffers"]),
  });
  /** What the tenant sets by itself, of names that pgs does not have. */
  const own = some(["tenant_one", "tenant_two"]);
  const runs = fc.array(fc.record({ wanted, refuses: fc.option(fc.constantFrom(...names)) }), {
    maxLength: 4,
  });

  it("end as the last run wants them, the tenant's own kept, and nothing is left to do", async () => {
    await fc.assert(
      fc.asyncProperty(own, runs, wanted, async (theirs, earlier, last) => {
        host();
        postgres = new FakePostgres();
        Object.assign(postgres.inside, { unfinished: false, database: true });
        postgres.settings = { ...theirs };
        let before: Partial<PostgresServerState> = {};
        for (const run of earlier) {
          postgres.refuses = run.refuses ? new RegExp(`SET ${run.refuses} `) : undefined;
          const inputs = withSettings(run.wanted);
          await apply(inputs, before).catch(() => {});
          // Also of a run that failed, the state has what was asked for.
          before = inputs;
        }
        postgres.refuses = undefined;
        const inputs = withSettings(last);
        await apply(inputs, before);
        const expected = { ...theirs, ...last.initial, ...last.live, ...last.restart };
        expect(Object.keys(postgres.settings).toSorted()).toEqual(Object.keys(expected).toSorted());
        expect(differs(inputs)).toBe(false);
        expect(postgres.pendingRestart.filter((name) => name !== "shared_buffers")).toEqual([]);
        postgres.statements = [];
        expect(await apply(inputs, inputs)).toBe(false);
        expect(postgres.statements).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });
});
