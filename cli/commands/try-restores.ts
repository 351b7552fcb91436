import { exec } from "../../docker/exec";
import {
  archiveWal,
  type Contents,
  check,
  contentsOf,
  countCommand,
  layOut,
  recover,
  verifyBackup,
} from "../../restore";
import { databaseOf } from "../../restore/names";
import { unlessGone } from "../../restore/run-script";
import { Barman } from "../lib/barman";
import { command, exitNote } from "../lib/command";
import { type StackConfig, stackConfig } from "../lib/stack";
import { duration } from "../lib/tenants-table";
import { coloured, progressReporter } from "../lib/terminal";

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
 * Restores the newest backup of each tenant where nobody reaches it, reads all of it, and takes it away again.
 * @param named without any: all that are backed up
 * @returns whether all went well
 */
async function tryAll(named: string[], options: { json?: boolean }): Promise<boolean> {
  const config = await stackConfig();
  if (config.backups.schedule === "off" && named.length === 0) {
    console.error("Backups are off: there is nothing to try.");
    if (options.json) console.log("[]");
    return true;
  }
  const barman = await Barman.find(config);
  const tenants = named.length > 0 ? named : await backedUp(barman);
  await removeLeftovers(barman, `${config.prefix}--try-`);
  const trials: Trial[] = [];
  for (const tenant of tenants) {
    const trial = await tryOut(tenant, barman, config);
    await note(barman, trial);
    trials.push(trial);
    if (!options.json) console.log(described(trial));
  }
  if (options.json) console.log(JSON.stringify(trials, undefined, 2));
  return trials.every(({ ok }) => ok);
}

async function backedUp(barman: Barman): Promise<string[]> {
  const script = `cd /var/lib/barman/servers.d && grep -L '^active = false' -- tenant-*.conf || true`;
  return (await barman.run(script))
    .split("\n")
    .flatMap((line) => /^tenant-(.*)\.conf$/.exec(line)?.[1] ?? [])
    .sort();
}

async function tryOut(tenant: string, barman: Barman, config: StackConfig): Promise<Trial> {
  const { docker } = barman;
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
  // Two hyphens: nothing of a tenant has such a name.
  const volume = `${config.prefix}--try-${tenant}`;
  try {
    const newest = (await barman.backupsOf(tenant)).at(-1);
    if (!newest) throw new Error("there is no base backup");
    trial.backup = newest.id;
    const { version } = newest;
    const restored = barman.restored(
      { from: tenant, version, volume, limits: { memory, cpuShares }, tell: progressReporter(tenant) },
      config,
    );
    await verifyBackup(docker, restored, newest.id);
    await removeVolume(barman, volume);
    await docker.createVolume({ Name: volume });
    const begun = Date.now();
    await archiveWal(docker, restored);
    await layOut(docker, restored, { backup: newest.id });
    await recover(docker, restored, databaseOf(tenant), "");
    const recovered = (Date.now() - begun) / 1000;
    const checked = await check(docker, restored);
    trial.seconds = Math.round((recovered + checked.seconds) * 10) / 10;
    Object.assign(trial, await compare(tenant, barman, config, checked));
    trial.ok = true;
  } catch (error) {
    trial.reason = printable((error as Error).message);
  } finally {
    await removeVolume(barman, volume).catch((error: Error) => {
      trial.ok = false;
      trial.reason ||= printable(error.message);
    });
  }
  trial.at = Math.round(Date.now() / 1000);
  return trial;
}

/** @throws Error when the live server has seen the same transactions, and has other relations or rows */
async function compare(
  tenant: string,
  { docker }: Barman,
  { prefix }: StackConfig,
  restored: Contents,
): Promise<Pick<Trial, "relations" | "rows" | "compared">> {
  const all = Object.values(restored.databases);
  const found = {
    relations: all.reduce((sum, { relations }) => sum + relations, 0),
    rows: all.reduce((sum, { rows = 0 }) => sum + rows, 0),
  };
  const live = await liveContents(docker, `${prefix}-${tenant}`);
  if (!live) return { ...found, compared: "its server gave no answer" };
  // The numbers differ as soon as something was written since.
  if (live.transactions !== restored.transactions) return { ...found, compared: "written since" };
  for (const [name, { relations, rows }] of Object.entries(live.databases)) {
    const copy = restored.databases[name];
    if (copy?.relations !== relations || (rows !== undefined && copy.rows !== rows)) {
      throw new Error(
        `database ${name} has ${copy?.relations ?? "no"} tables with ${copy?.rows ?? "no"} rows, but on the live ` +
          `server, in which nothing was written since, ${relations} with ${rows ?? "rows that were not counted"}`,
      );
    }
  }
  return { ...found, compared: "as the live server" };
}

/** In bytes: rows of a larger database are not counted on the live server, which has better things to do. */
const countable = 256 * 1024 ** 2;

/** Undefined when the server does not answer, or some table is locked. */
async function liveContents(docker: Barman["docker"], name: string): Promise<Contents | undefined> {
  const env = ["PGOPTIONS=-c lock_timeout=5s -c statement_timeout=30s", "PGAPPNAME=pgs"];
  const command = countCommand(countable);
  const output = await exec(docker.getContainer(name), command, { env }).catch(() => undefined);
  const live = contentsOf(output?.stdout ?? "");
  return live.transactions === "" ? undefined : live;
}

/** For `pgs backups` and `pgs doctor`: in one step, beside the backups. */
async function note(barman: Barman, { tenant, at, seconds, ok, backup, reason }: Trial): Promise<void> {
  const text = JSON.stringify({ at, seconds, ok, backup, reason });
  const script = `set -e; cd /var/lib/barman; mkdir -p tried
    printf '%s\\n' "$2" >"tried/.$1.new"; mv -f "tried/.$1.new" "tried/$1.json"`;
  await barman.run(script, [`tenant-${tenant}`, text]);
}

/** Of a run that was cut off. */
async function removeLeftovers(barman: Barman, prefix: string): Promise<void> {
  const { Volumes } = await barman.docker.listVolumes({ filters: JSON.stringify({ name: [prefix] }) });
  for (const { Name } of Volumes ?? []) if (Name.startsWith(prefix)) await removeVolume(barman, Name);
}

/** With the container of a run that was cut off, which may still be at work in it. */
async function removeVolume({ docker }: Barman, volume: string): Promise<void> {
  const users = await docker.listContainers({ all: true, filters: { volume: [volume] } });
  for (const { Id, Mounts } of users) {
    // The filter finds names that only begin so, too.
    if (!Mounts.some(({ Name }) => Name === volume)) continue;
    await unlessGone(docker.getContainer(Id).remove({ force: true, v: true }));
  }
  await unlessGone(docker.getVolume(volume).remove());
}

function described({ tenant, ok, seconds, reason, relations, rows, compared }: Trial): string {
  if (!ok) return `${coloured.bad("✗")} ${tenant}: ${reason}`;
  const found = `${relations} tables with ${rows} rows (${compared})`;
  return `${coloured.good("✓")} ${tenant}: ready after ${seconds < 10 ? `${seconds}s` : duration(seconds)}, ${found}`;
}

/** What a tenant's server says may hold what steers a terminal. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\x00-\x1f\x7f-\x9f]+/g, " ").slice(0, 500);
}
