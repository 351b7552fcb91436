import { describe, expect, it } from "vitest";
import { limitedUp } from "../../../../cli/lib/limited-up";
import { parseTenants } from "../../../../tenants";
import { tenant } from "../support/tenant";

describe("an up for some tenants alone", () => {
  const config = {
    domain: "pgs.test",
    port: 5432,
    hostnameSuffix: "none",
    backups: { schedule: "off", retention: "7d" },
  };
  const on = { schedule: "02:30", retention: "7d" };
  const backedUp = {
    acme: tenant({ host: "acme.pgs.test", backup: on }),
    globex: tenant({ host: "globex.pgs.test", backup: on }),
  };
  const file = (text: string) => parseTenants(`tenants: ${text}`);
  const applied = {
    acme: tenant({ host: "acme.pgs.test" }),
    globex: tenant({ host: "globex.pgs.test" }),
  };
  const of = (...ids: string[]) => ({
    args: ids.flatMap((id) => ["--target", `urn:pulumi:*::pgs::pgs:index:PgTenant**::${id}`]),
    env: { PGS_LIMITED_TO: ids.join(",") },
  });

  it("names the component and its children of each, and tells the program", () => {
    expect(limitedUp(["acme"], applied, file("{ acme: { memory: 1Gi }, globex: {} }"), config)).toEqual(
      of("acme"),
    );
    expect(limitedUp(["acme", "new"], applied, file("{ globex: {}, new: {} }"), config)).toEqual(
      of("acme", "new"),
    );
  });

  it("knows the backups that each tenant has", () => {
    const backups = { ...config, backups: on };
    expect(
      limitedUp(["acme"], backedUp, file("{ acme: { backup: { retention: 9d } }, globex: {} }"), backups),
    ).toEqual(of("acme"));
  });

  it("knows hostnames with a random suffix", () => {
    const suffixed = {
      acme: tenant({ host: "acme-3f9c1a.pgs.test" }),
      globex: tenant({ host: "globex-aaaaaa.pgs.test" }),
    };
    const random = { ...config, hostnameSuffix: "random" };
    expect(limitedUp(["acme"], suffixed, file("{ acme: {}, globex: {} }"), random)).toEqual(of("acme"));
    expect(limitedUp(["acme"], suffixed, file("{ acme: {}, globex: {} }"), config)).toEqual({
      args: [],
      env: {},
    });
  });

  it.each([
    ["there was no up yet", undefined, "{ acme: {}, globex: {} }", config],
    ["the last up left no tenant", {}, "{ acme: {} }", config],
    ["another tenant is not made yet", applied, "{ acme: {}, globex: {}, other: {} }", config],
    ["another tenant is not removed yet", applied, "{ acme: {} }", config],
    ["another tenant is changed", applied, "{ acme: {}, globex: { cpus: 2 } }", config],
    ["another tenant is renamed", applied, "{ acme: {}, globex: { hostname: other } }", config],
    ["another tenant's TLS is changed", applied, "{ acme: {}, globex: { tls: passthrough } }", config],
    ["hostnames get a suffix", applied, "{ acme: {}, globex: {} }", { ...config, hostnameSuffix: "random" }],
    ["the domain is changed", applied, "{ acme: {}, globex: {} }", { ...config, domain: "x.test" }],
    ["the port is changed", applied, "{ acme: {}, globex: {} }", { ...config, port: 6432 }],
    ["backups are switched on", applied, "{ acme: {}, globex: {} }", { ...config, backups: on }],
    [
      "they are for the only tenant",
      { acme: tenant({ host: "acme.pgs.test" }) },
      "{ acme: {} }",
      { ...config, backups: on },
    ],
    [
      "another tenant's are changed",
      backedUp,
      "{ acme: {}, globex: { backup: { retention: 9d } } }",
      { ...config, backups: on },
    ],
    [
      "no server of the version is left",
      { acme: tenant({ host: "acme.pgs.test" }) },
      "{ acme: { state: stopped } }",
      config,
    ],
  ])("is a whole one when %s", (_, before, text, configured) => {
    expect(limitedUp(["acme"], before, file(text), configured)).toEqual({ args: [], env: {} });
  });
});
