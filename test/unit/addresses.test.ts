import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { allBut, excluded, inBoth, isRange } from "../../tenants/addresses";

describe("a range of client addresses", () => {
  it.each(["203.0.113.7", "203.0.113.0/24", "0.0.0.0/0", "::1", "2001:db8::/32", "2001:DB8::1/128", "::/0"])(
    "may be %s",
    (text) => expect(isRange(text)).toBe(true),
  );

  it.each([
    "",
    "acme",
    "203.0.113",
    "203.0.113.256",
    "203.0.113.0/33",
    "203.0.113.0/-1",
    "203.0.113.0/",
    "203.0.113.0/24 ",
    "2001:db8::/129",
    "fe80::1%eth0",
    // A client of IPv4 has the address 203.0.113.7.
    "::ffff:203.0.113.7",
  ])("cannot be %j", (text) => expect(isRange(text)).toBe(false));
});

/** IPv4 ranges of a small world, so that they often overlap, and all of its addresses. */
const world = Array.from({ length: 16 }, (_, last) => `10.0.0.${last}`);
const range = fc
  .tuple(fc.nat(15), fc.integer({ min: 28, max: 32 }))
  .map(([last, length]) => `10.0.0.${last}/${length}`);
const ranges = fc.array(range, { minLength: 1, maxLength: 4 });
const inside = (address: string, list: readonly string[]) =>
  list.some((one) => excluded([address], [one]).length === 0);

describe("lists of ranges", () => {
  it("have in common just the addresses that are in both", () => {
    fc.assert(
      fc.property(ranges, ranges, (some, others) => {
        const common = inBoth(some, others);
        for (const address of world) {
          expect(inside(address, common)).toBe(inside(address, some) && inside(address, others));
        }
      }),
    );
  });

  it("of all but one have every address that it has not", () => {
    fc.assert(
      fc.property(range, (one) => {
        for (const address of [...world, "0.0.0.0", "9.255.255.255", "11.0.0.0", "255.255.255.255"])
          expect(inside(address, allBut(one))).toBe(!inside(address, [one]));
      }),
    );
  });

  it("exclude nothing just where every address is still in them", () => {
    fc.assert(
      fc.property(ranges, ranges, (before, after) => {
        if (excluded(before, after).length > 0) return;
        for (const address of world) if (inside(address, before)) expect(inside(address, after)).toBe(true);
      }),
    );
    expect(excluded(undefined, ["10.0.0.0/8"])).toEqual(["0.0.0.0/0", "::/0"]);
    expect(excluded(["10.0.0.0/8"], undefined)).toEqual([]);
    expect(excluded(["10.0.0.0/8", "2001:db8::1"], ["10.0.0.0/7"])).toEqual(["2001:db8::1"]);
  });
});
