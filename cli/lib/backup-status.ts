import type Docker from "dockerode";
import { exec } from "../../docker/exec";
import type { TenantSummaries } from "./stack";

/** The state of a tenant's backups, as Barman's container reports it. Times are seconds since 1970. */
export interface BackupStatus {
  tenant: string;
  /** Only of a running tenant there are new backups; those of a removed one are deleted after its retention. */
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
  /** Minutes until the backups of a removed tenant are deleted; null of the others. */
  left: number | null;
  /** The last restore that was tried. */
  tried: TriedRestore | null;
  /** The copy off the host: its newest base backup, and as of when all WAL is there; null without a destination. */
  s3: { base: number; wal: number; waiting: number } | null;
}

interface TriedRestore {
  at: number;
  /** How long it took until the server was ready. */
  seconds: number;
  ok: boolean;
  /** Why it failed. */
  reason: string;
}

/** A tenant's backups and what is wrong with them; null when nothing is. */
export interface JudgedBackups extends BackupStatus {
  /** Seconds whose commits would be lost if the server was lost now; null when nobody knows. */
  exposed: number | null;
  problem: string | null;
  /** What is under way and no problem yet: a new tenant's first base backup. */
  pending: string | null;
}

/** For so long a new tenant's first base backup may take until it is a problem, in seconds. */
const firstBase = 15 * 60;
const day = 24 * 3600;
/** A daily base backup may be so old, in seconds: a day, and two hours in which it is made. */
const oldestBase = day + 2 * 3600;
/** For so long WAL may be on its way. */
const oldestWal = 5 * 60;
/** Full base backups are made once a week, and have a day to get to S3. */
const oldestCopy = 8 * day;
/** For so long the copy off the host may be behind. */
const oldestCopiedWal = 15 * 60;
/** Restores are tried once a week, and have a day for it. */
const oldestTrial = 8 * day;

/**
 * Those of all tenants, and of those that were removed.
 * @param barman its running container
 * @param created when a tenant's container was made, in seconds since 1970
 */
export async function judgedBackups(
  barman: Docker.Container,
  tenants: TenantSummaries,
  created: (tenant: string) => number | undefined,
): Promise<JudgedBackups[]> {
  const { stdout } = await exec(barman, ["pgs-backups", "status"], { seconds: 300, outputLimit: 16 << 20 });
  const found: BackupStatus[] = stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  const now = Date.now() / 1000;
  const unknown = Object.entries(tenants)
    .filter(([id, { backup }]) => backup?.schedule !== "off" && !found.some(({ tenant }) => tenant === id))
    .map(([id]) => ({ ...nothing, tenant: id }));
  return [...unknown, ...found].map((status) => {
    const isNew = status.base === 0 && now - (created(status.tenant) ?? 0) < firstBase;
    const pending = isNew && status.state === "running" ? "the first base backup is being made" : null;
    const problem = (pending === null && problemOf(status, now)) || null;
    return { ...status, exposed: exposedOf(status, now), problem, pending };
  });
}

const nothing: Omit<BackupStatus, "tenant"> = {
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
