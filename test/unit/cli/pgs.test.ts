import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const root = join(__dirname, "..", "..", "..");
let folder: string;

/** As npm installs the package: `pgs` alone, and a link to it. */
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pgs-package-"));
  mkdirSync(join(folder, "node_modules", "pgs"), { recursive: true });
  mkdirSync(join(folder, "node_modules", ".bin"));
  mkdirSync(join(folder, "node_modules", "pgs", "cli"));
  for (const file of ["pgs", "cli/help.txt"])
    copyFileSync(join(root, file), join(folder, "node_modules", "pgs", file));
  symlinkSync("../pgs/pgs", join(folder, "node_modules", ".bin", "pgs"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const pgs = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(join(folder, "node_modules", ".bin", "pgs"), args, {
    cwd: folder,
    encoding: "utf8",
  });
  return { status, stdout, stderr };
};
const project = (name: string) => {
  writeFileSync(join(folder, "Pulumi.yaml"), `name: ${name}\ndescription: one\n`);
  writeFileSync(join(folder, "pgs"), '#!/bin/sh\necho the project "$@"\nexit 3\n', { mode: 0o755 });
};

describe("pgs, installed as a package", () => {
  it("has its help everywhere", () => {
    expect(pgs("--help")).toMatchObject({
      status: 0,
      stdout: expect.stringContaining("Usage: ./pgs COMMAND"),
    });
  });

  it("says where it looked for a project", () => {
    const result = pgs("list");
    expect(result.status).toBe(2);
    expect(result.stderr).toContain(`${folder} is no pgs project`);
    project("another");
    expect(pgs("list").stderr).toContain("is no pgs project");
  });

  it("is the command of the project in the current folder", () => {
    project("pgs");
    expect(pgs("set", "acme", "memory", "1 Gi")).toEqual({
      status: 3,
      stdout: "the project set acme memory 1 Gi\n",
      stderr: "",
    });
  });
});

it("git ignores what a killed edit of tenants.yaml leaves", () => {
  const { status } = spawnSync("git", ["check-ignore", "-q", ".0a1b2c3d.tenants.yaml"], { cwd: root });
  expect(status).toBe(0);
  expect(spawnSync("git", ["check-ignore", "-q", "tenants.yaml"], { cwd: root }).status).toBe(1);
});
