import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Checkout, withBackups } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { keepAsking } from "./support/inside";

let checkout: Checkout;
/** Times as of which there was a row more, by the server's clock. */
const times: Record<string, string> = {};

const pgs = async (...args: string[]) => {
  checkout.forgetOutputs();
  return run("./pgs", args, checkout.options());
};
const file = () => readFileSync(join(checkout.folder, "tenants.yaml"), "utf8");
const home = "/var/lib/barman/tenant-acme";

beforeAll(async () => {
  checkout = await Checkout.create(
    "defaults: { memory: 256Mi }\ntenants:\n  acme: { settings: { work_mem: 5MB }, passwordVersion: 2 }\n  globex: { settings: { statement_timeout: 2s, lock_timeout: 1ms, default_transaction_read_only: true } }\n",
    withBackups,
  );
  await checkout.up();
  await checkout.query("acme", "CREATE TABLE written (n int PRIMARY KEY)");
  await hasBaseBackup();
});
afterAll(() => checkout?.remove());

describe("into another tenant", () => {
  test("has the rows of that second, and the fields of the other but not what is the other's alone", async () => {
    await write(1);
    await write(2);
    const result = await pgs("restore", "acme", "--at", times[1] ?? "", "--as", "acme-copy", "--yes");
    expect(result.code, result.output).toBe(0);
    expect(await rows("acme-copy")).toEqual([1]);
    expect(file()).toContain(
      `  acme-copy:\n    settings:\n      work_mem: 5MB\n    restoreFrom:\n      tenant: acme\n      at: ${times[1]}\n`,
    );
    expect(await checkout.query("acme-copy", "SHOW work_mem")).toEqual([{ work_mem: "5MB" }]);
  });

  test.each([
    [
      ["--as", "other", "--at", "2026-01-01T00:00:00Z"],
      /acme can be restored to .*Z and any second after it/,
    ],
    [["--as", "other", "--at", "2999-01-01T00:00:00Z"], /expected a time in the past/],
    [["--as", "globex"], /there is a tenant globex already/],
    [["--at", "yesterday", "--yes"], /--at: expected a time with its zone/],
    [[], /without a terminal needs --yes/],
  ])("%s is refused and changes nothing", async (args, message) => {
    const text = file();
    const result = await pgs("restore", "acme", ...args);
    expect(result.code, result.output).toBe(2);
    expect(result.stderr).toMatch(message);
    expect(file()).toBe(text);
  });
});

