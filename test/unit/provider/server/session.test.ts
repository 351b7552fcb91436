import type Docker from "dockerode";
import fc from "fast-check";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { identifier, literal, NotReadyError, Session } from "../../../../provider/server/session";
import { engine, type FakeExec } from "../../support/engine";

/** How the last command was asked. */
let asked: FakeExec;
let answer: { code?: number; stdout?: string; stderr?: string };

function session(version = 18): Session {
  return new Session(engine.docker.getContainer("pgs-acme") as unknown as Docker.Container, version, "acme");
}

beforeEach(() => {
  engine.reset();
  engine.addContainer("pgs-acme");
  answer = {};
  engine.answer = (exec) => {
    asked = exec;
    return answer;
  };
});

/** The settings that a session of this kind is started with. */
function options(): string {
  return asked.env.find((one) => one.startsWith("PGOPTIONS=")) ?? "";
}

describe("a session", () => {
  it("gives SQL by standard input alone, and returns what it printed", async () => {
    answer = { stdout: " on\n" };
    expect(await session().run("SHOW ssl", { database: "acme" })).toBe("on");
    expect(asked.stdin).toBe("SHOW ssl");
    expect(asked.command.join(" ")).not.toContain("SHOW ssl");
    expect(asked.command.at(-1)).toBe("'acme'");
  });

  it.each(["is not permitted to log in", "does not exist"])(
    "says what helps where the role postgres %s",
    async (problem) => {
      answer = { code: 2, stderr: `psql: error: connection failed: FATAL:  role "postgres" ${problem}\n` };
      await expect(session().run("")).rejects.toThrow(
        `the role postgres ${problem}, so pgs cannot enter the server; docs/disaster.md has the way back`,
      );
    },
  );

  it("comes before all that the tenant has set for it", async () => {
    await session().run("");
    for (const set of [
      "search_path=pg_catalog",
      "default_transaction_read_only=off",
      "session_preload_libraries=",
      "local_preload_libraries=",
      "role=none",
      "event_triggers=off",
      "statement_timeout=60s",
      "lock_timeout=20s",
      "log_statement=none",
    ]) {
      expect(options()).toContain(`-c ${set}`);
    }
    await session().read("");
    expect(options()).toContain("-c default_transaction_read_only=on");
    await session(16).run("");
    expect(options()).not.toMatch(/event_triggers|transaction_timeout=0/);
  });

  it("of an init script may take its time, and makes tables where the tenant's settings say", async () => {
    await expect(session().script("CREATE TABLE t ()", "acme")).rejects.toThrow(
      "before the end of the script",
    );
    await session().script("CREATE TABLE t ();\n\\quit", "acme");
    expect(options()).toContain("-c statement_timeout=0s");
    expect(options()).not.toContain("search_path");
  });

  it("asks a database of any name", async () => {
    await session().run("", { database: "a'b\\c d" });
    expect(asked.command.at(-1)).toBe("'a\\'b\\\\c d'");
  });

  it("without the database postgres asks another: template1 or the tenant's own", async () => {
    await session().read("");
    expect(asked.command.slice(-3)).toEqual(["'postgres'", "'template1'", "'acme'"]);
  });

  it("says what psql says, as data", async () => {
    answer = { code: 3, stderr: "psql:<stdin>:1: ERROR:  no\u001b]0;x\u0007\n" };
    await expect(session().run("")).rejects.toThrow("psql:<stdin>:1: ERROR:  no\\u001b]0;x\\u0007");
    answer = { code: 3 };
    await expect(session().run("")).rejects.toThrow("psql ended with 3");
  });

  it.each([
    [
      126,
      { stdout: "OCI runtime exec failed: fork/exec /proc/self/exe: resource temporarily unavailable\r\n" },
    ],
    [125, { stderr: "timeout: fork system call failed: Resource temporarily unavailable\n" }],
    [2, { stderr: "sh: 1: Cannot fork\n" }],
  ])("says that no process can be started (%i)", async (code, said) => {
    answer = { code, ...said };
    await expect(session().ready()).rejects.toThrow(/as many processes as it may/);
  });

  it.each([
    [124, 0],
    [137, 71_000],
  ])("says that there was no answer in time (%i)", async (code, milliseconds) => {
    answer = { code };
    const clock = vi.spyOn(performance, "now").mockReturnValueOnce(0).mockReturnValue(milliseconds);
    await expect(
      session()
        .ready()
        .finally(() => clock.mockRestore()),
    ).rejects.toThrow("gave no answer in 70 s");
  });

  it.each([75, 126, 127, 137])(
    "of a server that is not there (%i) says so by a class of its own",
    async (code) => {
      answer = { code };
      await expect(session().ready()).rejects.toBeInstanceOf(NotReadyError);
    },
  );
});

describe("SQL", () => {
  /**
   * What PostgreSQL reads in an E'…' constant; undefined when the constant ends early.
   * https://www.postgresql.org/docs/18/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS-ESCAPE
   */
  function readLiteral(sql: string): string | undefined {
    const body = /^E'((?:[^'\\]|''|\\[\\'])*)'$/s.exec(sql)?.[1];
    return body?.replace(/''|\\(.)/gs, (pair, escaped) => escaped ?? pair[0]);
  }

  function readIdentifier(sql: string): string | undefined {
    return /^"((?:[^"]|"")+)"$/s.exec(sql)?.[1]?.replaceAll('""', '"');
  }

  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.string({ unit: fc.constantFrom("'", '"', "\\", "n", "x", ";", "-", "\n", "$", "\u2019") }),
  );

  it("has any text as one string constant", () => {
    fc.assert(
      fc.property(text, (value) => {
        expect(readLiteral(literal(value))).toBe(value);
      }),
    );
  });

  it("has any name as one identifier", () => {
    fc.assert(
      fc.property(text, (name) => {
        fc.pre(name !== "");
        expect(readIdentifier(identifier(name))).toBe(name);
      }),
    );
  });
});
