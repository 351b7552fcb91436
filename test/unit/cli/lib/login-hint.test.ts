import { describe, expect, it } from "vitest";
import { loginHint } from "../../../../cli/lib/login-hint";
import { tenant } from "../support/tenant";

describe("the hint how to log in", () => {
  const unresolved = "acme.pgs.invalid";
  const docker = "tcp://192.0.2.7:2376";

  it("takes the first tenant that can be reached", async () => {
    const hint = await loginHint(
      {
        closed: tenant({ access: false }),
        stopped: tenant({ state: "stopped" }),
        open: tenant({ database: "open", port: 6432 }),
        other: tenant({ database: "other" }),
      },
      docker,
    );
    expect(hint.split("\n")).toEqual([
      "Connection string:  ./pgs url open",
      'Log in:             PGPASSWORD=$(./pgs password open) psql "host=localhost port=6432 dbname=open user=postgres sslmode=require"',
      "or:                 ./pgs connect open",
    ]);
  });

  it("says so when no tenant can be reached", async () => {
    const none = "No tenant can be reached: none is running with access on.";
    expect(await loginHint({}, docker)).toBe(none);
    const closed = { a: tenant({ access: false }), b: tenant({ state: "stopped" }) };
    expect(await loginHint(closed, docker)).toBe(none);
  });

  it("has an address beside a name that does not resolve, and only then", async () => {
    expect(await loginHint({ acme: tenant({ host: unresolved }) }, docker)).toContain(
      `"host=${unresolved} hostaddr=192.0.2.7 port=5432 `,
    );
    expect(await loginHint({ acme: tenant() }, docker)).not.toContain("hostaddr");
  });
});
