import type Docker from "dockerode";
import { noteTrial } from "../../backups/trials";
import { exec, printable } from "../../docker/exec";
import { stackLabel, tenantLabel } from "../../docker/labels";
import { sessionEnvironment } from "../../docker/session-options";
import {
  archiveWal,
  type Contents,
  check,
  contentsOf,
  countCommand,
  layOut,
  recover,
  removeVolume,
  verifyBackup,
} from "../../restore";
import { databaseOf } from "../../restore/names";
import { taskLabel } from "../../restore/run-script";
import { command, exitNote } from "../lib/command";
import { requiredOutputs, stackConfig } from "../lib/stack";
import { TenantBackups } from "../lib/tenant-backups";
import { coloured, progressReporter } from "../lib/terminal";
import { duration } from "../lib/units";

/** How a tenant's restore went. */
interface Trial {
  tenant: string;
  /** When it ended, in seconds since 1970. */
  at: number;
  /** From the first step of the restore until its server was ready. */
  seconds: number;
  ok: boolean;
  /** Barman's name of the base backup; empty without one. */
  backup: string;
  /** Why it failed; empty when it did not. */
  reason: string;
  relations: number;
  rows: number;
  /** What a comparison with the live server said. */
  compared: string;
}

/** In bytes: a server starts with less, and one with much data is checked in it as well. */
const memory = 512 * 1024 ** 2;

/** Where processors are short, the tenants come first. */
const cpuShares = 128;

export const tryRestores = exitNote(
  command(
    "try-restores",
    "test-restore the latest backups in isolation",
    "./pgs try-restores",
    "./pgs try-restores acme --json",
  )
    .argument("[tenants...]", "default: all that are backed up")
    .option("--json", "for programs: times in seconds")
    .action(async (ids: string[], options: { json?: boolean }) => {
      process.exitCode = (await tryAll(ids, options)) ? 0 : 1;
    }),
  "when a backup cannot be restored",
);

/**
 * Restores the newest backup of each tenant where no client reaches it, reads all of it, and removes it again.
 * @param named without any: all that are backed up
 * @returns whether all succeeded
 */
async function tryAll(named: string[], options: { json?: boolean }): Promise<boolean> {
  const config = await stackConfig();
  if (config.backups.schedule === "off" && named.length === 0) {
    console.error("Backups are off: there is nothing to try.");
    if (options.json) console.log("[]");
    return true;
  }
  const outputs = await requiredOutputs();
  const backups = new TenantBackups(config, outputs.stack);
  const tenants = named.length > 0 ? named : await backedUp(backups);
  await removeLeftovers(backups);
  const trials: Trial[] = [];
  for (const tenant of tenants) {
    const trial = await tryOut(tenant, backups, outputs.tenants[tenant]?.image);
    await noteTrial(backups.docker, backups.trials, tenant, trial);
    trials.push(trial);
    if (!options.json) console.log(described(trial));
  }
  if (options.json) console.log(JSON.stringify(trials, undefined, 2));
  return trials.every(({ ok }) => ok);
}

async function backedUp(backups: TenantBackups): Promise<string[]> {
  return [...(await backups.all())].filter(([, { runs }]) => runs).map(([id]) => id);
}

async function tryOut(tenant: string, backups: TenantBackups, variant?: string): Promise<Trial> {
  const { docker, names, stack } = backups;
  const trial: Trial = {
    tenant,
    at: 0,
    seconds: 0,
    ok: false,
    backup: "",
    reason: "",
    relations: 0,
    rows: 0,
    compared: "",
  };
  const volume = names.trial(tenant);
  try {
    const newest = (await backups.backupsOf(tenant)).at(-1);
    if (!newest) throw new Error("there is no base backup");
    trial.backup = newest.id;
    const { version } = newest;
    const restored = backups.restored({
      from: tenant,
      version,
      variant,
      volume,
      limits: { memory, cpuShares },
      onProgress: progressReporter(tenant),
    });
    await verifyBackup(docker, restored, newest.id);
    await removeVolume(docker, volume, stack);
    await docker.createVolume({
      Name: volume,
      Labels: { [stackLabel]: stack, [tenantLabel]: tenant, [taskLabel]: trialTask },
    });
    const begun = Date.now();
    await archiveWal(docker, restored);
    await layOut(docker, restored, { backup: newest.id });
    await recover(docker, restored, databaseOf(tenant), "");
    const recovered = (Date.now() - begun) / 1000;
    const checked = await check(docker, restored);
    trial.seconds = Math.round((recovered + checked.seconds) * 10) / 10;
    Object.assign(trial, await compare(tenant, backups, checked, version));
    trial.ok = true;
  } catch (error) {
    trial.reason = printable((error as Error).message, 500);
  } finally {
    await removeVolume(docker, volume, stack).catch((error: Error) => {
      trial.ok = false;
      trial.reason ||= printable(error.message, 500);
    });
  }
  trial.at = Math.round(Date.now() / 1000);
  return trial;
}

/** On the volumes that restores are tried in. */
const trialTask = "trial";

/** @throws Error when the live server has seen the same transactions, and has other relations or rows */
async function compare(
  tenant: string,
  { docker, names }: TenantBackups,
  restored: Contents,
  version: number,
): Promise<Pick<Trial, "relations" | "rows" | "compared">> {
  const all = Object.values(restored.databases);
  const found = {
    relations: all.reduce((sum, { relations }) => sum + relations, 0),
    rows: all.reduce((sum, { rows = 0 }) => sum + rows, 0),
  };
  const live = await liveContents(docker, names.tenant(tenant), version);
  if (!live) return { ...found, compared: "its server gave no answer" };
  // The numbers differ as soon as something was written since.
  if (live.transactions !== restored.transactions) return { ...found, compared: "written since" };
  for (const [name, { relations, rows }] of Object.entries(live.databases)) {
    const copy = restored.databases[name];
    if (copy?.relations !== relations || (rows !== undefined && copy.rows !== rows)) {
      throw new Error(
        `database ${printable(name, 80)} has ${copy?.relations ?? "no"} tables with ${copy?.rows ?? "no"} rows, but on the live ` +
          `server, in which nothing was written since, ${relations} with ${rows ?? "rows that were not counted"}`,
      );
    }
  }
  return { ...found, compared: "as the live server" };
}

/** In bytes: rows of a larger database are not counted on the live server, which has better things to do. */
const countable = 256 * 1024 ** 2;

/** Undefined when the server does not answer, or some table is locked. */
async function liveContents(docker: Docker, name: string, version: number): Promise<Contents | undefined> {
  const env = sessionEnvironment(version, "read", 30);
  const container = docker.getContainer(name);
  const answer = await exec(container, countCommand(countable), { env }).catch(() => undefined);
  const live = contentsOf(answer?.code === 0 ? answer.stdout : "");
  return live.transactions === "" ? undefined : live;
}

/** Of a run that was killed. */
async function removeLeftovers({ docker, stack }: TenantBackups): Promise<void> {
  const label = [`${stackLabel}=${stack}`, `${taskLabel}=${trialTask}`];
  const { Volumes } = await docker.listVolumes({ filters: JSON.stringify({ label }) });
  for (const { Name } of Volumes ?? []) await removeVolume(docker, Name, stack);
}

function described({ tenant, ok, seconds, reason, relations, rows, compared }: Trial): string {
  if (!ok) return `${coloured.bad("✗")} ${tenant}: ${reason}`;
  const found = `${relations} tables with ${rows} rows (${compared})`;
  return `${coloured.good("✓")} ${tenant}: ready after ${seconds < 10 ? `${seconds}s` : duration(seconds)}, ${found}`;
}
