import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { loginHint, type TenantSummary, tenantsTable } from "../../cli/tenants-table";

function tenant(fields: Partial<TenantSummary> = {}): TenantSummary {
  return {
    host: "localhost",
    port: 5432,
    database: "acme",
    user: "postgres",
    access: true,
    state: "running",
    version: 18,
    ...fields,
  };
}

describe("the tenants' table", () => {
  it("has a line for each tenant, its columns as wide as what is in them", () => {
    const table = tenantsTable({
      acme: tenant({ host: "acme.pgs.example.com" }),
      "a-tenant-with-a-long-id": tenant({ host: "b.x", port: 15432, database: "b", access: false }),
      c: tenant({ host: "c.x", state: "stopped" }),
    });
    expect(table.split("\n")).toEqual([
      "TENANT                   HOST                  PORT   DATABASE  ACCESS  STATE",
      "acme                     acme.pgs.example.com  5432   acme      on      running",
      "a-tenant-with-a-long-id  b.x                   15432  b         off     running",
      "c                        c.x                   5432   acme      on      stopped",
    ]);
  });

  it("is its heading when there is no tenant", () => {
    expect(tenantsTable({})).toBe("TENANT  HOST  PORT  DATABASE  ACCESS  STATE");
  });
});

describe("the hint how to log in", () => {
  beforeEach(() => {
    vi.stubEnv("DOCKER_HOST", undefined);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  const unresolved = "acme.pgs.invalid";

  it("takes the first tenant that can be reached", async () => {
    const hint = await loginHint({
      closed: tenant({ access: false }),
      stopped: tenant({ state: "stopped" }),
      open: tenant({ database: "open", port: 6432 }),
      other: tenant({ database: "other" }),
    });
    expect(hint.split("\n")).toEqual([
      "Connection string:  ./pgs url open",
      'Log in:             PGPASSWORD=$(./pgs password open) psql "host=localhost port=6432 dbname=open user=postgres sslmode=require"',
    ]);
  });

  it("says so when no tenant can be reached", async () => {
    const none = "No tenant can be reached: none is running with access on.";
    expect(await loginHint({})).toBe(none);
    expect(await loginHint({ a: tenant({ access: false }), b: tenant({ state: "stopped" }) })).toBe(none);
  });

  it("has an address beside a name that does not resolve, and only then", async () => {
    expect(await loginHint({ acme: tenant({ host: unresolved }) })).toContain(
      `"host=${unresolved} hostaddr=127.0.0.1 port=5432 `,
    );
    expect(await loginHint({ acme: tenant() })).not.toContain("hostaddr");
  });

  it.each([
    ["unix:///run/user/1000/docker.sock", "127.0.0.1"],
    ["tcp://192.0.2.7:2376", "192.0.2.7"],
    ["ssh://root@192.0.2.8", "192.0.2.8"],
    ["ssh://root@192.0.2.9:22", "192.0.2.9"],
    ["tcp://192.0.2.10/", "192.0.2.10"],
  ])("has with the Docker host %s the address %s", async (host, address) => {
    vi.stubEnv("DOCKER_HOST", host);
    expect(await loginHint({ acme: tenant({ host: unresolved }) })).toContain(` hostaddr=${address} `);
  });
});
