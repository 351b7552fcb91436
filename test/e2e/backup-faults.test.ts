import { afterAll, beforeAll, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import type { JudgedBackups } from "../../cli/lib/backup-status";
import { Checkout, withBackups } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { inspect } from "./support/inside";

let checkout: Checkout;
/** What was written until then is known. */
const times: Record<string, string> = {};

const entries: Record<string, object> = { acme: {}, globex: {} };
const backupOf = (id: string) => checkout.name(`${id}--backup`);
/** Keeps a volume of backups mounted while their container is restarted: its disk is in memory. */
const holder = () => checkout.name("-holder");

beforeAll(async () => {
  checkout = await Checkout.create(file(), withBackups);
  await checkout.up();
  for (const id of ["acme", "globex"]) await checkout.query(id, "CREATE TABLE written (step text)");
  await allIsWell();
});
afterAll(() => checkout?.remove());

test("a backup container killed while it receives WAL and makes a base backup misses nothing, and makes it again", async () => {
  const before = await newestBackup("acme");
  await beginSlowBackup("acme");
  const writing = await keepWriting("acme");
  await succeed("docker", ["kill", backupOf("acme")]);
  const reported = await pgs("backups");
  expect(reported.code).toBe(1);
  expect(reported.stdout).toMatch(/^acme .*no WAL is received/m);
  expect((await standing("globex")).problem).toBeNull();
  await succeed("docker", ["start", backupOf("acme")]);
  await eventually(180, async () => expect((await newestBackup("acme")) > before).toBe(true));
  expect(await writing.stop()).toBeGreaterThan(50);
  expect(await unusable("acme")).toEqual([]);
  await allIsWell();
});

test("one removed by hand is seen by preview and made again by up, on the same backups, without a restart", async () => {
  const before = await listed("acme");
  const { StartedAt } = (await inspect(checkout.name("acme"))).State;
  await succeed("docker", ["rm", "--force", backupOf("acme")]);
  await write("acme", "without a backup container");
  const preview = await checkout.pulumi("preview", "--refresh");
  expect(preview).toMatch(/PostgresServer +acme +update\b/);
  expect(preview).not.toMatch(/PostgresServer +globex +update\b/);
  await checkout.up("--refresh");
  await allIsWell();
  expect(await listed("acme")).toEqual(before);
  expect((await inspect(checkout.name("acme"))).State.StartedAt).toBe(StartedAt);
  await checkout.up("--expect-no-changes");
});

test("a tenant restarted during a base backup gets another one", async () => {
  const before = await newestBackup("acme");
  await beginSlowBackup("acme");
  await succeed("docker", ["restart", "--time", "60", checkout.name("acme")]);
  await eventually(90, () => write("acme", "after a restart"));
  await eventually(180, async () => expect((await newestBackup("acme")) > before).toBe(true));
  expect(await unusable("acme")).toEqual([]);
  await allIsWell();
});

test("a slot that was dropped by hand is made again, and goes on where it ended", async () => {
  const backup = await newestBackup("acme");
  await dropSlot("acme");
  await write("acme", "without a slot");
  await allIsWell();
  expect(await newestBackup("acme")).toBe(backup);
});

test("with WAL that is gone it is reported, and begins again with a new base backup", async () => {
  const before = await newestBackup("globex");
  await write("globex", "before the slot was dropped");
  times.received = await now("globex");
  await write("globex", "when that was over");
  await allIsReceived("globex");
  // The supervisor makes a new slot within a second.
  await succeed("docker", ["stop", backupOf("globex")]);
  await dropSlot("globex");
  await write("globex", "without a slot");
  for (let n = 0; n < 3; n++) await checkout.query("globex", "SELECT pg_switch_wal(); CHECKPOINT");
  times.lost = await now("globex");
  const reported = await pgs("backups");
  expect(reported.code, reported.output).toBe(1);
  expect(reported.stdout).toMatch(/^globex .*no WAL is received/m);
  expect((await standing("acme")).problem).toBeNull();
  await succeed("docker", ["start", backupOf("globex")]);
  await eventually(180, async () => expect((await newestBackup("globex")) > before).toBe(true));
  await allIsWell();
  await refusesRestore("globex", times.lost, /the WAL of that time is missing/);
  await write("globex", "with a new one");
});

test("one that gives no answer is that tenant's problem alone", async () => {
  await succeed("docker", ["pause", backupOf("acme")]);
  try {
    const found = await standing("acme");
    expect(found.problem).toMatch(/^backups of acme: .* is paused/);
    expect((await standing("globex")).problem).toBeNull();
  } finally {
    await succeed("docker", ["unpause", backupOf("acme")]);
  }
  await allIsWell();
});

test("a full disk is reported, the neighbour is not touched, and with room again nothing is missing", async () => {
  await onSmallDisk("globex");
  const before = await newestBackup("globex");
  // Enough for WAL, and for no base backup.
  await fillDisk(60);
  await inVolume("globex", `echo '{"at": 1}' >/var/lib/barman/due.json`);
  await succeed("docker", ["restart", backupOf("globex")]);
  await eventually(180, async () => {
    expect(await standing("globex")).toMatchObject({
      problem: expect.stringContaining("a base backup takes up to"),
    });
  });
  expect(await newestBackup("globex")).toBe(before);
  await fillDisk(5);
  await write("globex", "on a full disk");
  for (let n = 0; n < 2; n++) await checkout.query("globex", "SELECT pg_switch_wal()");
  await write("globex", "still on a full disk");
  await eventually(180, async () => {
    expect(await standing("globex")).toMatchObject({ problem: expect.stringMatching(/^no WAL is received/) });
  });
  expect((await standing("globex")).problem).toContain("the disk is full");
  expect((await standing("acme")).problem).toBeNull();
  const doctor = await pgs("doctor", "--quick");
  expect(doctor.code).toBe(1);
  expect(doctor.stdout).toMatch(/✗ backup +globex: no WAL is received/);
  await inVolume("globex", "rm /var/lib/barman/filler");
  await succeed("docker", ["restart", backupOf("globex")]);
  await eventually(180, async () => expect((await newestBackup("globex")) > before).toBe(true));
  await allIsWell();
  expect(await unusable("globex")).toEqual([]);
  await write("globex", "with room again");
});

test("every restore after it is right, or refused", async () => {
  // Nothing was committed since: that is known of a server that answers.
  times.quiet = await now("acme");
  for (const id of ["acme", "globex"]) await allIsReceived(id);
  for (const id of ["acme", "globex"]) entries[`${id}-copy`] = { restoreFrom: { tenant: id } };
  entries["acme-quiet"] = { restoreFrom: { tenant: "acme", at: times.quiet } };
  entries["globex-then"] = { restoreFrom: { tenant: "globex", at: times.received } };
  await refusesRestore("globex", times.lost, /the WAL of that time is missing: .* is missing/);
  await checkout.apply(file());
  for (const id of ["acme", "globex"]) expect(await steps(`${id}-copy`), id).toEqual(await steps(id));
  expect(await steps("acme-quiet")).toEqual(await steps("acme"));
  expect(await steps("globex-then")).toEqual(["before the slot was dropped"]);
});

function file(): string {
  return stringify({ defaults: { memory: "256Mi" }, tenants: entries });
}

function pgs(...args: string[]) {
  return run("./pgs", args, checkout.options());
}

async function write(id: string, step: string): Promise<void> {
  await checkout.query(id, `INSERT INTO written VALUES ('${step}')`);
}

/** One commit after another, until it is stopped. @returns how many there were */
async function keepWriting(id: string): Promise<{ stop: () => Promise<number> }> {
  const client = await checkout.client(id);
  let stopped = false;
  let count = 0;
  const writing = (async () => {
    while (!stopped) await client.query("INSERT INTO written VALUES ($1)", [`under load ${++count}`]);
    await client.end();
  })();
  return {
    async stop() {
      stopped = true;
      await writing;
      return count;
    },
  };
}

/** By the server's clock; of JavaScript's, which has no microseconds, the next whole millisecond. */
async function now(id: string): Promise<string> {
  const [{ at } = {}] = await checkout.query(id, "SELECT clock_timestamp() AS at");
  await new Promise((resolve) => setTimeout(resolve, 20));
  return new Date((at as Date).getTime() + 1).toISOString();
}

async function dropSlot(id: string): Promise<void> {
  await checkout.query(
    id,
    "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots; SELECT pg_drop_replication_slot('pgs_backup')",
  );
}

/** pg_receivewal says so every two seconds. */
async function allIsReceived(id: string): Promise<void> {
  await eventually(120, async () => expect((await standing(id)).exposed).toBe(0));
}

/** The next up takes away what is left of it. */
async function refusesRestore(id: string, at: string | undefined, message: RegExp): Promise<void> {
  checkout.write(
    "tenants.yaml",
    stringify({ ...parse(file()), tenants: { ...entries, refused: { restoreFrom: { tenant: id, at } } } }),
  );
  const refused = await checkout.tryUp();
  checkout.write("tenants.yaml", file());
  expect(refused.code).not.toBe(0);
  expect(refused.output).toMatch(message);
}

/** Moves a tenant's backups to a disk that can be filled. */
async function onSmallDisk(id: string): Promise<void> {
  const { Image } = await inspect(backupOf(id));
  const volume = backupOf(id);
  const { Labels } = JSON.parse(await succeed("docker", ["volume", "inspect", volume]))[0];
  const labels = Object.entries(Labels).flatMap(([name, value]) => ["--label", `${name}=${value}`]);
  const disk = ["--driver", "local", "--opt", "type=tmpfs", "--opt", "device=tmpfs"];
  const isolated = ["run", "--network", "none", "--user", "root"];
  const aside = checkout.name("-aside");
  await succeed("docker", ["rm", "--force", backupOf(id)]);
  const copy = async (from: string, to: string) =>
    succeed("docker", [
      ...[...isolated, "--rm", "--volume", `${from}:/from`, "--volume", `${to}:/to`, Image],
      ...["cp", "--archive", "/from/.", "/to"],
    ]);
  await copy(volume, aside);
  await succeed("docker", ["volume", "rm", volume]);
  await succeed("docker", [
    ...["volume", "create", ...disk, "--opt", "o=size=600m,uid=999,mode=700", ...labels, volume],
  ]);
  // What keeps it mounted, since a tmpfs is empty when nothing does.
  await succeed("docker", [
    ...[...isolated, "--detach", "--name", holder(), "--volume", `${volume}:/var/lib/barman`],
    ...[Image, "sleep", "3600"],
  ]);
  await copy(aside, volume);
  await checkout.up("--refresh");
  await allIsWell();
}

/** Leaves so many MiB. */
async function fillDisk(left: number): Promise<void> {
  await succeed("docker", [
    ...["exec", holder(), "bash", "-c"],
    `cd /var/lib/barman && head -c 1G /dev/zero >filler 2>/dev/null; truncate --size -${left}M filler`,
  ]);
}

async function steps(id: string): Promise<unknown[]> {
  return (await checkout.query(id, "SELECT step FROM written")).map(({ step }) => step);
}

/** As the server's stream could do it. */
async function inVolume(id: string, script: string): Promise<string> {
  return (await succeed("docker", ["exec", backupOf(id), "bash", "-c", script])).trim();
}

async function standings(): Promise<JudgedBackups[]> {
  return JSON.parse((await pgs("backups", "--json")).stdout);
}

async function standing(id: string): Promise<JudgedBackups> {
  return (await standings()).find(({ tenant }) => tenant === id) as JudgedBackups;
}

async function allIsWell(): Promise<void> {
  await eventually(180, async () => {
    const found = await standings();
    for (const id of ["acme", "globex"]) {
      const well = { problem: null, pending: null, exposed: 0, due: false };
      expect(found.find(({ tenant }) => tenant === id)).toMatchObject(well);
    }
  });
}

/** A base backup of a table of 200 MB, which takes some seconds. @returns when it has begun */
async function beginSlowBackup(id: string): Promise<void> {
  await checkout.query(
    id,
    "CREATE TABLE IF NOT EXISTS large AS SELECT repeat(md5(i::text), 30) FROM generate_series(1, 200000) i",
  );
  await allIsReceived(id);
  await inVolume(id, `echo '{"at": 1}' >/var/lib/barman/due.json`);
  // The supervisor looks once a minute by itself.
  await succeed("docker", ["restart", backupOf(id)]);
  await eventually(180, async () => expect(await unusable(id)).not.toEqual([]));
}

async function listed(id: string): Promise<{ id: string; usable: boolean }[]> {
  return JSON.parse(await inVolume(id, `pgs-backup list --tenant ${id}`)).sets[0].backups;
}

/** Those that are not done, or never will be. */
async function unusable(id: string): Promise<string[]> {
  return (await listed(id)).filter(({ usable }) => !usable).map(({ id }) => id);
}

async function newestBackup(id: string): Promise<string> {
  return (await listed(id)).filter(({ usable }) => usable).at(-1)?.id ?? "";
}
