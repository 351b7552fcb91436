import { describe, expect, it } from "vitest";
import { backupContainer } from "../../../backups/client";
import { hardened, postgresUser, withoutNames } from "../../../docker/hardening";
import { containerOptions, runTenant, serverOptions } from "../support/graph";

describe("what every container has", () => {
  it("is a root that cannot be written to, no capability, and no way to more rights", () => {
    expect(hardened).toMatchObject({
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges:true"],
    });
  });

  it("is a log that ends before it fills the disk", () => {
    const { Type, Config = {} } = (hardened.LogConfig ?? {}) as {
      Type?: string;
      Config?: Record<string, string>;
    };
    expect(Type).toBe("json-file");
    const size = /^(\d+)m$/.exec(Config["max-size"] ?? "")?.[1];
    expect(Number(size) * Number(Config["max-file"])).toBeLessThanOrEqual(50);
  });

  it("is in the proxy, in a tenant's server and in its backup container", async () => {
    const graph = await runTenant();
    const backup = backupContainer({
      tenant: "acme",
      serverVolume: "pgs-acme",
      backupVolume: "pgs-acme--backup",
      schedule: "02:30",
      retention: 7,
    });
    for (const { HostConfig } of [containerOptions(graph, "proxy"), serverOptions(graph), backup.options]) {
      expect(HostConfig).toMatchObject(hardened);
    }
    expect(backup.options.User).toBe(`${postgresUser}:${postgresUser}`);
  });
});

it("a container that may not look up names asks an address that answers nothing", async () => {
  expect(withoutNames.Dns).toEqual(["0.0.0.0"]);
  expect(serverOptions(await runTenant()).HostConfig).toMatchObject(withoutNames);
});
