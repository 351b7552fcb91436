import { BlockList, isIP } from "node:net";

/** Addresses of clients, IPv4 or IPv6. */
interface Range {
  address: string;
  family: "ipv4" | "ipv6";
  /** Bits that its addresses have in common. */
  length: number;
}

/** IPv4 addresses in the words of IPv6: no client has one. */
const mapped = new BlockList();
mapped.addSubnet("::ffff:0:0", 96, "ipv6");

/** An address, or a range (CIDR) such as 203.0.113.0/24 or 2001:db8::/32; undefined when it is neither. */
function parseRange(text: string): Range | undefined {
  const [, address = "", length] = /^([\da-f.:]+)(?:\/(\d{1,3}))?$/i.exec(text) ?? [];
  const version = isIP(address);
  if (version === 0) return undefined;
  const [family, bits] = version === 4 ? (["ipv4", 32] as const) : (["ipv6", 128] as const);
  if (Number(length ?? bits) > bits || (family === "ipv6" && mapped.check(address, family))) return undefined;
  return { address, family, length: Number(length ?? bits) };
}

export function isRange(text: string): boolean {
  return parseRange(text) !== undefined;
}

/** Whether every address of `inner` is in `outer`. */
function contains(outer: string, inner: string): boolean {
  const [one, other] = [parseRange(outer), parseRange(inner)];
  if (!one || !other || one.family !== other.family || one.length > other.length) return false;
  const list = new BlockList();
  list.addSubnet(one.address, one.length, one.family);
  return list.check(other.address, other.family);
}

/** The ranges whose addresses are in both lists: two ranges have none in common, or one has all of the other's. */
export function inBoth(some: readonly string[], others: readonly string[]): string[] {
  const common = some.flatMap((one) =>
    others.flatMap((other) => (contains(one, other) ? [other] : contains(other, one) ? [one] : [])),
  );
  return [...new Set(common)];
}

/** The ranges that have every IPv4 address but those of a range of IPv4: its neighbours, ever larger ones. */
export function allBut(range: string): string[] {
  const [address = "", bits] = range.split("/");
  const number = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  return Array.from({ length: Number(bits) }, (_, index) => {
    const size = 2 ** (31 - index);
    const first = (Math.floor(number / size) + (Math.floor(number / size) % 2 === 0 ? 1 : -1)) * size;
    const parts = [24, 16, 8, 0].map((shift) => Math.floor(first / 2 ** shift) % 256);
    return `${parts.join(".")}/${index + 1}`;
  });
}

const everyone = ["0.0.0.0/0", "::/0"];

/** Ranges of `before` that are in none of `after`; a list that is undefined has every address. */
export function excluded(
  before: readonly string[] = everyone,
  after: readonly string[] = everyone,
): string[] {
  return before.filter((range) => !after.some((one) => contains(one, range)));
}
