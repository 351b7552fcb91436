import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { endQuery, parseTop, type Top, topQuery, topText } from "../../../../cli/lib/top";
import { escapeSteering } from "../../../../docker/exec";

const session: Top["sessions"][number] = {
  pid: 4711,
  role: "postgres",
  application: "app",
  state: "active",
  seconds: 63.2,
  transactionSeconds: 70,
  wait: "Lock: relation",
  blockedBy: [4712],
  query: "UPDATE orders\n   SET paid = true",
};

const statement: NonNullable<Top["statements"]>[number] = {
  role: "postgres",
  query: "SELECT * FROM orders WHERE id = $1",
  calls: 1234,
  totalMilliseconds: 61_700,
  meanMilliseconds: 50,
  rows: 1234,
  blocksHit: 999,
  blocksRead: 1,
};

describe("top", () => {
  it("shows who waits for whom, and statements with their figures", () => {
    const lines = topText("acme", { sessions: [session], statements: [statement] }).split("\n");
    expect(lines[1]?.trim()).toBe(
      "4711  postgres  app     waits for 4712  1m3s        1m10s  UPDATE orders SET paid = true",
    );
    expect(lines[4]?.trim()).toBe(
      "1m1s   1234  50 ms  1234      99.9 %  postgres  SELECT * FROM orders WHERE id = $1",
    );
  });

  it("says how to have statements counted where they are not", () => {
    expect(topText("acme", { sessions: [], statements: null })).toContain(
      "extensions: [pg_stat_statements] into the entry of acme",
    );
  });

  it("shows nothing that steers a terminal, whatever a tenant calls itself", () => {
    const text = fc.string({ unit: "binary", maxLength: 60 });
    fc.assert(
      fc.property(text, text, text, (role, application, query) => {
        const top = {
          sessions: [{ ...session, role, application, query }],
          statements: [{ ...statement, role, query }],
        };
        const shown = topText("acme", top, 100).replaceAll("\n", "");
        expect(shown).toBe(escapeSteering(shown));
      }),
    );
  });

  it("takes only what PostgreSQL answers", () => {
    const top = { sessions: [session], statements: [statement] };
    expect(parseTop(JSON.stringify(top))).toEqual(top);
    expect(parseTop("")).toBeUndefined();
    expect(parseTop('{"sessions": [{"pid": "1"}], "statements": null}')).toBeUndefined();
    expect(parseTop(JSON.stringify({ ...top, sessions: Array(200).fill(session) }))).toBeUndefined();
  });

  it("asks for as many statements as it is told, and ends a statement or a session of a client alone", () => {
    expect(topQuery(7)).toContain("LIMIT 7");
    expect(endQuery(12, "statement")).toMatch(
      /state = 'active' THEN pg_cancel_backend[\s\S]*pid = 12 AND backend_type/,
    );
    expect(endQuery(12, "session")).toContain("pg_terminate_backend");
  });
});
