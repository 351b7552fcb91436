import type { BackupStatus as AskedStatus } from "../../backups/client";
import { type OffsiteCopies, offsiteCopies } from "../../backups/offsite";
import { readTrials, type TriedRestore } from "../../backups/trials";
import { forEach } from "../../docker/client";
import { printable } from "../../docker/exec";
import type { StackConfig, TenantSummaries } from "./stack";
import type { TenantBackups } from "./tenant-backups";

/** The state of a tenant's backups: what its own container says, and what is known of them elsewhere. Times are seconds since 1970. */
export interface BackupStatus {
  /** Its id; for backups of data that it had before, the name by which those can be restored. */
  tenant: string;
  /** Id of the tenant whose volume they are in. */
  owner: string;
  /** Only a running tenant gets new backups; those of a removed one stay until somebody deletes them. */
  state: "running" | "stopped" | "removed";
  /** When its first backup was begun; 0 before. */
  since: number;
  /** When the newest usable base backup was begun; 0 without one. */
  base: number;
  /** One is to be made at once: since WAL was missing, the others do not lead to what is written now. */
  due: boolean;
  /** When WAL was last received; 0 when it never was. */
  wal: number;
  /** Bytes of WAL that the server has and the backup has not; null when nothing is received. */
  behind: number | null;
  /** Bytes of base backups and WAL. */
  size: number;
  /** Minutes until the retention of a removed tenant ends; null of the others. */
  left: number | null;
  /** The last restore that was tried. */
  tried: TriedRestore | null;
  /** The copy off the host: its newest base backup, and as of when all WAL is there; null without a destination. */
  s3: { base: number; wal: number; waiting: number } | null;
  /** Why the last base backup failed, WAL is not received, or the state is not known. */
  failure: string | null;
}

/** A tenant's backups and what is wrong with them; null when nothing is. */
export interface JudgedBackups extends BackupStatus {
  /** Seconds whose commits would be lost with the server now; null when it is unknown. */
  exposed: number | null;
  problem: string | null;
  /** What is under way and no problem yet: a new tenant's first base backup. */
  pending: string | null;
}

const day = 24 * 3600;
/** A daily base backup may be so old, in seconds: a day, and two hours in which it is made. */
export const oldestBase = day + 2 * 3600;
/** For so long WAL may be on its way. */
export const oldestWal = 5 * 60;
/** Full base backups are made once a week, and have a day to get to S3. */
const oldestCopy = 8 * day;
/** For so long the copy off the host may be behind. */
const oldestCopiedWal = 15 * 60;
/** For so long a new tenant's first base backup may take until it is a problem, in seconds. */
export const firstBase = 15 * 60;
/** Restores are tried once a week, and have a day for it. */
const oldestTrial = 8 * day;

/** How many tenants are asked at once. */
const atOnce = 8;

/**
 * Those of all tenants that have backups or should have, and of those that were removed.
 * @param created when a tenant's server was made, in seconds since 1970
 */
export async function judgedBackups(
  backups: TenantBackups,
  tenants: TenantSummaries,
  config: StackConfig,
  created: (tenant: string) => number | undefined,
): Promise<JudgedBackups[]> {
  const [volumes, trials, copies] = await Promise.all([
    backups.all(),
    readTrials(backups.docker, backups.trials),
    config.offsite ? copiesOf(backups) : undefined,
  ]);
  const wanted = Object.entries(tenants).filter(([, { backup }]) => backup?.schedule !== "off");
  const ids = [...new Set([...wanted.map(([id]) => id), ...volumes.keys()])].sort();
  const now = Date.now() / 1000;
  const judged = await forEach(ids, atOnce, async (id) => {
    const ours = {
      tenant: id,
      owner: id,
      tried: trials.get(id) ?? null,
      s3: copies && (copies.get(id) ?? notCopied),
    };
    const { aside = [], unanswered, ...asked } = await askedStatus(backups, id, volumes.has(id));
    const status: BackupStatus = {
      ...nothing,
      ...ours,
      s3: ours.s3 ?? null,
      ...asked,
      state: stateOf(tenants[id]),
    };
    if (status.state !== "removed") status.left = null;
    const isNew = !unanswered && status.base === 0 && now - (created(id) ?? 0) < firstBase;
    const pending = isNew && status.state === "running" ? "the first base backup is being made" : null;
    const known = status.state === "removed" || !unanswered;
    const problem = (pending === null && (known ? problemOf(status, now) : unanswered)) || null;
    const isFormer = ({ name }: { name: string }) =>
      name.startsWith(`${id}-`) && /^\d{1,20}(-\d{1,4})?$/.test(name.slice(id.length + 1));
    const former = aside.filter(isFormer).map(({ name, retired, ...set }): JudgedBackups => {
      const left = retired && minutesLeft(retired);
      const of = { tenant: name, owner: id, state: "removed" as const, left };
      return { ...nothing, ...set, ...of, exposed: null, problem: null, pending: null };
    });
    return [{ ...status, exposed: exposedOf(status, now), problem, pending }, ...former];
  });
  return judged.flat();
}

