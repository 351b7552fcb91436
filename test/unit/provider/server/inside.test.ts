import { describe, expect, it } from "vitest";
import { lookInside } from "../../../../provider/server/inside";
import type { Session } from "../../../../provider/server/session";
import { FakePostgres } from "../../support/postgres";

function ask(answer: string) {
  return lookInside({ read: async () => answer, tenant: "acme" } as unknown as Session);
}

const honest = new FakePostgres().describe();

describe("a server's answer about itself", () => {
  it("is taken as it is when it has the form that was asked for", async () => {
    const notes = { managed: '["work_mem"]', extensions: '["vector"]' };
    const read = { managed: ["work_mem"], extensions: ["vector"] };
    expect(await ask(JSON.stringify({ ...honest, ...notes, database: false }))).toEqual({
      ...honest,
      ...read,
    });
  });

  it("has no more than was asked for", async () => {
    expect(await ask(JSON.stringify({ ...honest, more: "x" }))).toEqual(honest);
  });

  it.each<[string, string]>([
    ["nothing", ""],
    ["no JSON", "\u001b]0;title\u0007"],
    ["null", "null"],
    ["a list", "[]"],
    ["a part missing", JSON.stringify({ ...honest, clients: undefined })],
    ["a text in place of a truth", JSON.stringify({ ...honest, database: "t" })],
    ["settings that are no texts", JSON.stringify({ ...honest, settings: { work_mem: { a: 1 } } })],
    ["waiting settings without end", JSON.stringify({ ...honest, pendingRestart: Array(2001).fill("a") })],
    ["a text without end", JSON.stringify({ ...honest, verifier: "a".repeat(20_001) })],
    ["a number that is none", JSON.stringify({ ...honest }).replace(/"sessions":\d+/, '"sessions":1e999')],
    ["versions without end", JSON.stringify({ ...honest, versions: Array(101).fill(18) })],
  ])("that is hostile, %s, is refused and not repeated", async (_, answer) => {
    const error: Error = await ask(answer).then(
      () => expect.fail("was taken"),
      (reason) => reason,
    );
    expect(error.message).toBe(
      "the server's answer is not what PostgreSQL answers: its catalogs were changed",
    );
  });

  it.each(["no JSON", "[1]", "{}", "null", JSON.stringify(Array(2001).fill("a"))])(
    "has no names in a note that the tenant made %.20s",
    async (note) => {
      const seen = await ask(JSON.stringify({ ...honest, managed: note, extensions: note }));
      expect([seen.managed, seen.extensions]).toEqual([[], []]);
    },
  );

  it("is asked about the database as a text, whatever its name", async () => {
    let asked = "";
    const read = async (sql: string) => {
      asked = sql;
      return JSON.stringify(honest);
    };
    await lookInside({ read, tenant: "a'b" } as unknown as Session);
    expect(asked).toContain("datname = E'a''b'");
  });
});
