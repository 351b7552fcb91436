import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { configurationSchema } from "../../../config/schema";
import { replacementName, resourceNames, restoreContainer } from "../../../docker/names";
import { reservedIds, tenantIdPattern } from "../../../tenants/schema";

/** Letters that make near misses likely: an id or a prefix that looks like a part of another name. */
const word = fc.stringMatching(/^[a-z0-9-]{1,14}$/);
const part = fc.constantFrom(
  "a",
  "b",
  "proxy",
  "offsite",
  "programs",
  "trials",
  "trial",
  "tenants",
  "backup",
  "pooler",
);
const joined = fc
  .array(fc.oneof(part, fc.constantFrom("before", "restore", "new", "20261123T101500")), {
    minLength: 1,
    maxLength: 4,
  })
  .chain((parts) => fc.constantFrom("-", "--").map((hyphens) => parts.join(hyphens)));

const prefix = fc
  .oneof(word, joined)
  .filter((text) => configurationSchema.shape.prefix.safeParse(text).success);
const id = fc.oneof(word, joined).filter(isTenantId);
const stamp = fc.constantFrom("20261123T101500", "20261123T101501");

/** Of ids alone: whole files are slow to parse. */
function isTenantId(text: string): boolean {
  return tenantIdPattern.test(text) && !Object.hasOwn(reservedIds, text);
}

/** Each thing that a stack with these tenants can have, by what it is. */
function everything(given: string, ids: string[], stamps: string[]): [what: string, name: string][] {
  const names = resourceNames(given);
  const made: [string, string][] = [
    ["proxy", names.proxy],
    ["shared network", names.sharedNetwork],
    ["offsite", names.offsite],
    ["programs", names.programs],
    ["trials", names.trials],
    ...ids.flatMap((one): [string, string][] => [
      [`tenant ${one}`, names.tenant(one)],
      [`backup of ${one}`, names.backup(one)],
      [`pooler of ${one}`, names.pooler(one)],
      [`trial of ${one}`, names.trial(one)],
      ...stamps.map((at): [string, string] => [`${one} before ${at}`, names.before(one, at)]),
    ]),
  ];
  return made.flatMap(([what, name]) => [
    [what, name],
    [`restore into ${what}`, restoreContainer(name)],
    [`replacement of ${what}`, replacementName(name)],
  ]);
}

describe("the names of a stack", () => {
  it("are all different, whatever prefix and ids are allowed", () => {
    fc.assert(
      fc.property(
        prefix,
        fc.uniqueArray(id, { minLength: 1, maxLength: 4 }),
        fc.uniqueArray(stamp, { minLength: 1 }),
        (given, ids, stamps) => {
          const made = new Map<string, string>();
          for (const [what, name] of everything(given, ids, stamps)) {
            expect(made.get(name), `${name}: ${what}`).toBeUndefined();
            made.set(name, what);
          }
        },
      ),
    );
  });

  it("are names for Docker, begin with the prefix, and a server's is one DNS label", () => {
    fc.assert(
      fc.property(prefix, id, (given, one) => {
        for (const [, name] of everything(given, [one], ["20261123T101500"])) {
          expect(name).toMatch(/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/);
          expect(name.startsWith(`${given}-`)).toBe(true);
        }
        expect(resourceNames(given).tenant(one)).toMatch(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);
      }),
    );
    expect(resourceNames("a".repeat(14)).tenant("b".repeat(48))).toHaveLength(63);
  });

  it.each(["acme--backup", "acme--restore", "acme--new", "acme--trial", "-acme", "acme-", "proxy"])(
    "have no tenant %s among them",
    (text) => {
      expect(isTenantId(text)).toBe(false);
    },
  );

  it.each(["pgs-", "pgs--", "-pgs"])("have no prefix %s", (text) => {
    expect(configurationSchema.shape.prefix.safeParse(text).success).toBe(false);
  });
});