describe("tried", () => {
  test("tells how long it takes, what it found, and that it is as the live server", async () => {
    // What autovacuum writes at any time counts, too.
    const [acme, globex] = await eventually(60, async () => {
      const result = await pgs("try-restores", "acme", "globex", "--json");
      expect(result.code, result.output).toBe(0);
      const trials = JSON.parse(result.stdout);
      expect(trials[0].compared).toBe("as the live server");
      return trials;
    });
    expect(acme).toMatchObject({ tenant: "acme", ok: true, relations: 1, rows: 2, reason: "" });
    expect(acme.seconds).toBeGreaterThan(0.1);
    expect(globex).toMatchObject({ tenant: "globex", ok: true, relations: 0 });
    expect(await tried()).toMatchObject({ ok: true, seconds: acme.seconds, backup: acme.backup });
    await nothingIsLeft();
  });

  test("tells somebody at a terminal how far it is, and nobody else", async () => {
    const script = readFileSync(join(checkout.folder, "restore/progress.sh"), "utf8");
    checkout.write("restore/progress.sh", script.replace("sleep 10", "sleep 0.1"));
    const terminal = ["-qec", "./pgs try-restores acme", "/dev/null"];
    const { stdout } = await run("script", terminal, checkout.options());
    const stages = [
      /acme: laying out base backup \d+T\d+ and its WAL: \d+ of about \d+ MiB/,
      /acme: reading all of it/,
      /✓ acme: ready after/,
    ];
    for (const stage of stages) expect(stdout).toMatch(stage);
    const replayed = [...stdout.matchAll(/acme: replaying WAL: (\d+) of at most (\d+) segments/g)];
    expect(replayed).not.toEqual([]);
    for (const [, some, all] of replayed) expect(Number(some)).toBeLessThanOrEqual(Number(all));
    const { output } = await pgs("try-restores", "acme");
    expect(output).toMatch(/^✓ acme: ready after .*\n$/);
    checkout.write("restore/progress.sh", script);
  });

  test("ends when whoever started it is killed, and the next command finds nothing of it in its way", async () => {
    const { cwd, env } = checkout.options();
    const child = spawn(join(checkout.folder, "pgs"), ["try-restores", "acme"], { cwd, env, detached: true });
    // One that was never started runs nothing that could end, and is the next command's to remove.
    await eventually(60, async () =>
      expect(await restoreContainers("--filter", "status=running")).not.toEqual([]),
    );
    process.kill(-(child.pid ?? Number.NaN), "SIGKILL");
    await eventually(20, async () => expect(await restoreContainers()).toEqual([]));
    const result = await pgs("try-restores", "acme");
    expect(result.code, result.output).toBe(0);
    await nothingIsLeft();
  });

  test("finds a byte that was changed in a base backup", async () => {
    const damaged = (await inBackup(`find ${home}/base/*/data/base -size +8k -type f | head -n 1`)).trim();
    await inBackup(`cp -a ${damaged} /tmp/saved; printf X | dd of=${damaged} bs=1 seek=5000 conv=notrunc`);
    const result = await pgs("try-restores", "acme");
    expect(result.code, result.output).toBe(1);
    expect(result.stdout).toMatch(/✗ acme: base backup \d+T\d+ is damaged: .*checksum mismatch/);
    expect(await tried()).toMatchObject({ ok: false, reason: expect.stringContaining("checksum mismatch") });
    await inBackup(`cp -a /tmp/saved ${damaged}`);
    await nothingIsLeft();
  });

  test("finds WAL that is missing, and a restore in place then leaves the tenant as it is", async () => {
    for (const n of [3, 4]) {
      await write(n);
      await checkout.query("acme", "SELECT pg_switch_wal()");
    }
    await write(5);
    await inBackup("pgs-backup archive --tenant acme");
    const [missing] = (await inBackup(`ls -r ${home}/wals/0000000100000000/`)).split("\n").slice(1);
    const segment = `${home}/wals/0000000100000000/${missing}`;
    await inBackup(`mv ${segment} /tmp/saved-wal`);
    const result = await pgs("try-restores", "acme");
    expect(result.code, result.output).toBe(1);
    expect(result.stdout).toContain(missing);

    const refused = await pgs("restore", "acme", "--at", times[5] ?? "", "--yes");
    expect(refused.code, refused.output).toBe(1);
    expect(refused.stderr).toContain("Nothing of its data was changed.");
    expect(await rows("acme")).toEqual([1, 2, 3, 4, 5]);
    await inBackup(`mv /tmp/saved-wal ${segment}`);
    await nothingIsLeft();
  });
});

describe("in place", () => {
  let before: string[];
  let text: string;

  beforeAll(async () => {
    text = file();
    await hasBaseBackup();
    await write(6);
    await write(7);
    const neighbour = await keepAsking(checkout, "globex");
    const result = await pgs("restore", "acme", "--at", times[6] ?? "", "--yes");
    expect(result.code, result.output).toBe(0);
    expect(await neighbour.stop()).toMatchObject({ failed: 0 });
    before = await volumesOfBefore();
    expect(result.stdout).toContain(`docker volume rm ${before[0]}`);
  });

  test("has the rows of that second, with the password and settings that it had", async () => {
    expect(await rows("acme")).toEqual([1, 2, 3, 4, 5, 6]);
    expect(file()).toBe(text);
    expect(await checkout.query("acme", "SHOW work_mem")).toEqual([{ work_mem: "5MB" }]);
    await checkout.up("--expect-no-changes");
  });

  test("what it had before is a volume that an entry starts", async () => {
    expect(before).toHaveLength(1);
    checkout.write("tenants.yaml", `${file()}  former: { volume: ${before[0]} }\n`);
    await checkout.up();
    const psql = ["exec", checkout.name("former"), "psql", "-U", "postgres", "-d", "acme", "-Atc"];
    const said = await succeed("docker", [
      ...psql,
      "SELECT string_agg(n::text, ' ' ORDER BY n) FROM written",
    ]);
    expect(said).toBe("1 2 3 4 5 6 7\n");
  });

  test("neither loads a library nor runs a command that the data names", async () => {
    const name = checkout.name("acme");
    const evil = "/var/lib/postgresql/18/docker/evil";
    const settings = {
      shared_preload_libraries: evil,
      archive_mode: "on",
      archive_command: `touch ${evil}`,
      recovery_end_command: `touch ${evil}`,
    };
    const sql = Object.entries(settings).flatMap(([key, value]) => [
      "-c",
      `ALTER SYSTEM SET ${key} = '${value}'`,
    ]);
    const role = ["-c", `ALTER ROLE postgres SET session_preload_libraries = '${evil}'`];
    const sqlOf = (options: string, ...args: string[]) =>
      succeed("docker", ["exec", "-e", `PGOPTIONS=${options}`, name, "psql", "-U", "postgres", ...args]);
    await sqlOf("", ...sql, ...role);
    try {
      await inBackup("pgs-backup backup --tenant acme");
      // At the time that is restored, its database postgres is gone.
      const drop = "DROP DATABASE postgres";
      await sqlOf("-c session_preload_libraries=", "-d", "template1", "-c", drop);
      const result = await pgs("try-restores", "acme");
      expect(result.code, result.output).toBe(0);
    } finally {
      // No session of the role starts while its setting names what is not there.
      const reset = ["-c", "ALTER ROLE postgres RESET ALL", "-c", "ALTER SYSTEM RESET ALL"];
      await sqlOf("-c session_preload_libraries=", "-d", "acme", ...reset);
    }
    await checkout.up();
  });

  test("every second stays restorable: on the way that was left, and after it", async () => {
    await write(8);
    await hasBaseBackup();
    await write(9);
    const entry = (n: number) => `  at-${n}: { restoreFrom: { tenant: acme, at: "${times[n]}" } }\n`;
    await checkout.apply(`${file()}${[7, 8].map(entry).join("")}`);
    expect(await rows("at-7")).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(await rows("at-8")).toEqual([1, 2, 3, 4, 5, 6, 8]);
  });

  test("cut off before the restored server starts, the same command completes it with the same rows", async () => {
    await hasBaseBackup();
    await write(10);
    await write(11);
    const command = ["restore", "acme", "--at", times[10] ?? "", "--yes"];
    await cutOff(command, /^-.*state: stopped/m);
    const result = await pgs(...command);
    expect(result.code, result.output).toBe(0);
    expect(file()).not.toContain("state:");
    expect(await rows("acme")).toEqual([1, 2, 3, 4, 5, 6, 8, 9, 10]);
    expect((await volumesOfBefore()).length).toBeGreaterThan(1);
  });
});

