import { createHash, type Hash } from "node:crypto";
import { closeSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Tenant } from "../tenants";
import { backupPlan } from "../tenants/backup";
import { imageKey } from "../tenants/extensions";
import { readPlainFile } from "../tenants/plain-file";
import type { Settings } from "./settings";

/** Of what the program read. A secret: passwords are in it, which may be easy to guess. */
export interface Digests {
  /** Of all that is not one tenant's own. */
  stack: string;
  /** By tenant id. */
  tenants: Record<string, string>;
}

export interface WhatIsRead {
  settings: Settings;
  /** The whole configuration by key, as Pulumi hands it over. */
  raw: Readonly<Record<string, unknown>>;
  /** As in DOCKER_HOST. */
  dockerHost: string | undefined;
  tenants: readonly Tenant[];
  /** The project: paths in the configuration are relative to it. */
  folder: string;
}

/**
 * Two runs of the program that read the same have the same digests, here and in `pgs`. What one tenant's own
 * resources alone are made from is in its digest; all else is in the stack's.
 */
export function digestsOf(read: WhatIsRead): Digests {
  const { settings, raw, dockerHost, tenants, folder } = read;
  const { passwords, acme, certificate, ...others } = settings;
  const { operatorManifest, proxyManifest } = settings.kubernetes ?? {};
  const files = [certificate?.chain, certificate?.key, acme?.caCertificate].filter(
    (path) => path !== undefined,
  );
  const manifests = [operatorManifest, proxyManifest].filter((path) => path !== undefined);
  const stack = digest({
    program: programDigest(folder),
    settings: { ...others, acme, certificate, postgresImages: [...settings.postgresImages] },
    otherNamespaces: otherNamespaces(raw),
    dockerHost: settings.dockerHost ?? dockerHost,
    files: files.map((path) => contentOf(resolve(folder, path))),
    ...(manifests.length > 0 && { manifests: manifests.map((path) => fileDigest(resolve(folder, path))) }),
    ofAllTenants: ofAllTenants(settings, tenants),
  });
  return {
    stack,
    tenants: Object.fromEntries(
      tenants.map((tenant) => [
        tenant.id,
        digest({
          // The lines of the file and the folder of the checkout are no part of the tenant.
          ...{ ...tenant, positions: undefined, initFiles: undefined },
          initDigests: tenant.initFiles.map(fileDigest),
          passwords: [tenant.id, ...Object.keys(tenant.roles).map((role) => `${tenant.id}/${role}`)].map(
            (key) => (Object.hasOwn(passwords, key) ? passwords[key] : undefined),
          ),
        }),
      ]),
    ),
  };
}

/** What the resources that tenants share are made from: an image is fetched for the first tenant that uses it. */
function ofAllTenants({ backups, backupDestination }: Settings, tenants: readonly Tenant[]) {
  const running = tenants.filter(({ state }) => state === "running");
  const backedUp = tenants.filter((tenant) => backupPlan(tenant, backups).schedule !== "off");
  return {
    images: [...new Set(running.map(({ version, image }) => imageKey(version, image)))].sort(),
    hasBackups: backedUp.length > 0,
    hasPoolers: tenants.some(({ pooler }) => pooler),
    // What copies backups off the host mounts the volume of each, and knows for how long it keeps them.
    copied: backupDestination
      ? backedUp.map((tenant) => `${tenant.id}=${backupPlan(tenant, backups).retention}`).sort()
      : [],
  };
}

/** Those of the providers, such as docker:host. Pulumi keeps `pulumi` for itself. */
function otherNamespaces(raw: WhatIsRead["raw"]): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(raw)
      .filter(([key]) => !/^(pgs|pulumi):/.test(key))
      .map(([key, value]) => [key, typeof value === "object" ? value : jsonOr(String(value))]),
  );
}

function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The rooms that make the stack's resources. */
const programFolders = [
  "backups",
  "cancel",
  "components",
  "config",
  "docker",
  "kubernetes",
  "monitoring",
  "provider",
  "restore",
  "tenants",
];

/** The version of pgs, to the letter: a checkout moves between versions as well. */
function programDigest(folder: string): string {
  const inFolders = programFolders.flatMap((name) =>
    readdirSync(join(folder, name), { recursive: true, encoding: "utf8" }).map((path) => join(name, path)),
  );
  const code = inFolders.filter((path) => /\.(ts|json|sh|sql|py|ya?ml)$/.test(path)).sort();
  const hash = createHash("sha256");
  for (const path of ["Pulumi.yaml", "index.ts", "package-lock.json", ...code]) {
    const content = readFileSync(join(folder, path));
    hash.update(`${path} ${content.length}\n`).update(content);
  }
  return hash.digest("hex");
}

/** Of a file that cannot be read: why. The program then says so itself. */
function contentOf(path: string): string {
  try {
    return readPlainFile(path);
  } catch (error) {
    return (error as Error).message;
  }
}

/** Of an init script, or a manifest. */
function fileDigest(path: string): string {
  try {
    const file = openSync(path, "r");
    try {
      const hash = createHash("sha256");
      addContent(hash, file);
      return hash.digest("hex");
    } finally {
      closeSync(file);
    }
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "unreadable";
  }
}

/** An init script may be a dump of any size. */
function addContent(hash: Hash, file: number): void {
  const buffer = Buffer.allocUnsafe(1 << 20);
  for (;;) {
    const length = readSync(file, buffer);
    if (length === 0) return;
    hash.update(buffer.subarray(0, length));
  }
}

/** Whatever the order of keys; what is undefined counts as left out. */
function digest(value: unknown): string {
  const sorted = (_key: string, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([one], [other]) => (one < other ? -1 : 1)))
      : part;
  return createHash("sha256").update(JSON.stringify(value, sorted)).digest("hex");
}

/**
 * Whether an `up` of these tenants alone does the same as a whole one: nothing else differs from what was applied.
 * @param applied those of the last `up` that ended well
 */
export function isLimitedTo(ids: readonly string[], applied: Digests | undefined, wanted: Digests): boolean {
  if (applied === undefined || applied.stack !== wanted.stack) return false;
  const all = new Set([...Object.keys(applied.tenants), ...Object.keys(wanted.tenants)]);
  return [...all].every(
    (id) =>
      ids.includes(id) || (Object.hasOwn(applied.tenants, id) && applied.tenants[id] === wanted.tenants[id]),
  );
}

/**
 * The value of PGS_LIMITED_TO, as `pgs` sets it and the program checks it: the tenants' ids, and a digest of all that
 * is to be the same as in the last `up`. It cannot be made by hand, and counts no more once anything else changes.
 */
export function limitedTo(ids: readonly string[], digests: Digests): string {
  const others = Object.entries(digests.tenants).filter(([id]) => !ids.includes(id));
  return `${ids.join(",")}:${digest({ ids, stack: digests.stack, others: Object.fromEntries(others) })}`;
}

/** The ids in a value of PGS_LIMITED_TO; undefined when it was not made by {@link limitedTo} of the same digests. */
export function limitedIds(variable: string, digests: Digests): string[] | undefined {
  const ids = (variable.split(":")[0] ?? "").split(",");
  return limitedTo(ids, digests) === variable ? ids : undefined;
}
