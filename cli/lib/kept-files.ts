import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import type { Finding } from "./doctor";
import { projectFolder } from "./pulumi";
import type { StackConfig } from "./stack";

/** What a stack is lost without, and only this machine may have. @param stack its name */
export function fileFindings({ tenantsFile }: Pick<StackConfig, "tenantsFile">, stack: string): Finding[] {
  const check = "files";
  const { PULUMI_BACKEND_URL: backend = "", PULUMI_CONFIG_PASSPHRASE_FILE: passphrase } = process.env;
  const state = backend.startsWith("file://")
    ? fileURLToPath(new URL(backend.replace(/\?.*$/, "")))
    : undefined;
  const configuration = join(projectFolder, `Pulumi.${stack}.yaml`);
  const only = [
    ...(state ? [`${shown(state)} (the state)`] : []),
    ...(passphrase && !(state && isBelow(passphrase, state))
      ? [`${shown(passphrase)} (the passphrase)`]
      : []),
    ...(existsSync(configuration) && !isInGit(configuration)
      ? [`${shown(configuration)} (the configuration)`]
      : []),
    ...(isInGit(tenantsFile) ? [] : [shown(tenantsFile)]),
  ];
  const findings: Finding[] = [];
  if (only.length > 0) {
    findings.push({
      check,
      level: "note",
      message: `on this machine alone, unless you keep a copy: ${only.join(", ")}`,
      advice: "back them up together (docs/setup.md, What to back up)",
    });
  }
  if (passphrase && isOpen(passphrase)) {
    findings.push({
      check,
      level: "problem",
      message: `others on this machine can read ${shown(passphrase)}, which all passwords are encrypted with`,
      advice: `chmod 600 ${shown(passphrase)}`,
    });
  }
  if (findings.length > 0) return findings;
  return [{ check, level: "good", message: `${basename(tenantsFile)} and the configuration are in git` }];
}

function shown(path: string): string {
  return isBelow(path, projectFolder) ? relative(projectFolder, path) : path;
}

function isBelow(path: string, folder: string): boolean {
  return !relative(folder, path).startsWith("..");
}

function isInGit(path: string): boolean {
  const args = ["-C", dirname(path), "ls-files", "--error-unmatch", basename(path)];
  return spawnSync("git", args, { stdio: "ignore" }).status === 0;
}

function isOpen(path: string): boolean {
  try {
    return (statSync(path).mode & 0o077) !== 0;
  } catch {
    return false;
  }
}
