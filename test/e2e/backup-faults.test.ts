import { afterAll, beforeAll, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import type { JudgedBackups } from "../../cli/lib/backup-status";
import { Checkout, withBackups } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";

let checkout: Checkout;
/** What was written until then is known. */
const times: Record<string, string> = {};

const entries: Record<string, object> = { acme: {}, globex: {} };
const barman = () => checkout.name("-backups");
/** Has Barman's volume too, and keeps it mounted while Barman is killed. */
const holder = () => checkout.name("-holder");

beforeAll(async () => {
  checkout = await Checkout.create(file(), withBackups);
  // A disk that can be filled.
  const disk = ["--driver", "local", "--opt", "type=tmpfs", "--opt", "device=tmpfs"];
  await succeed("docker", ["volume", "create", ...disk, "--opt", "o=size=600m,uid=999,mode=700", barman()]);
  await checkout.up();
  const { Image } = JSON.parse(await succeed("docker", ["inspect", barman()]))[0];
  const mount = ["--volumes-from", barman(), "--network", "none"];
  await succeed("docker", ["run", "--detach", "--name", holder(), ...mount, Image, "sleep", "3600"]);
  for (const id of ["acme", "globex"]) await checkout.query(id, "CREATE TABLE written (step text)");
  await allIsWell();
});
afterAll(async () => {
  await run("docker", ["rm", "--force", holder()]);
  await checkout?.remove();
});

test("Barman killed while it receives WAL and makes a base backup misses nothing, and makes it anew", async () => {
  const before = await newestBackup("acme");
  await beginSlowBackup("acme");
  const writing = await keepWriting("acme");
  await succeed("docker", ["kill", barman()]);
  const reported = await pgs("backups");
  expect(reported.code).toBe(1);
  expect(reported.stderr).toContain(`the container ${barman()} does not run: ./pgs up`);
  await unslow("acme");
  await succeed("docker", ["start", barman()]);
  await eventually(60, async () => expect((await newestBackup("acme")) > before).toBe(true));
  expect(await writing.stop()).toBeGreaterThan(50);
  expect(await unusable("acme")).toBe("");
  await allIsWell();
});

test("a tenant restarted during a base backup gets another one", async () => {
  const before = await newestBackup("acme");
  await beginSlowBackup("acme");
  await succeed("docker", ["restart", "--time", "60", checkout.name("acme")]);
  await eventually(20, () => write("acme", "after a restart"));
  await eventually(30, async () => expect(await unusable("acme")).toBe(""));
  await unslow("acme");
  expect(await newestBackup("acme")).toBe(before);
  await tryBackupAgain("acme");
  await soonWell();
  await eventually(30, async () => expect((await newestBackup("acme")) > before).toBe(true));
});

test("a slot that was dropped by hand is made again, and goes on where it ended", async () => {
  const backup = await newestBackup("acme");
  await dropSlot("acme");
  await write("acme", "without a slot");
  await soonWell();
  expect(await newestBackup("acme")).toBe(backup);
});

test("with WAL that is gone it is reported, and begins anew with a base backup", async () => {
  const before = await newestBackup("globex");
  await write("globex", "before the slot was dropped");
  times.received = await now("globex");
  await write("globex", "when that was over");
  await allIsReceived("globex");
  await dropSlot("globex");
  await write("globex", "without a slot");
  for (let n = 0; n < 3; n++) await checkout.query("globex", "SELECT pg_switch_wal(); CHECKPOINT");
  times.lost = await now("globex");
  const reported = await pgs("backups");
  expect(reported.code, reported.output).toBe(1);
  expect(reported.stdout).toMatch(/^globex .*no WAL is received/m);
  await refusesRestore("globex", times.lost, /the WAL of that time is missing/);
  await soonWell();
  expect((await newestBackup("globex")) > before).toBe(true);
  await write("globex", "with a new one");
});

test("a full disk is reported, and once there is room again nothing is missing", async () => {
  const before = await newestBackup("acme");
  // Enough for a part of a base backup, and of a segment of WAL.
  await fillDisk(15);
  await inVolume("touch /var/lib/barman/servers.d/tenant-acme.due");
  await eventually(60, () => succeed("docker", ["exec", barman(), "ls", "/tmp/tenant-acme.failed"]));
  expect(await newestBackup("acme")).toBe(before);
  await fillDisk(5);
  await write("acme", "on a full disk");
  for (let n = 0; n < 2; n++) await checkout.query("acme", "SELECT pg_switch_wal()");
  await write("acme", "still on a full disk");
  await eventually(30, async () => {
    expect(await standing("acme")).toMatchObject({ problem: expect.stringMatching(/^no WAL is received/) });
  });
  const doctor = await pgs("doctor", "--quick");
  expect(doctor.code).toBe(1);
  expect(doctor.stdout).toMatch(/✗ backup +acme: no WAL is received/);
  await inVolume("rm /var/lib/barman/filler");
  await tryBackupAgain("acme");
  await soonWell();
  expect((await newestBackup("acme")) > before).toBe(true);
  expect(await unusable("acme")).toBe("");
  await write("acme", "with room again");
});

test("every restore after it is right, or refused", async () => {
  // Nothing was committed since: that is known of a server that answers.
  times.quiet = await now("acme");
  for (const id of ["acme", "globex"]) await allIsReceived(id);
  for (const id of ["acme", "globex"]) entries[`${id}-copy`] = { restoreFrom: { tenant: id } };
  entries["acme-quiet"] = { restoreFrom: { tenant: "acme", at: times.quiet } };
  entries["globex-then"] = { restoreFrom: { tenant: "globex", at: times.received } };
  await checkout.apply(file());
  for (const id of ["acme", "globex"]) expect(await steps(`${id}-copy`), id).toEqual(await steps(id));
  expect(await steps("acme-quiet")).toEqual(await steps("acme"));
  expect(await steps("globex-then")).toEqual(["before the slot was dropped"]);
  await refusesRestore("globex", times.lost, /the WAL of that time is missing: .* is missing/);
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
    "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots; SELECT pg_drop_replication_slot('pgs_barman')",
  );
}

/** pg_receivewal says so every ten seconds. */
async function allIsReceived(id: string): Promise<void> {
  await eventually(30, async () => expect((await standing(id)).exposed).toBe(0));
}

async function refusesRestore(id: string, at: string | undefined, message: RegExp): Promise<void> {
  checkout.write(
    "tenants.yaml",
    stringify({ ...parse(file()), tenants: { ...entries, refused: { restoreFrom: { tenant: id, at } } } }),
  );
  const refused = await checkout.tryUp();
  await checkout.apply(file());
  expect(refused.code).not.toBe(0);
  expect(refused.output).toMatch(message);
}

/** Leaves so many MiB. */
async function fillDisk(left: number): Promise<void> {
  await inVolume(
    `cd /var/lib/barman && head -c 1G /dev/zero >filler 2>/dev/null; truncate --size -${left}M filler`,
  );
}

/** As after the two minutes that it waits. */
async function tryBackupAgain(id: string): Promise<void> {
  await inVolume(`touch /var/lib/barman/servers.d/tenant-${id}.due`);
  await succeed("docker", ["exec", barman(), "touch", "--date", "5 minutes ago", `/tmp/tenant-${id}.failed`]);
}

async function steps(id: string): Promise<unknown[]> {
  return (await checkout.query(id, "SELECT step FROM written")).map(({ step }) => step);
}

async function inVolume(script: string): Promise<string> {
  return (await succeed("docker", ["exec", holder(), "bash", "-c", script])).trim();
}

async function standing(id: string): Promise<JudgedBackups> {
  const { stdout } = await pgs("backups", "--json");
  return JSON.parse(stdout).find(({ tenant }: JudgedBackups) => tenant === id);
}

async function allIsWell(): Promise<void> {
  await eventually(60, async () => {
    const { code, output } = await pgs("backups");
    expect(code, output).toBe(0);
  });
}

/** Barman looks at what it receives once a minute, or when one of these files comes or goes. */
async function soonWell(): Promise<void> {
  await eventually(90, async () => {
    await inVolume("cd /var/lib/barman/servers.d && touch .look && sleep 1.5 && rm .look");
    const { code, output } = await pgs("backups");
    expect(code, output).toBe(0);
  });
}

/** A base backup of 30 MB that takes ten seconds. @returns when it has begun */
async function beginSlowBackup(id: string): Promise<void> {
  await inVolume(
    `cd /var/lib/barman/servers.d && echo 'bandwidth_limit = 3000' >>tenant-${id}.conf && touch tenant-${id}.due`,
  );
  await eventually(30, async () => expect(await unusable(id)).not.toBe(""));
}

async function unslow(id: string): Promise<void> {
  await inVolume(`sed -i /^bandwidth_limit/d /var/lib/barman/servers.d/tenant-${id}.conf`);
}

/** The records of base backups that are not done, or never will be. */
async function unusable(id: string): Promise<string> {
  return inVolume(
    `grep -LE '^status=(DONE|WAITING_FOR_WALS)$' /var/lib/barman/tenant-${id}/meta/*-backup.info || true`,
  );
}

async function newestBackup(id: string): Promise<string> {
  const usable = `cd /var/lib/barman/tenant-${id}/meta && grep -lE '^status=(DONE|WAITING_FOR_WALS)$' *-backup.info`;
  return (await inVolume(usable)).split("\n").sort().at(-1) ?? "";
}
