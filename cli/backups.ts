import { containersOf, engine, outputOf } from "./engine";
import { CommandError } from "./pulumi";
import { stackConfig } from "./stack";
import { bytes, duration } from "./tenants-table";
import { coloured } from "./terminal";

/** How a tenant's backups stand. */
export interface BackupStatus {
  tenant: string;
  /** Whether WAL is to be received; not of tenants that were removed or stopped. */
  active: boolean;
  /** Seconds since 1970 of the newest usable base backup; 0 without one. */
  base: number;
  /** Bytes of WAL that the server has and the backup has not; null when nothing is received. */
  behind: number | null;
  /** Bytes of base backups and WAL. */
  size: number;
}

/** A daily base backup may be so old, in seconds: a day, and two hours in which it is made. */
const oldest = 26 * 3600;

/** Prints how each tenant's backups stand. @returns whether all is well */
export async function backups(options: { json?: boolean }): Promise<boolean> {
  const config = await stackConfig();
  const docker = engine(config.dockerHost);
  const containers = await containersOf(docker, config.prefix, config.dockerHost);
  const info = containers.get(`${config.prefix}--backups`);
  if (info?.State !== "running") {
    throw new CommandError(
      config.backup === "off"
        ? "backups are off: pulumi config set --path pgs:backups.schedule 02:30, then ./pgs up (docs/backups.md)"
        : `the container ${config.prefix}--backups does not run: ./pgs up`,
    );
  }
  const answer = await outputOf(docker.getContainer(info.Id), ["pgs-backups", "status"], [], 300);
  const found: BackupStatus[] = (answer ?? "")
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  const now = Date.now() / 1000;
  const judged = found.map((status) => ({ ...status, problem: problemOf(status, now) ?? null }));
  console.log(options.json ? JSON.stringify(judged, undefined, 2) : table(judged, now));
  return judged.every(({ problem }) => problem === null);
}

/** What is wrong with a tenant's backups; undefined when nothing is. */
export function problemOf({ active, base, behind }: BackupStatus, now: number): string | undefined {
  if (!active) return undefined;
  if (behind === null) return "no WAL is received";
  if (base === 0) return "no base backup yet";
  if (now - base > oldest) return "the base backup is old";
  return undefined;
}

function table(all: (BackupStatus & { problem: string | null })[], now: number): string {
  const rows = all.map(({ tenant, active, base, behind, size, problem }) => [
    tenant,
    base === 0 ? "-" : `${duration(Math.max(0, Math.round(now - base)))} ago`,
    active ? (behind === null ? "-" : `${bytes(behind)} behind`) : "ended",
    bytes(size),
    problem ?? "",
  ]);
  const lines = [["TENANT", "BASE BACKUP", "WAL", "SIZE", ""], ...rows];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...lines.map((line) => (line[column] ?? "").length)));
  return lines
    .map((line, index) => {
      const cells = widths.map((width, column) => (line[column] ?? "").padEnd(width)).join("  ");
      return index === 0
        ? coloured.heading(cells.trimEnd())
        : `${cells}  ${coloured.bad(line[4] ?? "")}`.trimEnd();
    })
    .join("\n");
}
