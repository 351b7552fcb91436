import { describe, expect, it } from "vitest";
import type { TenantStatus } from "../../../../cli/lib/tenant-status";
import { tenantsTable, usageTable } from "../../../../cli/lib/tenants-table";

function status(fields: Partial<TenantStatus> = {}): TenantStatus {
  return {
    id: "acme",
    host: "acme.pgs.example.com",
    port: 5432,
    version: 18,
    access: true,
    pooler: null,
    state: "running",
    memory: { used: 84.2 * 2 ** 20, limit: 512 * 2 ** 20 },
    cpu: { used: 0.034, limit: 1 },
    restartPending: false,
    size: 1.26 * 2 ** 30,
    disk: { used: 1.3 * 2 ** 30, limit: null, readOnly: false },
    wal: 2 ** 26,
    connections: 3,
    maxConnections: 102,
    uptime: 3 * 86400 + 4 * 3600 + 59,
    ...fields,
  };
}

const stopped = status({
  id: "a-longer-id",
  access: false,
  state: "stopped",
  memory: { used: null, limit: 2 ** 30 },
  cpu: { used: null, limit: 0.5 },
  size: null,
  connections: null,
  maxConnections: null,
  uptime: null,
});

describe("the tenants' table", () => {
  it("has a line for each tenant, its columns as wide as what is in them", () => {
    expect(usageTable([status(), stopped]).split("\n")).toEqual([
      "TENANT       HOST                  ACCESS  STATE        MEMORY     CPU   SIZE  CONNECTIONS  UPTIME",
      "acme         acme.pgs.example.com  on      running  84Mi/512Mi  0.03/1  1.3Gi        3/102    3d4h",
      "a-longer-id  acme.pgs.example.com  off     stopped       -/1Gi   -/0.5      -          -/-       -",
    ]);
  });

  it("has what a tenant with a disk budget takes of it, and that it is read-only", () => {
    const disk = { used: 9.6 * 2 ** 30, limit: 10 * 2 ** 30, readOnly: true };
    expect(usageTable([status({ disk })])).toContain("read-only 9.6Gi/10Gi");
    expect(usageTable([status({ disk: { ...disk, readOnly: false } })])).toContain(" 9.6Gi/10Gi");
  });

  it("has where each tenant is reached, its state and limits", () => {
    expect(tenantsTable([status()]).split("\n")).toEqual([
      "TENANT  HOST                  PORT  ACCESS  STATE    VERSION  MEMORY  CPUS",
      "acme    acme.pgs.example.com  5432  on      running       18   512Mi     1",
    ]);
    expect(tenantsTable([status({ pooler: "acme-pooler.pgs.example.com" }), stopped])).toMatch(
      /^TENANT +HOST +POOLER +PORT .*\nacme +acme.pgs.example.com +acme-pooler.pgs.example.com +5432 .*\na-longer-id +\S+ +- +5432/,
    );
    expect(tenantsTable([status()], 60).split("\n")[0]).toBe(
      "TENANT  HOST                  PORT  ACCESS  STATE    MEMORY",
    );
  });

  it("is its heading when there is no tenant", () => {
    expect(usageTable([])).toBe("TENANT  HOST  ACCESS  STATE  MEMORY  CPU  SIZE  CONNECTIONS  UPTIME");
  });

  it.each([
    [90, "TENANT       HOST                  ACCESS  STATE        MEMORY   SIZE  CONNECTIONS  UPTIME"],
    [70, "TENANT       HOST                  ACCESS  STATE        MEMORY   SIZE"],
    [30, "TENANT       ACCESS  STATE"],
    [10, "TENANT       STATE"],
  ])("leaves out what a terminal of %d columns has no room for", (width, heading) => {
    expect(usageTable([status(), stopped], width).split("\n")[0]).toBe(heading);
  });
});
