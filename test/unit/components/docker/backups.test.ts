import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import type { ContainerInputs } from "../../../../provider/container";
import { unwrap } from "../../../../provider/wire";
import {
  childrenOf,
  containerOptions,
  find,
  inTheClear,
  ofKind,
  runTenant,
  serverOf,
  types,
} from "../../support/graph";
import { type Graph, imageId, runProgram, stackId } from "../../support/program";
import { isSecret, plain } from "../../support/wire";

const on = { "pgs:backups": '{"schedule":"02:30"}' };

describe("backups", () => {
  it("are on by default", async () => {
    const project = parse(readFileSync(join(__dirname, "../../../../Pulumi.yaml"), "utf8"));
    const declared = project.config.backups.default;
    expect(declared).toMatchObject({ schedule: "02:30", retention: "7d" });
    const graph = await runTenant("", { "pgs:backups": JSON.stringify(declared) });
    expect(serverOf(graph).backup).toMatchObject({ schedule: "02:30", retention: 7 });
  });

  it("can be off, and then there is nothing of them", async () => {
    const graph = await runTenant();
    expect(graph.resources.filter(({ type }) => /Backup|Restore/.test(type))).toEqual([]);
    expect(serverOf(graph)).not.toHaveProperty("backup");
    expect(serverOf(graph).settings.live).not.toHaveProperty("summarize_wal");
  });

  it("are one image for all, and a part of each tenant's server, also of one that is stopped", async () => {
    const graph = await runProgram("tenants: { acme: {}, idle: { state: stopped } }", on);
    expect(childrenOf(graph, "backups", "backups")).toEqual([]);
    const { name: image } = find(graph, "image", "barman").inputs as { name: string };
    expect(image).toMatch(/^pgs-barman:/);
    for (const id of ["acme", "idle"]) {
      expect(serverOf(graph, id).backup).toEqual({
        name: `pgs-${id}--backup`,
        image,
        imageId: imageId(image),
        schedule: "02:30",
        retention: 7,
      });
    }
  });

  it("have no password, and no container or network of the stack's own", async () => {
    const [graph, without] = [await runTenant("", on), await runTenant()];
    expect(
      ofKind(graph, "container")
        .map(({ name }) => name)
        .sort(),
    ).toEqual(["cancel", "proxy"]);
    const secrets = ({ resources }: Graph) =>
      resources.flatMap(({ type, inputs }) =>
        Object.entries(inputs).flatMap(([key, value]) => (isSecret(value) ? [`${type} ${key}`] : [])),
      );
    expect(secrets(graph)).toEqual(secrets(without));
  });

  it("set what a server needs live, and leave it to the operator where he sets it himself", async () => {
    const live = async (fields: string) => serverOf(await runTenant(fields, on)).settings.live;
    expect(await live("")).toMatchObject({
      summarize_wal: "on",
      wal_compression: "lz4",
      max_slot_wal_keep_size: "2GB",
    });
    expect(await live("settings: { max_slot_wal_keep_size: 9GB }")).toMatchObject({
      max_slot_wal_keep_size: "9GB",
    });
  });

  it("are a tenant's own where it or defaults say so, and it has none where they are off", async () => {
    const graph = await runProgram(
      `defaults: { backup: { retention: 14d } }
tenants: { acme: {}, globex: { backup: { schedule: 03:00, retention: 30d } }, scratch: { backup: { schedule: off } } }`,
      on,
    );
    expect(serverOf(graph).backup).toMatchObject({ schedule: "02:30", retention: 14 });
    expect(serverOf(graph, "globex").backup).toMatchObject({ schedule: "03:00", retention: 30 });
    const scratch = serverOf(graph, "scratch");
    expect(scratch).not.toHaveProperty("backup");
    expect(scratch.settings.live).not.toHaveProperty("wal_compression");
    expect((graph.outputs.tenants as Record<string, { backup: object }>).scratch?.backup).toEqual({
      schedule: "off",
      retention: "14d",
    });
  });

  it("that a tenant wants are refused where the stack has none", async () => {
    await expect(runTenant("backup: { schedule: 03:00 }")).rejects.toThrow(
      /tenants\.yaml:1:\d+: tenants\.acme\.backup\.schedule: pgs:backups\.schedule is off/,
    );
    await runTenant("backup: { schedule: off, retention: 3d }");
  });
});

