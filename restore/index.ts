import type Docker from "dockerode";
import { BackupClient, withBackupVolume } from "../backups/client";
import { ifPresent } from "../docker/client";
import { stackLabel } from "../docker/labels";
import { fetchedVolume, resourceNames, restoreContainer } from "../docker/names";
import { barmanName, databaseOf } from "./names";
import { type Limits, runScript, runTask, ScriptError, scriptText, taskLabel } from "./run-script";

/** What is restored, and where to. */
export interface Restored {
  /** Value of the stack's label. */
  stack: string;
  /** Names of what the stack has start with it. */
  prefix: string;
  /** Id of the tenant whose backups are restored; it may be gone. */
  from: string;
  /** As of when: ISO 8601 with a time zone. Without one, the end of what was received. */
  at?: string;
  /** PostgreSQL major version that the data has to be of. */
  version: number;
  /** The volume that gets the data. Containers are named after it. */
  volume: string;
  /** Image of the backup containers. */
  backupImage: string;
  /** Image of the server that the data is for. */
  image: string;
  /** Whether backups are copied off the host. */
  offsite: boolean;
  /** Called about every ten seconds with how far it is. */
  onProgress?: (progress: string) => void;
  /** What the containers may use; without it, what a restore may. */
  limits?: Limits;
}

/** Where a tenant's backups on this host are. */
interface Source {
  /** The backup volume; undefined when there is none. */
  volume: string | undefined;
  /** The backup container; undefined when it does not run. */
  client: BackupClient | undefined;
  /** Whether the tenant's server runs. */
  serverRuns: boolean;
}

async function sourceOf(docker: Docker, { prefix, stack, from }: Restored): Promise<Source> {
  const names = resourceNames(prefix);
  // Backups of data that a tenant had before are in its volume, under a name of their own.
  for (const id of new Set([from, databaseOf(from)])) {
    const volume = await ifPresent(docker.getVolume(names.backup(id)).inspect());
    if (volume?.Labels?.[stackLabel] !== stack) continue;
    const container = docker.getContainer(names.backup(id));
    const info = await ifPresent(container.inspect());
    const runs = info?.State.Running && info.Config.Labels[stackLabel] === stack;
    const server = await ifPresent(docker.getContainer(names.tenant(id)).inspect());
    return {
      volume: volume.Name,
      client: runs && id === from ? new BackupClient(container, id) : undefined,
      serverRuns: id === from && server?.State.Running === true,
    };
  }
  return { volume: undefined, client: undefined, serverRuns: false };
}

/**
 * Archives what was received until now; of a tenant that is gone, that was done when it went. For a time, a commit is
 * written first, so that the WAL shows that nothing is missing until now.
 */
export async function archiveWal(docker: Docker, restored: Restored): Promise<void> {
  const { client } = await sourceOf(docker, restored);
  await client?.archive({ mark: restored.at !== undefined });
}

/** lay-out.sh ends with it when the backups that it has do not reach back to the time. */
const notHere = 68;

/**
 * Lays out the newest fitting base backup and the WAL after it in the volume: from the backups on this host; where they
 * have nothing of that time, from the copies off it.
 * @param options.backup another base backup on this host than the newest that fits
 * @param options.beside whether there is data in the volume, which stays as it is
 */
export async function layOut(
  docker: Docker,
  restored: Restored,
  options: { backup?: string; beside?: boolean } = {},
): Promise<void> {
  const source = await sourceOf(docker, restored);
  try {
    if (source.volume === undefined)
      throw new ScriptError(`there is no base backup of ${restored.from}`, notHere);
    await layOutFrom(docker, restored, source.volume, [], { ...options, stopped: !source.serverRuns });
  } catch (error) {
    if (!(error instanceof ScriptError && error.code === notHere && restored.offsite)) throw error;
    await layOutFetched(docker, restored, source.volume, options.beside);
  }
}