function stateOf(tenant: TenantSummaries[string] | undefined): BackupStatus["state"] {
  if (tenant === undefined || tenant.backup?.schedule === "off") return "removed";
  return tenant.state === "stopped" ? "stopped" : "running";
}

interface Asked extends Partial<BackupStatus & Pick<AskedStatus, "aside">> {
  /** Why nothing is known. */
  unanswered?: string;
}

/** A tenant that gives no answer, or an odd one, has a problem of its own. */
async function askedStatus(backups: TenantBackups, id: string, hasVolume: boolean): Promise<Asked> {
  if (!hasVolume) return {};
  try {
    const { problem, retired, ...status } = await backups.ask(id, (client) => client.status());
    return { ...status, left: retired && minutesLeft(retired), failure: problem && printable(problem, 300) };
  } catch (error) {
    const unanswered = printable((error as Error).message, 300);
    return { failure: unanswered, unanswered };
  }
}

function minutesLeft({ at, retention }: NonNullable<AskedStatus["retired"]>): number {
  return Math.max(0, Math.floor((at + retention * day - Date.now() / 1000) / 60));
}

const notCopied = { base: 0, wal: 0, waiting: 0 };

async function copiesOf({ docker, names }: TenantBackups): Promise<Map<string, OffsiteCopies>> {
  return offsiteCopies(docker.getContainer(names.offsite)).catch(() => new Map());
}

const nothing: Omit<BackupStatus, "tenant" | "owner"> = {
  state: "running",
  since: 0,
  base: 0,
  due: false,
  wal: 0,
  behind: null,
  size: 0,
  left: null,
  tried: null,
  s3: null,
  failure: null,
};

/** What is wrong with a tenant's backups; undefined when nothing is. */
export function problemOf(status: BackupStatus, now: number): string | undefined {
  const { state, since, base, due, behind, tried, s3 } = status;
  if (state === "removed") return undefined;
  const problems: string[] = [];
  if (state === "running") {
    const exposed = exposedOf(status, now);
    if (behind === null) problems.push("no WAL is received");
    else if (exposed !== null && exposed > oldestWal) problems.push("its WAL is behind");
    if (base === 0) problems.push("no base backup yet");
    else if (due) problems.push("no base backup yet since its WAL was interrupted");
    else if (now - base > oldestBase) problems.push("the base backup is old");
    // In the first minutes the first copy is on its way.
    if (s3 && now - since > oldestCopiedWal) {
      if (now - s3.base > oldestCopy) problems.push("no new base backup at the destination");
      if (now - s3.wal > oldestCopiedWal) problems.push("WAL does not get to the destination");
    }
  }
  if (status.failure && state === "running") problems.push(status.failure);
  if (tried && !tried.ok) problems.push(`a restore was tried and failed: ${tried.reason}`);
  // A stopped tenant's backups do not change.
  else if (state === "running" && now - (tried?.at ?? (since || now)) > oldestTrial) {
    problems.push(`no restore was tried for ${Math.floor((now - (tried?.at ?? since)) / day)} days`);
  }
  return problems.join("; ") || undefined;
}

/** Of a server that wrote nothing since the last WAL came, nothing would be lost. */
function exposedOf({ behind, wal }: BackupStatus, now: number): number | null {
  if (behind === null) return null;
  return behind === 0 ? 0 : Math.max(0, Math.round(now - wal));
}
