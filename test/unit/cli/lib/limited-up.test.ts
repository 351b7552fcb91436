import { describe, expect, it } from "vitest";
import { limitedUp } from "../../../../cli/lib/limited-up";
import { limitedIds } from "../../../../config/digest";

describe("an up for some tenants alone", () => {
  const applied = { stack: "s", tenants: { acme: "a", globex: "g" } };
  const target = (id: string) => ["--target", `urn:pulumi:*::pgs::pgs:index:PgTenant**::${id}`];

  it("names the component and its children of each, and has the program know them", () => {
    const wanted = { stack: "s", tenants: { acme: "changed", globex: "g", hooli: "h" } };
    const { args, env } = limitedUp(["acme", "hooli"], applied, wanted);
    expect(args).toEqual([...target("acme"), ...target("hooli")]);
    expect(limitedIds(env.PGS_LIMITED_TO ?? "", wanted)).toEqual(["acme", "hooli"]);
  });

  it("is a whole one when something else is pending", () => {
    const whole = { args: [], env: {} };
    expect(limitedUp(["acme"], applied, { ...applied, stack: "other" })).toEqual(whole);
    expect(limitedUp(["acme"], undefined, applied)).toEqual(whole);
  });
});
