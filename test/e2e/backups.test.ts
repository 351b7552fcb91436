import { readFileSync } from "node:fs";
import type { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import type { JudgedBackups } from "../../cli/lib/backup-status";
import { makeBaseBackup } from "./support/base-backup";
import { Checkout } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { inspect, keepAsking } from "./support/inside";

/** A row that was committed, with the client's clock when it learnt of that. */
interface Commit {
  n: number;
  at: number;
}

let checkout: Checkout;
const commits: Commit[] = [];

const entries: Record<string, object> = { acme: {}, globex: {} };
const backupOf = (id: string) => checkout.name(`${id}--backup`);

beforeAll(async () => {
  checkout = await Checkout.create(file());
  await checkout.up();
});
afterAll(async () => {
  await checkout?.remove();
});

describe("as they are by default, for tenants that run without", () => {
  let neighbour: Awaited<ReturnType<typeof keepAsking>>;
  const started: Record<string, string> = {};

  beforeAll(async () => {
    for (const id of ["acme", "globex"]) started[id] = (await inspect(checkout.name(id))).State.StartedAt;
    await checkout.query("acme", "CREATE TABLE written (n int PRIMARY KEY)");
    neighbour = await keepAsking(checkout, "acme");
    // What the project has by itself.
    await checkout.pulumi("config", "rm", "pgs:backups");
    await checkout.up();
  });

  test("no server restarts and no session ends", async () => {
    expect(await neighbour.stop()).toMatchObject({ failed: 0 });
    for (const id of ["acme", "globex"]) {
      expect((await inspect(checkout.name(id))).State.StartedAt, id).toBe(started[id]);
    }
  });

  test("a second up changes nothing", async () => {
    await checkout.up("--expect-no-changes");
  });

  test("each has a container of its own, without network, with its own data alone", async () => {
    for (const id of ["acme", "globex"]) {
      const { Mounts, HostConfig } = await inspect(backupOf(id));
      const mounted = Mounts.map(({ Name, Destination, RW }) => [Name, Destination, RW]);
      expect(mounted.sort()).toEqual([
        [checkout.name(id), "/var/lib/postgresql", false],
        [backupOf(id), "/var/lib/barman", true],
      ]);
      expect(HostConfig.NetworkMode).toBe("none");
    }
  });

  test("each has a base backup within a minute", async () => {
    await eventually(60, async () => {
      for (const id of ["acme", "globex"]) expect(await backupsOf(id), id).toHaveLength(1);
    });
  });

  test("pgs backups says so, and that nothing would be lost now", async () => {
    await eventually(90, async () => {
      const { code, stdout } = await pgs("backups", "--json");
      const found: JudgedBackups[] = JSON.parse(stdout);
      expect(found.map(({ tenant, state, problem, pending }) => [tenant, state, problem, pending])).toEqual([
        ["acme", "running", null, null],
        ["globex", "running", null, null],
      ]);
      expect(found.map(({ exposed }) => exposed)).toEqual([0, 0]);
      expect(code).toBe(0);
    });
  });

  test("the next base backup of a large tenant has only what differs from the last full one", async () => {
    await checkout.query("globex", "CREATE TABLE written AS SELECT -i AS n FROM generate_series(1, 1000) i");
    const [full] = await backupsOf("globex");
    // Every tenant is large here.
    const record = `/var/lib/barman/tenant-globex/meta/${full?.id}-backup.info`;
    await inBackup("globex", `sed -i 's/^size=.*/size=1000000000/' ${record}`);
    await makeBaseBackup(checkout, "globex");
    expect((await backupsOf("globex")).map(({ parent }) => parent)).toEqual([null, full?.id]);
  });

  test("WAL that is not received is kept up to a limit", async () => {
    const [row] = await checkout.query("acme", "SHOW max_slot_wal_keep_size");
    expect(row).toEqual({ max_slot_wal_keep_size: "2GB" });
    const slots = await checkout.query("acme", "SELECT slot_name, active FROM pg_replication_slots");
    expect(slots).toEqual([{ slot_name: "pgs_backup", active: true }]);
  });

  test("they need no role, password or line of pg_hba.conf in the server", async () => {
    const roles = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres'";
    expect(await checkout.query("acme", roles)).toEqual([]);
    const lines =
      "SELECT user_name FROM pg_hba_file_rules WHERE 'replication' = ANY (database) AND type <> 'local'";
    const loopback = [{ user_name: ["all"] }, { user_name: ["all"] }];
    expect(await checkout.query("acme", `${lines} AND address NOT IN ('127.0.0.1', '::1')`)).toEqual([]);
    expect([[], loopback]).toContainEqual(await checkout.query("acme", lines));
  });

  test("no password is in a backup container, its environment, arguments, labels, log or volume", async () => {
    for (const id of ["acme", "globex"]) {
      const password = await checkout.password(id);
      expect(password).toMatch(/^\w{32}$/);
      expect(await succeed("docker", ["inspect", backupOf(id)])).not.toContain(password);
      expect((await run("docker", ["logs", backupOf(id)])).output).not.toContain(password);
      const processes = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '";
      const found = await inBackup(id, `${processes}; grep -rFl -e ${password} /var/lib/barman /tmp || true`);
      // The question itself holds it.
      expect(found.replaceAll(/bash -c .*$/gm, "")).not.toMatch(/^\/(var|tmp)/m);
      expect((await inBackup(id, processes)).includes(password)).toBe(false);
    }
  });
});

describe("a tenant that is destroyed with its volume under load", () => {
  /** As of when one copy is made, and how many rows had been committed then at the least. */
  let then: { at: string; committed: number };
  let destroyedAt: number;

  beforeAll(async () => {
    const client = await checkout.client("acme");
    const writing = write(client, commits);
    const more = async (count: number) => {
      const enough = commits.length + count;
      await pause(3000);
      await eventually(120, async () => expect(commits.length).toBeGreaterThan(enough));
    };
    await more(100);
    const { rows } = await client.query("SELECT clock_timestamp() AS at");
    // JavaScript's clock has no microseconds: the next whole millisecond.
    const at = new Date((rows[0].at as Date).getTime() + 1);
    then = { at: at.toISOString(), committed: commits.length };
    await more(100);
    await succeed("docker", ["kill", checkout.name("acme")]);
    destroyedAt = performance.now();
    // What receives its WAL has its volume too.
    await succeed("docker", ["rm", "--force", checkout.name("acme"), backupOf("acme")]);
    await succeed("docker", ["volume", "rm", checkout.name("acme")]);
    await writing;
    // An up makes nothing in the place of a volume that is lost (docs/disaster.md).
    await succeed("docker", ["volume", "create", checkout.name("acme")]);
    delete entries.acme;
    entries["acme-copy"] = { restoreFrom: { tenant: "acme" } };
    entries["acme-then"] = { restoreFrom: { tenant: "acme", at: then.at } };
    await checkout.apply(file());
  });

  test("lacks at the most the commits of the last second", async () => {
    const rows = await writtenIn("acme-copy");
    const missing = commits.filter(({ n }) => !rows.has(n));
    console.log(`${commits.length} rows committed, of which the restore lacks ${missing.length}`);
    expect(commits.length).toBeGreaterThan(200);
    expect(missing.filter(({ at }) => at < destroyedAt - 1000)).toEqual([]);
  });

  test("is restored as of the second that was asked for", async () => {
    const rows = await writtenIn("acme-then");
    expect(rows.size).toBeGreaterThanOrEqual(then.committed);
    expect(rows.size).toBeLessThanOrEqual(then.committed + 20);
    for (const { n } of commits.slice(0, then.committed)) expect(rows.has(n)).toBe(true);
  });

  test("comes with a database, password and settings of its own", async () => {
    const [row] = await checkout.query("acme-copy", "SELECT current_database() AS database");
    expect(row).toEqual({ database: "acme-copy" });
    expect(await checkout.query("acme-copy", "SELECT pg_is_in_recovery() AS recovers")).toEqual([
      { recovers: false },
    ]);
    const left = "SELECT name FROM pg_file_settings WHERE name ~ 'restore_command|recovery_target'";
    expect(await checkout.query("acme-copy", left)).toEqual([]);
  });

  test("keeps its backups, which are listed with their end, and the copies get some of their own", async () => {
    expect(await standing("acme")).toMatchObject({ state: "removed", problem: null });
    const { left } = await standing("acme");
    expect(left).toBeGreaterThan(7 * 24 * 60 - 30);
    expect(left).toBeLessThanOrEqual(7 * 24 * 60);
    await eventually(180, async () => expect(await backupsOf("acme-copy")).toHaveLength(1));
  });

  test("and they go by no command but the one that says so, and only after their retention", async () => {
    const { stdout } = await pgs("backups", "--delete-expired", "--yes");
    expect(stdout).toBe("No backups are past their retention.\n");
    await retiredLongAgo("acme");
    expect(await standing("acme")).toMatchObject({ state: "removed", left: 0 });
    const unattended = await pgs("backups", "--delete-expired");
    expect(unattended.code).toBe(2);
    expect(unattended.stderr).toContain("needs --yes: acme");
    expect(await volumes()).toContain(backupOf("acme"));
  });

  test("an entry made of it once takes no other time later, and the up after it changes nothing", async () => {
    await checkout.up("--expect-no-changes");
    entries["acme-then"] = { restoreFrom: { tenant: "acme" } };
    checkout.write("tenants.yaml", file());
    const refused = await checkout.tryPulumi("preview");
    expect(refused.code).not.toBe(0);
    expect(refused.output).toContain("made from acme at");
    entries["acme-then"] = {};
  });
});

describe("a tenant that is stopped while it is written to", () => {
  const before: Record<string, string> = {};
  const written: Commit[] = [];

  beforeAll(async () => {
    for (const id of ["acme-copy", "acme-then"])
      before[id] = (await inspect(checkout.name(id))).State.StartedAt;
    const writing = write(await checkout.client("globex"), written);
    entries.globex = { state: "stopped" };
    entries["acme-copy"] = { backup: { schedule: "off" } };
    entries["acme-then"] = { backup: { retention: "30d" } };
    await checkout.apply(file());
    await writing;
  });

  test("has every commit in its backups, also in a restore from an incremental one", async () => {
    entries["globex-last"] = { restoreFrom: { tenant: "globex" } };
    await checkout.apply(file());
    const rows = await writtenIn("globex-last");
    console.log(`${written.length} rows committed before it was stopped`);
    expect(written.length).toBeGreaterThan(10);
    expect(rows.size).toBeGreaterThanOrEqual(1000 + written.length);
    expect(written.filter(({ n }) => !rows.has(n))).toEqual([]);
    expect(rows.has(-1000)).toBe(true);
  });

  test("keeps its backups as long as it is stopped", async () => {
    expect(await standing("globex")).toMatchObject({ state: "stopped", left: null, problem: null });
    expect(await backupsOf("globex")).toHaveLength(2);
  });

  test("another one's own schedule and retention count at once, and restart nothing", async () => {
    for (const [id, at] of Object.entries(before)) {
      expect((await inspect(checkout.name(id))).State.StartedAt, id).toBe(at);
    }
    const { Config } = await inspect(backupOf("acme-then"));
    expect(Config.Cmd.slice(-2)).toEqual(["--retention", "30"]);
    const slots = "SELECT slot_name FROM pg_replication_slots";
    expect(await checkout.query("acme-copy", slots)).toEqual([]);
    expect(await checkout.query("acme-then", slots)).toEqual([{ slot_name: "pgs_backup" }]);
    expect((await checkout.tenants())["acme-copy"]?.backup?.schedule).toBe("off");
    expect(await containers()).not.toContain(backupOf("acme-copy"));
    expect(await standing("acme-copy")).toMatchObject({ state: "removed" });
  });

  test("a removed one's are deleted, all of them and no others, when that is asked for after their retention", async () => {
    const { code, stdout } = await pgs("backups", "--delete-expired", "--yes");
    expect(code, stdout).toBe(0);
    expect(stdout).toBe("acme: deleted\n");
    const left = await volumes();
    expect(left).not.toContain(backupOf("acme"));
    for (const id of ["globex", "acme-copy", "acme-then"]) expect(left).toContain(backupOf(id));
    expect(await standing("acme")).toBeUndefined();
  });

  test("goes on with its backups when it runs again", async () => {
    const before = await backupsOf("globex");
    entries.globex = {};
    await checkout.apply(file());
    await checkout.query("globex", "INSERT INTO written VALUES (-2000)");
    await eventually(180, async () => {
      expect(await standing("globex")).toMatchObject({ exposed: 0, problem: null, due: false });
    });
    expect(await backupsOf("globex")).toEqual(before);
  });
});

describe("data that exists", () => {
  test("is never replaced by a restore", async () => {
    await checkout.query("globex", "CREATE TABLE precious AS SELECT 1 AS n");
    entries.globex = { restoreFrom: { tenant: "acme-then" } };
    checkout.write("tenants.yaml", file());
    const refused = await checkout.tryUp();
    expect(refused.code).not.toBe(0);
    expect(refused.output).toContain("there is data in the volume already");
    expect(await checkout.query("globex", "SELECT n FROM precious")).toEqual([{ n: 1 }]);
    entries.globex = {};
  });

  test("of a copy that is made again under its name has backups of its own", async () => {
    const hasIn = (id: string) => checkout.query(id, "SELECT n FROM made");
    const make = async (n: number) => {
      await checkout.query("twice", `DROP TABLE IF EXISTS made; CREATE TABLE made AS SELECT ${n} AS n`);
      await eventually(180, async () => {
        expect(await standing("twice")).toMatchObject({ problem: null, pending: null, exposed: 0 });
      });
    };
    const twice = { restoreFrom: { tenant: "globex" }, onRemove: "delete" };
    entries.twice = twice;
    await checkout.apply(file());
    await make(1);
    delete entries.twice;
    await checkout.apply(file());
    entries.twice = twice;
    await checkout.apply(file());
    await make(2);
    const aside = (await allStandings()).filter(
      ({ owner, tenant }) => owner === "twice" && tenant !== "twice",
    );
    expect(aside).toMatchObject([{ state: "removed", left: expect.any(Number), problem: null }]);
    const former = aside[0]?.tenant ?? "";
    expect(former).toMatch(/^twice-\d+$/);
    // Another container on the same volume: these are its own.
    await succeed("docker", ["rm", "--force", checkout.name("twice")]);
    await checkout.up();
    await make(3);
    expect((await allStandings()).filter(({ owner }) => owner === "twice")).toHaveLength(2);

    entries["twice-then"] = { restoreFrom: { tenant: former } };
    entries["twice-now"] = { restoreFrom: { tenant: "twice" } };
    await checkout.apply(file());
    expect(await hasIn("twice-then")).toEqual([{ n: 1 }]);
    expect(await hasIn("twice-now")).toEqual([{ n: 3 }]);
    for (const id of ["twice", "twice-then", "twice-now"]) delete entries[id];
  });

  test("stays as it is when backups are switched off: no restart, and no slot that holds WAL", async () => {
    entries["globex-last"] = {};
    const { StartedAt } = (await inspect(checkout.name("globex"))).State;
    await checkout.pulumi("config", "set", "--path", "pgs:backups.schedule", "off");
    await checkout.apply(file());
    expect((await inspect(checkout.name("globex"))).State.StartedAt).toBe(StartedAt);
    expect(await checkout.query("globex", "SELECT slot_name FROM pg_replication_slots")).toEqual([]);
    expect(await checkout.query("globex", "SHOW max_slot_wal_keep_size")).toEqual([
      { max_slot_wal_keep_size: "2GB" },
    ]);
    expect(await containers()).not.toMatch(/--backup$/m);
    expect(await volumes()).toContain(backupOf("globex"));
    await checkout.up("--expect-no-changes");
  });

  test("and goes on with a new base backup when they are switched on again, without a restart", async () => {
    const { StartedAt } = (await inspect(checkout.name("globex"))).State;
    await checkout.pulumi("config", "rm", "pgs:backups");
    await checkout.up();
    await eventually(180, async () => {
      expect(await standing("globex")).toMatchObject({
        state: "running",
        problem: null,
        exposed: 0,
        due: false,
      });
    });
    expect((await backupsOf("globex")).length).toBeGreaterThan(2);
    expect((await inspect(checkout.name("globex"))).State.StartedAt).toBe(StartedAt);
    await checkout.up("--expect-no-changes");
  });
});

function file(): string {
  return stringify({ defaults: { memory: "256Mi" }, tenants: entries });
}

function pgs(...args: string[]) {
  return run("./pgs", args, checkout.options());
}

async function allStandings(): Promise<JudgedBackups[]> {
  return JSON.parse((await pgs("backups", "--json")).stdout);
}

async function standing(id: string): Promise<JudgedBackups> {
  return (await allStandings()).find(({ tenant }) => tenant === id) as JudgedBackups;
}

/** A tenant's usable base backups, the oldest first. */
async function backupsOf(id: string): Promise<BaseBackup[]> {
  const { sets } = JSON.parse(await inBackup(id, `pgs-backup list --tenant ${id}`));
  return sets[0].backups.filter(({ usable }: BaseBackup) => usable);
}

interface BaseBackup {
  id: string;
  usable: boolean;
  parent: string | null;
}

async function inBackup(id: string, script: string): Promise<string> {
  return (await succeed("docker", ["exec", backupOf(id), "bash", "-c", script])).trim();
}

/** As after its retention. */
async function retiredLongAgo(id: string): Promise<void> {
  const images = parse(readFileSync("Pulumi.yaml", "utf8")).config.images.default;
  const mount = ["--network", "none", "--volume", `${backupOf(id)}:/var/lib/barman`];
  const script = `sed -i 's/"at": *[0-9]*/"at": 1/' /var/lib/barman/retired.json`;
  await succeed("docker", ["run", "--rm", ...mount, images.barman, "bash", "-c", script]);
}

function volumes(): Promise<string> {
  return succeed("docker", ["volume", "ls", "--format", "{{.Name}}"]);
}

function containers(): Promise<string> {
  return succeed("docker", ["ps", "--all", "--filter", `name=${checkout.prefix}-`, "--format", "{{.Names}}"]);
}

/** One commit after another, until the server goes away. */
async function write(client: Client, commits: Commit[]): Promise<void> {
  try {
    for (let n = 1; ; n++) {
      await client.query("INSERT INTO written VALUES ($1)", [n]);
      commits.push({ n, at: performance.now() });
    }
  } catch {
    await client.end().catch(() => {});
  }
}

async function writtenIn(id: string): Promise<Set<number>> {
  return new Set((await checkout.query(id, "SELECT n FROM written")).map(({ n }) => n as number));
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