/** A container with the bucket's credentials fetches, and runs nothing of it; what runs has neither those nor a network. */
async function layOutFetched(
  docker: Docker,
  restored: Restored,
  local: string | undefined,
  beside: boolean | undefined,
): Promise<void> {
  const { stack, prefix, from, at, volume, backupImage, onProgress } = restored;
  const { offsite } = resourceNames(prefix);
  const fetched = fetchedVolume(volume);
  await removeVolume(docker, fetched, stack);
  await docker.createVolume({ Name: fetched, Labels: { [stackLabel]: stack, [taskLabel]: "restore" } });
  try {
    const fetch = [
      "pgs-offsite",
      "fetch",
      "--tenant",
      from,
      ...(at ? ["--at", at] : []),
      "--to",
      "/var/lib/barman",
    ];
    const answer = await runTask(docker, {
      // The image's bash reports how far it is, and gives the command's own answer.
      command: ["bash", "-c", `${scriptText("progress.sh")}\n${fetching}`, "bash", ...fetch],
      name: restoreContainer(volume),
      stack,
      image: backupImage,
      binds: [`${offsite}:/var/lib/offsite:ro`, `${fetched}:/var/lib/barman`],
      network: offsite,
      limits: { memory: 256 * 1024 ** 2, cpuShares: 512 },
      onProgress,
    });
    const backup = /"backup": "(\d{8}T\d{6})"/.exec(answer)?.[1];
    if (backup === undefined) throw new Error("the copies off the host gave no answer");
    await verifyIn(docker, restored, fetched, backup);
    const known = local === undefined ? [] : [`${local}:/known:ro`];
    await layOutFrom(docker, restored, fetched, known, { beside, stopped: false });
  } finally {
    await removeVolume(docker, fetched, stack);
  }
}

const fetching = `
  report_progress() { echo "fetching the base backup and its WAL from S3: $(mebibytes /var/lib/barman) MiB are here"; }
  report report_progress
  "$@"`;

function layOutFrom(
  docker: Docker,
  { stack, from, at = "", version, volume, backupImage, onProgress, limits }: Restored,
  backups: string,
  binds: string[],
  options: { backup?: string; beside?: boolean; stopped: boolean },
): Promise<string> {
  const place = options.beside ? "beside" : "";
  const stopped = options.stopped ? "stopped" : "";
  return runScript(docker, {
    script: ["progress.sh", "lay-out.sh"],
    args: [barmanName(from), at, String(version), place, options.backup ?? "", stopped],
    name: restoreContainer(volume),
    stack,
    image: backupImage,
    version,
    binds: [`${volume}:/var/lib/postgresql`, `${backups}:/var/lib/barman:ro`, ...binds],
    onProgress,
    limits,
  });
}

/**
 * Recovers what was laid out to its time, in a container that has the volume alone.
 * @param database its new name
 * @param setup SQL that the new server is set up with
 */
export async function recover(
  docker: Docker,
  { stack, from, version, volume, image, onProgress, limits }: Restored,
  database: string,
  setup: string,
  options: { beside?: boolean } = {},
): Promise<void> {
  await runScript(docker, {
    script: ["progress.sh", "server.sh", "recover.sh"],
    args: [databaseOf(from), database, setup, options.beside ? "beside" : ""],
    name: restoreContainer(volume),
    stack,
    image,
    version,
    binds: [`${volume}:/var/lib/postgresql`],
    onProgress,
    limits,
  });
}

/**
 * Before a server starts on data that was restored from the tenant's own backups: lets them receive the timeline that it
 * began. What was the tenant's on the one that it left can be restored as before.
 */
export async function adoptTimeline(docker: Docker, restored: Restored): Promise<void> {
  const { stack, from, version, volume, image, backupImage } = restored;
  const source = await sourceOf(docker, restored);
  if (source.volume === undefined) return;
  const output = await runScript(docker, {
    script: "read-timeline.sh",
    args: [],
    name: restoreContainer(volume),
    stack,
    image,
    version,
    binds: [`${volume}:/var/lib/postgresql:ro`],
  });
  // Code of the tenant may have written it.
  const [, timeline, encoded] = /^([0-9A-F]{8}) ([A-Za-z0-9+/=]{1,8192})$/m.exec(output) ?? [];
  if (!timeline || !encoded) throw new Error("the restored data has no history of its timeline");
  const history = Buffer.from(encoded, "base64").toString("utf8");
  if (source.client) return source.client.adoptTimeline(timeline, history);
  const stored = { image: backupImage, volume: source.volume, tenant: from, stack };
  await withBackupVolume(docker, stored, (client) => client.adoptTimeline(timeline, history));
}