/** Kills the command with all that it started as soon as it says this. */
async function cutOff(args: string[], moment: RegExp): Promise<void> {
  const { cwd, env } = checkout.options();
  const child = spawn(join(checkout.folder, "pgs"), args, { cwd, env, detached: true });
  let said = "";
  await new Promise<void>((resolve, reject) => {
    const listen = (text: Buffer) => {
      said += text;
      if (moment.test(said)) resolve();
    };
    child.stdout.on("data", listen);
    child.stderr.on("data", listen);
    child.on("exit", () => reject(new Error(`it ended before that: ${said}`)));
  });
  process.kill(-(child.pid ?? Number.NaN), "SIGKILL");
  await checkout.tryPulumi("cancel", "--yes");
}

/** One row, with the time as of which it is there. */
async function write(n: number): Promise<void> {
  const client = await checkout.client("acme");
  await client.query("INSERT INTO written VALUES ($1)", [n]);
  const { rows } = await client.query("SELECT clock_timestamp() AS at");
  // JavaScript's clock has no microseconds: the next whole millisecond.
  times[n] = new Date((rows[0].at as Date).getTime() + 1).toISOString();
  await client.end();
  await new Promise((resolve) => setTimeout(resolve, 20));
}

async function rows(id: string): Promise<number[]> {
  return (await checkout.query(id, "SELECT n FROM written ORDER BY n")).map(({ n }) => n as number);
}

async function inBackup(script: string): Promise<string> {
  return succeed("docker", ["exec", checkout.name("acme--backup"), "bash", "-c", script]);
}

async function tried(): Promise<object> {
  const backups = JSON.parse((await pgs("backups", "--json")).stdout);
  return backups.find(({ tenant }: { tenant: string }) => tenant === "acme").tried;
}

/** None is due any more. */
async function hasBaseBackup(): Promise<void> {
  await eventually(90, async () => {
    const usable = `grep -E '^status=(DONE|WAITING_FOR_WALS)' ${home}/meta/*-backup.info`;
    await inBackup(`${usable} && ! ls /var/lib/barman/due.json`);
  });
}

async function volumesOfBefore(): Promise<string[]> {
  return (await volumes()).filter((name) => name.startsWith(checkout.name("-before-")));
}

async function nothingIsLeft(): Promise<void> {
  expect((await volumes()).filter((name) => /--(trial|fetched)$|--before-/.test(name))).toEqual([]);
  expect(await restoreContainers()).toEqual([]);
}

async function restoreContainers(...filter: string[]): Promise<string[]> {
  const names = (await succeed("docker", ["ps", "--all", "--format", "{{.Names}}", ...filter])).split("\n");
  return names.filter((name) => name.startsWith(checkout.prefix) && /--restore$/.test(name));
}

async function volumes(): Promise<string[]> {
  const names = (await succeed("docker", ["volume", "ls", "--format", "{{.Name}}"])).split("\n");
  return names.filter((name) => name.startsWith(`${checkout.prefix}-`));
}
