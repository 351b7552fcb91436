import type { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import type { JudgedBackups } from "../../cli/lib/backup-status";
import { Checkout } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { addressOf, connectTo, inContainer, inspect, keepAsking } from "./support/inside";

/** A row that was committed, with the client's clock when it learnt of that. */
interface Commit {
  n: number;
  at: number;
}

let checkout: Checkout;
const commits: Commit[] = [];

const entries: Record<string, object> = { acme: {}, globex: {} };
const barman = () => checkout.name("-backups");

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

  test("what is changed in Barman's folder by hand is seen by every look at it, and put right", async () => {
    const path = "/var/lib/barman/servers.d/tenant-globex.conf";
    const asItWas = await succeed("docker", ["exec", barman(), "cat", path]);
    await succeed("docker", ["exec", barman(), "bash", "-c", `echo '; by hand' >>${path}`]);
    await checkout.pulumi("refresh", "--yes");
    await checkout.up();
    expect(await succeed("docker", ["exec", barman(), "cat", path])).toBe(asItWas);
    await checkout.up("--expect-no-changes");
  });

  test("each has a base backup within a minute", async () => {
    await eventually(60, async () => {
      for (const id of ["acme", "globex"]) {
        expect(await inBarman("list-backups", `tenant-${id}`, "--minimal"), id).toMatch(/^\d{8}T\d{6}$/);
      }
    });
  });

  test("pgs backups says so, and that nothing would be lost now", async () => {
    await eventually(20, async () => {
      const { code, stdout } = await pgs("backups", "--json");
      const found: JudgedBackups[] = JSON.parse(stdout);
      expect(found.map(({ tenant, state, problem }) => [tenant, state, problem]).sort()).toEqual([
        ["acme", "running", null],
        ["globex", "running", null],
      ]);
      expect(found.map(({ exposed }) => exposed)).toEqual([0, 0]);
      expect(code).toBe(0);
    });
  });

  test("the next base backup of a large tenant has only what differs from the last full one", async () => {
    await checkout.query("globex", "CREATE TABLE written AS SELECT -i AS n FROM generate_series(1, 1000) i");
    const full = await inBarman("list-backups", "tenant-globex", "--minimal");
    // Every tenant is large here.
    await succeed("docker", [
      "exec",
      "--env",
      "PGS_WORTH_SAVING=0",
      barman(),
      "pgs-backups",
      "backup",
      "tenant-globex",
    ]);
    const ids = (await inBarman("list-backups", "tenant-globex", "--minimal")).split("\n");
    expect(ids).toHaveLength(2);
    const record = JSON.parse(await inBarman("-f", "json", "show-backup", "tenant-globex", ids[0] ?? ""));
    expect(JSON.stringify(record)).toContain(`"parent_backup_id": "${full}"`.replace(": ", ":"));
  });

  test("WAL that Barman does not fetch is kept up to a limit", async () => {
    const [row] = await checkout.query("acme", "SHOW max_slot_wal_keep_size");
    expect(row).toEqual({ max_slot_wal_keep_size: "2GB" });
    const slots = await checkout.query("acme", "SELECT slot_name, active FROM pg_replication_slots");
    expect(slots).toEqual([{ slot_name: "pgs_barman", active: true }]);
  });

  test("its role has replication and what a backup needs, and logs in from Barman alone", async () => {
    const roles = await checkout.query(
      "acme",
      "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = 'pgs_barman'",
    );
    expect(roles).toEqual([
      { rolsuper: false, rolcreaterole: false, rolcreatedb: false, rolreplication: true },
    ]);
    const password = await barmanPassword("acme");
    expect(password).toMatch(/^[0-9a-f]{64}$/);
    expect(password).not.toBe(await barmanPassword("globex"));
    const { Client } = await import("pg");
    const client = new Client({ ...(await checkout.clientConfig("acme")), user: "pgs_barman", password });
    await expect(client.connect()).rejects.toThrow(/pg_hba\.conf rejects/);
  });

  test("its password is in no environment, argument, label or log", async () => {
    const password = await barmanPassword("acme");
    for (const name of [barman(), checkout.name("acme")]) {
      expect(await succeed("docker", ["inspect", name])).not.toContain(password);
      expect((await run("docker", ["logs", name])).output).not.toContain(password);
    }
    const processes = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '";
    expect(await succeed("docker", ["exec", barman(), "bash", "-c", processes])).not.toContain(password);
  });

  test("a tenant reaches nothing of Barman's", async () => {
    const address = await addressOf(barman(), checkout.name("acme"));
    expect(address).not.toBe("");
    const targets = ["22", "80", "873", "5432"].map((port) => `${address}:${port}`);
    const reached = await connectTo((script) => inContainer(checkout, "acme", script), targets);
    expect(new Set(Object.values(reached))).toEqual(new Set(["closed"]));
  });
});

