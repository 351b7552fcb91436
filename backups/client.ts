import type Docker from "dockerode";
import { z } from "zod";
import { ifPresent } from "../docker/client";
import { exec, printable } from "../docker/exec";
import { hardened, postgresUser } from "../docker/hardening";
import { stackLabel, tenantLabel } from "../docker/labels";

/** Folder of the server's second Unix socket, in the tenant's data volume, which the backup container mounts too. */
export const socketFolder = "/var/lib/postgresql/.sockets";

/** The replication slot by which a tenant's WAL is received. */
export const slotName = "pgs_backup";

/** One tenant's backups and how its backup container is made. */
export interface BackupContainer {
  /** The tenant's id. */
  tenant: string;
  /** The tenant's data volume: mounted read-only, for the socket in it. */
  serverVolume: string;
  /** The volume of its backups. */
  backupVolume: string;
  /** Time of day of the daily base backup, UTC: `HH:MM`. */
  schedule: string;
  /** For how many days back the tenant can be restored to any second. */
  retention: number;
}

/** What holds for every container of the image: hardly anything to write to, and the tenants come first. */
const confined: Docker.HostConfig = {
  ...hardened,
  CpuShares: 64,
  Tmpfs: { "/tmp": "rw,noexec,nosuid,nodev,size=64m,mode=1777" },
};

const user = `${postgresUser}:${postgresUser}`;
const memory = 512 << 20;
const pids = 256;

/** All of a tenant's backup container but its name, image and labels, which are the caller's. It has no network. */
export function backupContainer({
  tenant,
  serverVolume,
  backupVolume,
  schedule,
  retention,
}: BackupContainer) {
  const options: Docker.ContainerCreateOptions = {
    User: user,
    Entrypoint: ["pgs-backup"],
    Cmd: ["run", "--tenant", tenant, "--schedule", schedule, "--retention", String(retention)],
    StopSignal: "SIGTERM",
    HostConfig: confined,
  };
  const mounts = [
    { volume: serverVolume, path: "/var/lib/postgresql", readOnly: true },
    { volume: backupVolume, path: "/var/lib/barman", backupsOf: tenant },
  ];
  return { options, mounts, limits: { memory, cpus: 0, pids } };
}

const natural = z.int().nonnegative();
const setName = z.string().regex(/^[a-z][a-z0-9-]{0,79}$/);

const retiredSchema = z.object({
  /** When the tenant was removed, in seconds since 1970. */
  at: natural,
  /** For how many days after that its backups are to be kept. */
  retention: natural,
});

const statusSchema = z.object({
  /** When its first base backup was begun, in seconds since 1970; 0 before. */
  since: natural,
  /** When the newest usable base backup was begun; 0 without one. */
  base: natural,
  /** A base backup is to be made at once: WAL is missing, so the others do not lead to what is written now. */
  due: z.boolean(),
  /** When WAL was last received; 0 when it never was. */
  wal: natural,
  /** Bytes of WAL that the server has and the backup has not; null when nothing is received. */
  behind: natural.nullable(),
  /** Bytes of base backups and WAL. */
  size: natural,
  /** Set when the tenant was removed. */
  retired: retiredSchema.nullable(),
  /** Why the last base backup failed, or nothing is received; null when all is well. */
  problem: z.string().max(1000).nullable(),
  /** Backups of data that the tenant had before. */
  aside: z
    .array(z.object({ name: setName, base: natural, size: natural, retired: retiredSchema.nullable() }))
    .max(100),
});

/** The state of one tenant's backups: its own word. */
export type BackupStatus = z.infer<typeof statusSchema>;

const backupId = z.string().regex(/^\d{8}T\d{6}$/);

const baseBackupSchema = z.object({
  /** Barman's name for it, such as 20261123T023000. */
  id: backupId,
  /** In seconds since 1970. */
  begin: natural,
  /** When it was complete: from then on, the tenant can be restored. 0 when it is not. */
  end: natural,
  /** PostgreSQL major version. */
  version: natural,
  /** Bytes on the disk. */
  size: natural,
  usable: z.boolean(),
  /** The base backup that an incremental one builds on; null for a full one. */
  parent: backupId.nullable(),
});

const backupSetSchema = z.object({
  /** The tenant's id; for data that the tenant had before, with the system's identifier behind it. */
  name: setName,
  retired: retiredSchema.nullable(),
  /** The oldest first. */
  backups: z.array(baseBackupSchema).max(10_000),
});

/** The base backups of one database cluster. */
export type BackupSet = z.infer<typeof backupSetSchema>;

/** A verb failed, or its answer is not understood. The message is fit for a terminal. */
export class BackupError extends Error {}

interface AskOptions {
  args?: string[];
  /** The deadline. */
  seconds: number;
  stdin?: string;
}

/**
 * The JSON verbs of a tenant's backup container. Everything in there may be the tenant's: each call has its deadline
 * and its limit of output, and an odd answer is an error of this tenant alone.
 */
