import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gunzipHead, isArchive, isGzip, isPlainDump, isWhole, leavesDatabase } from "../../tenants/dump-file";

const head = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET statement_timeout = 0;\n";
const table = "CREATE TABLE public.t (\n    line text\n);\n\nCOPY public.t (line) FROM stdin;\n";
const end = "\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n";
const created = `${head}CREATE DATABASE acme WITH TEMPLATE = template0;\n\\unrestrict abc\n\\connect acme\n\\restrict abc\n`;
const left = (text: string) => leavesDatabase(Buffer.from(text));

describe("the head of a dump", () => {
  it("tells where a dump made with --create leaves the database, and one of all databases too", () => {
    expect(left(created + table + end)).toEqual({ line: 8, what: "CREATE DATABASE" });
    expect(left(created.replace(/CREATE DATABASE.*\n/, ""))).toEqual({ line: 9, what: "\\connect" });
    expect(left("--\n-- PostgreSQL database cluster dump\n--\n\n\\connect template1\n")).toMatchObject({
      line: 5,
    });
  });

  it("has nothing against a dump of one database, against roles alone, or against what is no dump", () => {
    expect(left(head + table + end)).toBeUndefined();
    expect(left("--\n-- PostgreSQL database cluster dump\n--\n\nCREATE ROLE app;\n")).toBeUndefined();
    expect(left("CREATE DATABASE second;\n\\connect second\n")).toBeUndefined();
  });

  it("never takes data for commands", () => {
    const lines = fc.array(fc.constantFrom("CREATE DATABASE x", "\\connect x", "\\\\connect x", "text"));
    fc.assert(
      fc.property(lines, (data) => {
        expect(left(`${head}${table}${data.join("\n")}\n${end}`)).toBeUndefined();
      }),
    );
  });

  it("tells formats apart, packed or not", () => {
    const packed = gzipSync(Buffer.from(created));
    expect([isGzip(packed), isGzip(Buffer.from(head))]).toEqual([true, false]);
    expect(left(gunzipHead(packed.subarray(0, packed.length - 8)).toString())).toBeDefined();
    expect(isArchive(Buffer.from("PGDMP\x01\x10"))).toBe(true);
    expect(isArchive(Buffer.from(head))).toBe(false);
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const some = Buffer.from(bytes);
        expect(isArchive(some) && isPlainDump(some)).toBe(false);
      }),
    );
  });

  it("knows a whole dump by its last lines", () => {
    const whole = Buffer.from(head + table + end);
    expect(isWhole(whole.subarray(-512))).toBe(true);
    for (let length = 0; length < whole.length - 25; length++) {
      expect(isWhole(whole.subarray(0, length).subarray(-512)), String(length)).toBe(
        whole.subarray(0, length).includes("dump complete"),
      );
    }
  });
});
