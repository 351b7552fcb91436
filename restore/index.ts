import type Docker from "dockerode";
import { barmanName, databaseOf } from "./names";
import { runScript, ScriptError, scriptText } from "./run-script";

/** What is restored, and where to. */
export interface Restored {
  /** Id of the tenant whose backups are restored; it may be gone. */
  from: string;
  /** As of when: ISO 8601 with a time zone. Without one, the end of what was received. */
  at?: string;
  /** PostgreSQL major version that the data has to be of. */
  version: number;
  /** The volume that gets the data. Containers are named after it. */
  volume: string;
  /** Name of Barman's container, of its volume, and its image. */
  barman: string;
  backups: string;
  barmanImage: string;
  /** Name of the network that leads to the copies off the host; undefined without them. */
  offsiteNetwork?: string;
  /** Image of the server that the data is for. */
  image: string;
  /** Is told how far it is, about every ten seconds. */
  tell?: (progress: string) => void;
  /** What the containers may use; without it, what they like. */
  limits?: { memory: number; cpuShares: number };
}

/**
 * Files what was streamed until now; of a tenant that is gone, that was done when it went. For a time, it is marked in
 * the WAL that nothing is missing until now.
 */
export async function archiveWal(docker: Docker, { barman, from, at }: Restored): Promise<void> {
  const mark = at ? ["mark"] : [];
  await inBarman(docker, barman, ["timeout", "600", "pgs-backups", "archive", barmanName(from), ...mark]);
}

/** @returns its exit code */
async function inBarman(docker: Docker, barman: string, command: string[]): Promise<number | null> {
  const exec = await docker
    .getContainer(barman)
    .exec({ Cmd: command, AttachStdout: true, AttachStderr: true });
  const stream = await exec.start({});
  stream.resume();
  await new Promise((resolve) => stream.on("end", resolve).on("close", resolve).on("error", resolve));
  return (await exec.inspect()).ExitCode;
}

/** What lay-out.sh ends with when the backups on this host cannot have what is asked for. */
const notHere = 68;

/**
 * Lays the newest fitting base backup and the WAL after it out in the volume: from the backups on this host; where
 * they have nothing of that time, from the copies off it. Nothing of it runs.
 * @param options.backup another base backup on this host than the newest that fits
 * @param options.beside whether there is data in the volume, which stays as it is
 */
export async function layOut(
  docker: Docker,
  restored: Restored,
  options: { backup?: string; beside?: boolean } = {},
): Promise<void> {
  const { from, at = "", version, volume, backups, barmanImage, offsiteNetwork, tell, limits } = restored;
  const place = options.beside ? "beside" : "";
  const lay = (source: "volume" | "s3", network?: string) =>
    runScript(docker, {
      script: ["progress.sh", "lay-out.sh"],
      args: [barmanName(from), at, String(version), source, place, options.backup ?? ""],
      name: containerName(volume),
      image: barmanImage,
      version,
      binds: [`${volume}:/var/lib/postgresql`, `${backups}:/var/lib/barman:ro`],
      network,
      tell,
      ...limits,
    });
  try {
    await lay("volume");
  } catch (error) {
    if (!(error instanceof ScriptError && error.code === notHere && offsiteNetwork)) throw error;
    await lay("s3", offsiteNetwork);
  }
}

/**
 * Takes what was laid out to its time, in a container that has the volume alone.
 * @param database its new name
 * @param setup SQL that the new server is set up with
 */
export async function recover(
  docker: Docker,
  { from, version, volume, image, tell, limits }: Restored,
  database: string,
  setup: string,
  options: { beside?: boolean } = {},
): Promise<void> {
  await runScript(docker, {
    script: ["progress.sh", "recover.sh"],
    args: [databaseOf(from), database, setup, options.beside ? "beside" : ""],
    name: containerName(volume),
    image,
    version,
    binds: [`${volume}:/var/lib/postgresql`],
    tell,
    ...limits,
  });
}

/**
 * Of data that was restored from a tenant's own backups, before its server starts: lets Barman receive the timeline
 * that it began. What was the tenant's on the one that it left can be restored as before.
 */
export async function takeUpTimeline(docker: Docker, restored: Restored): Promise<void> {
  const { from, version, volume, barman, image } = restored;
  const said = await runScript(docker, {
    script: "timeline.sh",
    args: [],
    name: containerName(volume),
    image,
    version,
    binds: [`${volume}:/var/lib/postgresql:ro`],
  });
  // Code of the tenant may have written it: nothing else than this goes to Barman.
  const [, timeline, history] = /^([0-9A-F]{8}) ([A-Za-z0-9+/=]{1,8192})$/m.exec(said) ?? [];
  if (!timeline || !history) throw new Error("the restored data has no history of its timeline");
  const command = ["timeout", "600", "bash", "-c", scriptText("take-up.sh"), "bash"];
  const code = await inBarman(docker, barman, [...command, barmanName(from), timeline, history]);
  if (code !== 0) throw new Error(`${barman} could not take up the restored data: docker logs ${barman}`);
}

/** Verifies a base backup and those that it is made on. @throws Error that names the file which is damaged */
export async function verifyBackup(docker: Docker, restored: Restored, backup: string): Promise<void> {
  const { from, version, volume, backups, barmanImage, tell, limits } = restored;
  await runScript(docker, {
    script: ["progress.sh", "verify.sh"],
    args: [barmanName(from), backup],
    name: containerName(volume),
    image: barmanImage,
    version,
    binds: [`${backups}:/var/lib/barman:ro`],
    tell,
    ...limits,
  });
}

/** What is in a server's databases. */
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
  { version, volume, image, tell, limits }: Restored,
): Promise<Contents & { seconds: number }> {
  const said = await runScript(docker, {
    script: ["progress.sh", "count.sh", "check.sh"],
    args: [],
    name: containerName(volume),
    image,
    version,
    binds: [`${volume}:/var/lib/postgresql`],
    tell,
    ...limits,
  });
  return { ...contentsOf(said), seconds: Number(/^ready (\d+)$/m.exec(said)?.[1]) / 1000 };
}

/** A command that tells a live server's contents, but no rows of databases with more than `most` bytes. */
export function countCommand(most: number): string[] {
  return ["bash", "-c", `set -euo pipefail\n${scriptText("count.sh")}\ncount_all ${most}`];
}

/** From what count.sh printed. */
export function contentsOf(said: string): Contents {
  const databases = [...said.matchAll(/^database (\d+) (\d+|-) (.*)$/gm)].map(([, relations, rows, name]) => {
    const counted = rows === "-" ? undefined : Number(rows);
    return [name, { relations: Number(relations), rows: counted }] as const;
  });
  return {
    transactions: /^transactions (\d+)$/m.exec(said)?.[1] ?? "",
    databases: Object.fromEntries(databases),
  };
}

/** Two hyphens: no tenant's container has such a name. */
export function containerName(volume: string): string {
  return `${volume}--restore`;
}