export class BackupClient {
  /** @param container it has to run */
  constructor(
    private readonly container: Docker.Container,
    readonly tenant: string,
  ) {}

  status(seconds = 20): Promise<BackupStatus> {
    return this.ask("status", statusSchema, { seconds });
  }

  /** The tenant's own backups first, then those of data that it had before. */
  async list(seconds = 30): Promise<BackupSet[]> {
    return (await this.ask("list", z.object({ sets: z.array(backupSetSchema).max(1000) }), { seconds })).sets;
  }

  /** Makes a base backup now. @returns its id */
  async backup(seconds = 24 * 3600): Promise<string> {
    return (await this.ask("backup", z.object({ id: backupId }), { seconds })).id;
  }

  /**
   * Archives all WAL that was received; of a server that has just stopped, all that it wrote.
   * @param options.mark writes a commit and ends its segment first, so that the WAL shows that nothing is missing
   */
  async archive(options: { mark?: boolean } = {}, seconds = 180): Promise<void> {
    await this.ask("archive", done, { args: options.mark ? ["--mark"] : [], seconds });
  }

  /**
   * Of a tenant that is removed or gets no more backups: archives what was received, receives nothing more, drops the
   * slot where the server still runs, and notes the time.
   */
  async retire(retention: number, seconds = 240): Promise<void> {
    await this.ask("retire", done, { args: ["--retention", String(retention)], seconds });
  }

  /**
   * Says which data the tenant has now. Backups of other data are set aside under a name of their own.
   * @returns that name; undefined when the backups are of this data
   */
  async adopt(data: { systemId: string; volumeId: string }, seconds = 120): Promise<string | undefined> {
    const args = ["--system-id", data.systemId, "--volume-id", data.volumeId];
    return (await this.ask("adopt", adoptedSchema, { args, seconds })).aside ?? undefined;
  }

  /**
   * Before a server starts on data that was restored from its own backups: ends the timeline that it left, and has the
   * new one received from where it begins.
   * @param timeline as 00000002
   * @param history content of its history file
   */
  async adoptTimeline(timeline: string, history: string, seconds = 180): Promise<void> {
    await this.ask("adopt-timeline", done, { args: ["--timeline", timeline], stdin: history, seconds });
  }

  /** Deletes backups of former data whose retention has ended. @returns their names */
  async deleteExpired(seconds = 600): Promise<string[]> {
    const answer = z.object({ deleted: z.array(setName).max(1000) });
    return (await this.ask("delete-expired", answer, { seconds })).deleted;
  }

  private async ask<T>(verb: string, schema: z.ZodType<T>, options: AskOptions): Promise<T> {
    const { args = [], ...limits } = options;
    const command = ["pgs-backup", verb, "--tenant", this.tenant, ...args];
    try {
      const { stdout, stderr } = await exec(this.container, command, limits);
      return parseAnswer(schema, stdout, stderr);
    } catch (error) {
      throw new BackupError(`backups of ${this.tenant}: ${printable((error as Error).message, 500)}`);
    }
  }
}

const done = z.object({});
const adoptedSchema = z.object({ aside: setName.nullable() });

/** @throws Error with what the verb says is wrong, or what is wrong with its answer; not fit for a terminal */
export function parseAnswer<T>(schema: z.ZodType<T>, stdout: string, stderr: string): T {
  let answer: unknown;
  try {
    answer = JSON.parse(stdout);
  } catch {
    throw new Error(`the answer is not JSON: ${stderr.slice(0, 400) || stdout.slice(0, 100)}`);
  }
  const failure = z.object({ error: z.string() }).safeParse(answer);
  if (failure.success) throw new Error(failure.data.error);
  const parsed = schema.safeParse(answer);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0] ?? { path: [], message: "" };
  throw new Error(`the answer is not understood: ${path.join(".")}: ${message}`);
}

/**
 * Uses a backup volume that no container of its own serves: of a tenant that was removed, or whose container is gone.
 * @param stack value of the stack's label
 */
export async function withBackupVolume<T>(
  docker: Docker,
  { image, volume, tenant, stack }: { image: string; volume: string; tenant: string; stack: string },
  use: (client: BackupClient) => Promise<T>,
): Promise<T> {
  const container = await docker.createContainer({
    Image: image,
    User: user,
    // It ends by itself when whoever started it is gone.
    Entrypoint: ["sleep"],
    Cmd: ["1d"],
    Labels: { [stackLabel]: stack, [tenantLabel]: tenant },
    HostConfig: {
      ...confined,
      NetworkMode: "none",
      Memory: memory,
      MemorySwap: memory,
      PidsLimit: pids,
      Init: true,
      AutoRemove: true,
      Binds: [`${volume}:/var/lib/barman`],
    },
  });
  try {
    await container.start();
    return await use(new BackupClient(container, tenant));
  } finally {
    await ifPresent(container.remove({ force: true, v: true }));
  }
}
