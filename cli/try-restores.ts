import { archiveWal, type Checked, check, layOut, recover, verifyBackup } from "../restore";
import { databaseOf } from "../restore/names";
import { unlessGone } from "../restore/run-script";
import { Barman } from "./barman";
import { outputOf } from "./engine";
import { type StackConfig, stackConfig } from "./stack";
import { duration } from "./tenants-table";
import { coloured } from "./terminal";

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

/**
 * Restores the newest backup of each tenant where nobody reaches it, reads all of it, and takes it away again.
 * @param named without any: all that are backed up
 * @returns whether all went well
 */
export async function tryRestores(named: string[], options: { json?: boolean }): Promise<boolean> {
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
      { from: tenant, version, volume, limits: { memory, cpuShares } },
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
  { transactions, databases }: Checked,
): Promise<Pick<Trial, "relations" | "rows" | "compared">> {
  const all = Object.values(databases);
  const sum = (of: "relations" | "rows") => all.reduce((total, one) => total + one[of], 0);
  const found = { relations: sum("relations"), rows: sum("rows") };
  const live = await liveServer(docker, `${prefix}-${tenant}`);
  if (!live) return { ...found, compared: "its server does not run" };
  // The numbers differ as soon as something was written since.
  if (live.transactions !== transactions) return { ...found, compared: "written since" };
  if (live.relations !== found.relations) {
    throw new Error(
      `it has ${found.relations} tables, and the live server, in which nothing was written since, ${live.relations}`,
    );
  }
  return { ...found, compared: "as the live server" };
}

/** Of the live server only what costs it nothing: to count rows, it would have to read them all. */
async function liveServer(docker: Barman["docker"], name: string) {
  const psql = "psql --no-psqlrc --quiet --tuples-only --no-align --username postgres";
  const script = `set -e
    ${psql} --dbname postgres --command "SELECT 'transactions ' || pg_snapshot_xmax(pg_current_snapshot())"
    ${psql} --dbname postgres --command "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate" |
      while read -r database; do
        ${psql} --dbname "$database" --command "SELECT 'relations ' || count(*)
          FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
          WHERE relkind IN ('r', 'm') AND relpersistence = 'p' AND (relkind = 'r' OR relispopulated)
          AND nspname NOT IN ('pg_catalog', 'information_schema')"
      done`;
  try {
    const answer = await outputOf(docker.getContainer(name), ["timeout", "30", "bash", "-c", script], [], 40);
    const transactions = /^transactions (\d+)$/m.exec(answer ?? "")?.[1];
    if (transactions === undefined) return undefined;
    const counts = [...(answer ?? "").matchAll(/^relations (\d+)$/gm)].map(([, count]) => Number(count));
    return { transactions, relations: counts.reduce((total, count) => total + count, 0) };
  } catch {
    return undefined;
  }
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