describe("a tenant that is destroyed with its volume under load", () => {
  /** As of when one copy is made, and how many rows had been committed then at the least. */
  let then: { at: string; committed: number };
  let destroyedAt: number;

  beforeAll(async () => {
    const client = await checkout.client("acme");
    const writing = write(client, commits);
    await pause(3000);
    const { rows } = await client.query("SELECT clock_timestamp() AS at");
    // JavaScript's clock has no microseconds: the next whole millisecond.
    const at = new Date((rows[0].at as Date).getTime() + 1);
    then = { at: at.toISOString(), committed: commits.length };
    await pause(3000);
    await succeed("docker", ["rm", "--force", checkout.name("acme")]);
    destroyedAt = performance.now();
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

  test("keeps its backups, and the copies get some of their own", async () => {
    expect(await inBarman("list-backups", "tenant-acme", "--minimal")).toMatch(/^\d{8}T\d{6}$/);
    await eventually(60, async () => {
      expect(await inBarman("list-backups", "tenant-acme-copy", "--minimal")).toMatch(/^\d{8}T\d{6}$/);
    });
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
    // It lets go of the backups of a tenant that is gone within a minute.
    await succeed("docker", [
      "exec",
      barman(),
      "bash",
      "-c",
      "echo 1 >/var/lib/barman/servers.d/tenant-acme.left",
    ]);
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
    // Barman may be at its round of all tenants, and first has to notice that the server is gone.
    await eventually(60, async () => expect(await configurationOf("globex")).toMatch(/^active = false$/m));
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
    expect(await configurationOf("globex")).toMatch(/^; stopped$/m);
    const { stdout } = await pgs("backups", "--json");
    const status = JSON.parse(stdout).find(({ tenant }: JudgedBackups) => tenant === "globex");
    expect(status).toMatchObject({ state: "stopped", left: null, problem: null });
  });

  test("another one's own schedule and retention count at once, and restart nothing", async () => {
    for (const [id, at] of Object.entries(before)) {
      expect((await inspect(checkout.name(id))).State.StartedAt, id).toBe(at);
    }
    expect(await configurationOf("acme-then")).toMatch(/^retention_policy = RECOVERY WINDOW OF 30 DAYS$/m);
    const slots = "SELECT slot_name FROM pg_replication_slots";
    expect(await checkout.query("acme-copy", slots)).toEqual([]);
    expect(await checkout.query("acme-then", slots)).toEqual([{ slot_name: "pgs_barman" }]);
    expect((await checkout.tenants())["acme-copy"]?.backup?.schedule).toBe("off");
  });

  test("a removed one's are deleted, all of them, when their retention ended", async () => {
    await eventually(90, async () => {
      const left = await succeed("docker", ["exec", barman(), "find", "/var/lib/barman", "-maxdepth", "2"]);
      expect(left).not.toMatch(/\/(\.deleted-)?tenant-acme(\.|$)/m);
      expect(left).toMatch(/\/tenant-globex$/m);
      expect(left).toMatch(/\/tenant-acme-then$/m);
    });
  });

  test("begins anew with a base backup when it runs again", async () => {
    const before = await inBarman("list-backups", "tenant-globex", "--minimal");
    entries.globex = {};
    await checkout.apply(file());
    await eventually(60, async () => {
      const now = await inBarman("list-backups", "tenant-globex", "--minimal");
      expect(now.split("\n").length).toBe(before.split("\n").length + 1);
    });
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
      await checkout.query("twice", `CREATE TABLE made AS SELECT ${n} AS n`);
      await eventually(60, async () => {
        const found: JudgedBackups[] = JSON.parse((await pgs("backups", "--json")).stdout);
        expect(found.find(({ tenant }) => tenant === "twice")).toMatchObject({ problem: null, exposed: 0 });
      });
    };
    const twice = { restoreFrom: { tenant: "globex" }, onRemove: "delete" };
    entries.twice = twice;
    await checkout.apply(file());
    await make(1);
    delete entries.twice;
    await checkout.apply(file());
    entries.twice = twice;
    const output = await checkout.apply(file());
    const [, former = ""] = /twice is not that of its backups: .* tenant: (twice-\d+)/.exec(output) ?? [];
    expect(former, output).not.toBe("");
    await make(2);
    // Another container on the same volume: these are its own.
    await succeed("docker", ["rm", "--force", checkout.name("twice")]);
    expect(await checkout.up()).not.toContain("not that of its backups");

    entries["twice-then"] = { restoreFrom: { tenant: former } };
    entries["twice-now"] = { restoreFrom: { tenant: "twice" } };
    await checkout.apply(file());
    expect(await hasIn("twice-then")).toEqual([{ n: 1 }]);
    expect(await hasIn("twice-now")).toEqual([{ n: 2 }]);
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
      { max_slot_wal_keep_size: "-1" },
    ]);
    expect(await succeed("docker", ["volume", "ls", "--format", "{{.Name}}"])).toContain(barman());
    await checkout.up("--expect-no-changes");
  });
});

function file(): string {
  return stringify({ defaults: { memory: "256Mi" }, tenants: entries });
}

function pgs(...args: string[]) {
  return run("./pgs", args, checkout.options());
}

async function configurationOf(id: string): Promise<string> {
  return succeed("docker", ["exec", barman(), "cat", `/var/lib/barman/servers.d/tenant-${id}.conf`]);
}

async function inBarman(...args: string[]): Promise<string> {
  return (await succeed("docker", ["exec", barman(), "barman", ...args])).trim();
}

async function barmanPassword(id: string): Promise<string> {
  const path = `/var/lib/barman/servers.d/tenant-${id}.pass`;
  return (await succeed("docker", ["exec", barman(), "cat", path])).trim().split(":").at(-1) ?? "";
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
