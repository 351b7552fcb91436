import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseDiskUse } from "../../../docker/disk-use";

describe("what a server's watcher has found", () => {
  it("is its use, budget and host, and why it is read-only", () => {
    expect(parseDiskUse("1000 2000 30 40 writable\n")).toEqual({
      used: 1000,
      limit: 2000,
      host: { free: 30, size: 40 },
      readOnly: null,
    });
    expect(parseDiskUse("1000 0 30 40 read-only:host")).toMatchObject({ limit: null, readOnly: "host" });
    expect(parseDiskUse("1000 900 30 40 read-only:budget")).toMatchObject({ readOnly: "budget" });
  });

  it("is data: whatever a tenant writes there is a use or nothing", () => {
    const soup = fc.array(
      fc.constantFrom(
        "1",
        "99999999999999999",
        " ",
        "\n",
        "writable",
        "read-only:",
        "host",
        "-",
        "\u001b[2J",
      ),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          soup.map((parts) => parts.join("")),
        ),
        (text) => {
          const use = parseDiskUse(text);
          if (use) expect([use.used, use.host.free, use.host.size].every(Number.isSafeInteger)).toBe(true);
        },
      ),
    );
    expect(parseDiskUse(null)).toBeUndefined();
    expect(parseDiskUse("1 2 3 4 writable; rm")).toBeUndefined();
  });
});