/** Verifies a base backup and those that it is made on. @throws Error that names the file which is damaged */
export async function verifyBackup(docker: Docker, restored: Restored, backup: string): Promise<void> {
  const { volume } = await sourceOf(docker, restored);
  if (volume === undefined) throw new Error(`there is no base backup of ${restored.from}`);
  await verifyIn(docker, restored, volume, backup);
}

async function verifyIn(
  docker: Docker,
  { stack, from, version, volume, backupImage, onProgress, limits }: Restored,
  backups: string,
  backup: string,
): Promise<void> {
  await runScript(docker, {
    script: ["progress.sh", "verify.sh"],
    args: [barmanName(from), backup],
    name: restoreContainer(volume),
    stack,
    image: backupImage,
    version,
    binds: [`${backups}:/var/lib/barman:ro`],
    onProgress,
    limits,
  });
}

/** What is in a server's databases: the tenant's own word. */
export interface Contents {
  /** The number of the next transaction: the same of two servers means that they have seen the same. */
  transactions: string;
  /** By database; rows are undefined where they were not counted. */
  databases: Record<string, { relations: number; rows: number | undefined }>;
}

/**
 * Starts the server of restored data and reads all of it.
 * @returns with `seconds` from its start until it was ready
 * @throws Error with what is wrong with the data
 */
export async function check(
  docker: Docker,
  { stack, version, volume, image, onProgress, limits }: Restored,
): Promise<Contents & { seconds: number }> {
  const output = await runScript(docker, {
    script: ["progress.sh", "server.sh", "count-rows.sh", "check.sh"],
    args: [],
    name: restoreContainer(volume),
    stack,
    image,
    version,
    binds: [`${volume}:/var/lib/postgresql`],
    onProgress,
    limits,
  });
  return { ...contentsOf(output), seconds: Number(/^ready (\d+)$/m.exec(output)?.[1]) / 1000 };
}

/** A command that prints a live server's contents, but no rows of databases with more than `most` bytes. */
export function countCommand(most: number): string[] {
  return ["bash", "-c", `set -euo pipefail\n${scriptText("count-rows.sh")}\ncount_rows ${most}`];
}

/** From what count-rows.sh printed. */
export function contentsOf(output: string): Contents {
  const databases = [...output.matchAll(/^database (\d+) (\d+|-) (.*)$/gm)].map(
    ([, relations, rows, name]) => {
      const counted = rows === "-" ? undefined : Number(rows);
      return [name, { relations: Number(relations), rows: counted }] as const;
    },
  );
  return {
    transactions: /^transactions (\d+)$/m.exec(output)?.[1] ?? "",
    databases: Object.fromEntries(databases),
  };
}

/** Removes a volume of a restore with the container that a killed run left at work in it. @throws Error when it is not this stack's */
export async function removeVolume(docker: Docker, name: string, stack: string): Promise<void> {
  const volume = docker.getVolume(name);
  const info = await ifPresent(volume.inspect());
  if (!info) return;
  if (info.Labels?.[stackLabel] !== stack) throw new Error(`the volume ${name} is not of this stack`);
  const users = await docker.listContainers({ all: true, filters: { volume: [name] } });
  for (const { Id, Mounts, Labels } of users) {
    // The filter finds names that only begin so, too.
    if (!Mounts.some(({ Name }) => Name === name) || Labels[taskLabel] === undefined) continue;
    await ifPresent(docker.getContainer(Id).remove({ force: true, v: true }));
  }
  await ifPresent(volume.remove());
}
