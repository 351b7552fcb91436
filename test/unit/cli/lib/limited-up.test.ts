import { describe, expect, it } from "vitest";
import {
  limitedUp,
  namingTenants,
  tenantsChanged,
  tenantsIn,
  upWithout,
  wasWhole,
} from "../../../../cli/lib/limited-up";
import { limitedIds } from "../../../../config/digest";

const urn = (id: string) => `urn:pulumi:*::pgs::pgs:index:PgTenant**::${id}`;

describe("an up for some tenants alone", () => {
  const applied = { stack: "s", tenants: { acme: "a", globex: "g" } };
  const target = (id: string) => ["--target", urn(id), "--target", `${urn(id)}/*`];

  it("names the component and its children of each, and has the program know them", () => {
    const wanted = { stack: "s", tenants: { acme: "changed", globex: "g", hooli: "h" } };
    const { args, env } = limitedUp(["acme", "hooli"], applied, wanted);
    const message = "one edit of pgs: acme, hooli";
    expect(args).toEqual([...target("acme"), ...target("hooli"), "--message", message]);
    expect(tenantsIn(message)).toBe("acme, hooli");
    expect(tenantsIn("Raise the memory of acme")).toBeUndefined();
    expect(limitedIds(env.PGS_LIMITED_TO ?? "", wanted)).toEqual(["acme", "hooli"]);
  });

  it("is a whole one when something else is pending", () => {
    const whole = { args: [], env: {} };
    expect(limitedUp(["acme"], applied, { ...applied, stack: "other" })).toEqual(whole);
    expect(limitedUp(["acme"], undefined, applied)).toEqual(whole);
  });
});

describe("a whole up whose plan is known", () => {
  it("names the tenants that it changes, unless the operator has a message, and is still a whole one", () => {
    const [option, message = ""] = namingTenants(["acme", "hooli"], ["--refresh"]);
    expect(option).toBe("--message");
    expect(tenantsChanged(message)).toBe("acme, hooli");
    expect(tenantsIn(message)).toBeUndefined();
    expect(tenantsChanged("one edit of pgs: acme")).toBe("acme");
    expect(tenantsChanged("Raise the memory of acme")).toBeUndefined();
    for (const args of [["-m", "text"], ["--message=text"]])
      expect(namingTenants(["acme"], args)).toEqual([]);
    expect(namingTenants([], [])).toEqual([]);
  });
});

describe("an up without the tenants that failed", () => {
  it("leaves them out of a whole one", () => {
    expect(upWithout(["acme"], ["--refresh"])).toEqual([
      ...["--refresh", "--exclude", urn("acme"), "--exclude", `${urn("acme")}/*`],
    ]);
  });

  it("is of the others alone where it was limited to some, and says no more that it is as good as a whole one", () => {
    const applied = { stack: "s", tenants: { acme: "a", globex: "g" } };
    const { args } = limitedUp(["acme", "globex"], applied, applied);
    expect(upWithout(["acme"], args)).toEqual([
      ...["--target", urn("globex"), "--target", `${urn("globex")}/*`],
    ]);
    expect(upWithout(["acme", "globex"], args)).toBeUndefined();
  });

  it("is none beside targets of the operator's own", () => {
    for (const args of [["--target=urn"], ["-t", "urn"], ["--exclude", "urn"], ["--target-replace", "urn"]])
      expect(upWithout(["acme"], args)).toBeUndefined();
  });
});

describe("whether the last up was a whole one", () => {
  const up = { kind: "update", result: "succeeded", message: "", environment: {} };
  const target = { "pulumi.flag.target": "set" };

  it.each<[string, boolean, Parameters<typeof wasWhole>[0]]>([
    ["it ended well", true, [up]],
    ["it failed", false, [{ ...up, result: "failed" }, up]],
    ["it was limited by pgs", true, [{ ...up, message: "one edit of pgs: acme", environment: target }]],
    ["it was limited by hand", false, [{ ...up, environment: target }, up]],
    ["it left tenants out", false, [{ ...up, environment: { "pulumi.flag.exclude": "set" } }, up]],
    ["a refresh came after it", true, [{ ...up, kind: "refresh" }, up]],
    ["something was destroyed after it", false, [{ ...up, kind: "destroy" }, up]],
    ["there was none", false, []],
  ])("%s: %s", (_, whole, history) => {
    expect(wasWhole(history)).toBe(whole);
  });
});