describe("copies of the backups at S3", () => {
  const backups = { schedule: "02:30", destination: "s3://off-site/pgs", endpoint: "https://s3.example.com" };
  const config = {
    "pgs:backups": JSON.stringify(backups),
    "pgs:backupCredentials": '{"accessKeyId":"the-id","secretAccessKey":"the-key"}',
  };
  const tenants = `tenants:
  acme: {}
  globex: { backup: { retention: 30d }, state: stopped }
  scratch: { backup: { schedule: off } }`;
  const offsiteOf = (graph: Graph) => unwrap(find(graph, "container", "offsite").inputs) as ContainerInputs;

  it("are made by one container, which waits for no tenant, and a restored tenant waits for it", async () => {
    const graph = await runProgram(tenants, config);
    expect(childrenOf(graph, "backups", "backups")).toEqual(
      [`${types.volume} offsite`, `${types.container} offsite`, `${types.destination} backups`].sort(),
    );
    const { dependencies } = find(graph, "container", "offsite");
    expect(dependencies.filter((one) => one.startsWith(types.server))).toEqual([]);
    const entry = "tenants:\n  acme: { restoreFrom: { tenant: gone } }\n";
    const restored = find(await runProgram(entry, config), "restore");
    expect(restored.dependencies).toContain(`${types.destination} backups`);
    expect(restored.inputs.offsite).toBe(true);
    const without = await runTenant("", on);
    expect(ofKind(without, "destination")).toEqual([]);
    expect(
      ofKind(without, "container")
        .map(({ name }) => name)
        .sort(),
    ).toEqual(["cancel", "proxy"]);
  });

  it("see the backups of each tenant that has some, read-only and nothing else of them", async () => {
    const { mounts, command, tmpfs } = offsiteOf(await runProgram(tenants, config));
    expect(tmpfs).toEqual(["/tmp", "/var/lib/barman", "/var/lib/postgresql"]);
    expect(mounts).toEqual([
      { volume: "pgs--offsite", path: "/var/lib/offsite" },
      { volume: "pgs-acme--backup", path: "/backups/acme", readOnly: true, backupsOf: "acme" },
      { volume: "pgs-globex--backup", path: "/backups/globex", readOnly: true, backupsOf: "globex" },
    ]);
    expect(command).toEqual(["run", "--tenant", "acme=7", "--tenant", "globex=30"]);
  });

  it("have a network that leads out and that no tenant is in", async () => {
    const graph = await runProgram(tenants, config);
    const { networks, resolvesNames } = offsiteOf(graph);
    expect(networks).toMatchObject([{ name: "pgs--offsite", internal: false }]);
    expect(resolvesNames).toBe(true);
    for (const id of ["acme", "globex", "scratch"]) {
      expect(serverOf(graph, id).network.name).not.toBe("pgs--offsite");
    }
  });

  it("are made in a container that is hardened and limited, with a volume that outlives the stack", async () => {
    const graph = await runTenant("", config);
    const { HostConfig, User, Labels } = containerOptions(graph, "offsite");
    expect(User).toBe("999:999");
    expect(Labels).toMatchObject({ "pgs.stack": stackId });
    expect(HostConfig).toMatchObject({
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges:true"],
      Tmpfs: { "/tmp": expect.anything() },
    });
    expect(HostConfig?.Memory).toBeGreaterThan(0);
    expect(HostConfig?.PidsLimit).toBeGreaterThan(0);
    expect(HostConfig?.PortBindings).toEqual({});
    expect(find(graph, "volume", "offsite").retainOnDelete).toBe(true);
  });

  it("have credentials that are secrets, and in no container's command, environment or labels", async () => {
    const graph = await runTenant("", config);
    const { inputs, additionalSecretOutputs } = find(graph, "destination", "backups");
    expect(inputs).toMatchObject({
      container: "engine-id-of-offsite",
      destination: "s3://off-site/pgs",
      endpoint: "https://s3.example.com",
      encryption: "AES256",
    });
    expect(isSecret(inputs.accessKeyId) && isSecret(inputs.secretAccessKey)).toBe(true);
    expect(plain(inputs.secretAccessKey)).toBe("the-key");
    expect(additionalSecretOutputs).toEqual(expect.arrayContaining(["accessKeyId", "secretAccessKey"]));
    expect(inTheClear(graph)).not.toMatch(/the-id|the-key/);
    expect(JSON.stringify(containerOptions(graph, "offsite"))).not.toMatch(/the-id|the-key/);
  });
});
