import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type Docker from "dockerode";
import { afterEach, describe, expect, it, vi } from "vitest";
import { fileFindings } from "../../../../cli/lib/kept-files";
import { leftoverFindings } from "../../../../cli/lib/leftovers";
import { projectFolder } from "../../../../cli/lib/pulumi";
import { pruneFindings } from "../../../../cli/lib/unused-volumes";
import { temporaryFolder } from "../../support/program";

afterEach(() => vi.unstubAllEnvs());

describe("files that only this machine has", () => {
  it("are the state, a passphrase that is elsewhere, and what git does not have", () => {
    const folder = temporaryFolder();
    const passphrase = join(folder, "passphrase");
    writeFileSync(passphrase, "secret", { mode: 0o600 });
    vi.stubEnv("PULUMI_BACKEND_URL", `file://${folder}/state?metadata=skip`);
    vi.stubEnv("PULUMI_CONFIG_PASSPHRASE_FILE", passphrase);
    const tenantsFile = join(folder, "tenants.yaml");
    expect(fileFindings({ tenantsFile }, "none")).toEqual([
      {
        check: "files",
        level: "note",
        message: `on this machine alone, unless you keep a copy: ${folder}/state (the state), ${passphrase} (the passphrase), ${tenantsFile}`,
        advice: expect.stringContaining("docs/setup.md"),
      },
    ]);
    vi.stubEnv("PULUMI_BACKEND_URL", `file://${folder}?metadata=skip`);
    expect(fileFindings({ tenantsFile }, "none")[0]?.message).not.toContain("the passphrase");
  });

  it("are none with another backend, where git has tenants.yaml", () => {
    vi.stubEnv("PULUMI_BACKEND_URL", "s3://bucket");
    vi.stubEnv("PULUMI_CONFIG_PASSPHRASE_FILE", "");
    const tenantsFile = join(projectFolder, "tenants.yaml");
    expect(fileFindings({ tenantsFile }, "prod")).toMatchObject([{ level: "good" }]);
  });

  it("with a passphrase that others can read are a problem", () => {
    const passphrase = join(temporaryFolder(), "passphrase");
    writeFileSync(passphrase, "secret");
    chmodSync(passphrase, 0o644);
    vi.stubEnv("PULUMI_CONFIG_PASSPHRASE_FILE", passphrase);
    const found = fileFindings({ tenantsFile: join(projectFolder, "tenants.yaml") }, "none");
    expect(found.at(-1)).toMatchObject({ level: "problem", advice: `chmod 600 ${passphrase}` });
  });
});

describe("data that a prune would delete", () => {
  const volumes = [
    { Name: "pgs-stopped", Labels: { "pgs.version": "18" } },
    { Name: "pgs-removed--backup", Labels: { "pgs.stack": "ours", "pgs.tenant": "removed" } },
    { Name: "pgs-acme", Labels: { "pgs.stack": "other", "pgs.version": "18" } },
    { Name: "pgs-unlabelled", Labels: null },
    { Name: "others", Labels: { "pgs.version": "18" } },
  ];
  const docker = { listVolumes: async () => ({ Volumes: volumes }) } as unknown as Docker;

  it("is the stack's own without a container, on an engine before 23", async () => {
    expect(await pruneFindings(docker, "20.10.24+dfsg1", "pgs", "ours")).toEqual([
      {
        check: "volume",
        level: "note",
        message: expect.stringMatching(/: pgs-removed--backup, pgs-stopped$/),
        advice: expect.stringContaining("docs/lifecycle.md"),
      },
    ]);
    expect(await pruneFindings(docker, "23.0.0", "pgs", "ours")).toEqual([]);
  });
});

describe("what a run that was killed left", () => {
  const container = (role: string, State = "created", tenant?: string) =>
    ({ State, Labels: { "pgs.role": role, ...(tenant && { "pgs.tenant": tenant }) } }) as never;
  const networks = ["pgs-proxy", "pgs-acme", "pgs--offsite", "pgs2-acme"].map((Name) => ({ Name }));
  const docker = { listNetworks: async () => networks } as unknown as Docker;
  const there: [string, never][] = [
    ["pgs-proxy", container("proxy", "running")],
    ["pgs-acme", container("server", "exited", "acme")],
    ["pgs-acme--backup", container("backup", "running", "acme")],
    ["pgs2-acme", container("server", "running", "acme")],
    ["pgs2--cancel--new", container("cancel")],
    ["pgs2-acme--backup", container("backup", "exited", "acme")],
    ["pgs-acme--restore", { State: "exited", Labels: {} } as never],
  ];

  it("is what has another name than it would have now, and does not run", async () => {
    const found = await leftoverFindings(
      docker,
      { prefix: "pgs", ipv6Subnet: undefined },
      "ours",
      new Map(there),
      ["acme"],
    );
    expect(found.map(({ level, advice }) => [level, advice])).toEqual([
      ["note", "while no up runs: docker rm pgs2--cancel--new pgs2-acme--backup"],
      ["note", "while no up runs: docker network rm pgs2-acme"],
    ]);
  });

  it("is nothing while another prefix waits for its up", async () => {
    expect(
      await leftoverFindings(docker, { prefix: "pgs2", ipv6Subnet: undefined }, "ours", new Map(there), [
        "acme",
      ]),
    ).toEqual([]);
  });
});
