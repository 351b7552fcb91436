import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { escapeIdentifier } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { makeBaseBackup } from "./support/base-backup";
import { Checkout, withBackups } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { keepAsking } from "./support/inside";

let checkout: Checkout;
/** Times as of which there was a row more, by the server's clock. */
const times: Record<string, string> = {};

const pgs = (...args: string[]) => checkout.pgs(args);
const file = () => readFileSync(join(checkout.folder, "tenants.yaml"), "utf8");
const home = "/var/lib/barman/tenant-acme";

beforeAll(async () => {
  checkout = await Checkout.create(
    "defaults: { memory: 256Mi }\ntenants:\n  acme: { settings: { work_mem: 5MB }, roles: { app: { grants: owner } }, passwordVersion: 2 }\n  globex: { superuser: off, settings: { statement_timeout: 2s, lock_timeout: 1ms, default_transaction_read_only: true } }\n",
    withBackups,
  );
  await checkout.up();
  await checkout.query("acme", "CREATE TABLE written (n int PRIMARY KEY)");
  await checkout.query("acme", "CREATE VIEW mine AS SELECT 1 AS one", "app");
  await writing("globex", "CREATE TABLE theirs AS SELECT 1 AS one");
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
      `  acme-copy:\n    settings:\n      work_mem: 5MB\n    roles:\n      app:\n        grants: owner\n    restoreFrom:\n      tenant: acme\n      at: ${times[1]}\n`,
    );
    expect(await checkout.query("acme-copy", "SHOW work_mem")).toEqual([{ work_mem: "5MB" }]);
    // By a password of its own, and of what acme's own role of that name owned.
    expect(await checkout.password("acme-copy", "app")).not.toBe(await checkout.password("acme", "app"));
    expect(
      await checkout.query("acme-copy", "ALTER VIEW mine RENAME TO theirs; SELECT n FROM written", "app"),
    ).toEqual([{ n: 1 }]);
  });

  test("without a superuser where its entry says so, whatever the other has, and with one", async () => {
    const backup = 'backup: { schedule: "off" }';
    await checkout.apply(
      `${file()}  lowered: { superuser: off, ${backup}, restoreFrom: { tenant: acme } }\n` +
        `  raised: { ${backup}, restoreFrom: { tenant: globex } }\n`,
    );
    const is = `SELECT session_user AS login, current_user AS acts,
      (SELECT json_agg(rolname ORDER BY rolname) FROM pg_roles WHERE rolcanlogin OR rolsuper) AS others`;
    expect(await checkout.query("lowered", is)).toEqual([
      { login: "lowered", acts: "pgs_owner", others: ["lowered", "postgres"] },
    ]);
    await checkout.query("lowered", "ALTER TABLE written ADD note text; ALTER VIEW mine RENAME TO theirs");
    await expect(checkout.query("lowered", "COPY written FROM PROGRAM 'id'")).rejects.toThrow(
      "permission denied",
    );
    expect(await checkout.query("raised", is)).toEqual([
      { login: "postgres", acts: "postgres", others: ["postgres"] },
    ]);
    await writing("raised", "ALTER TABLE theirs ADD note text; CREATE EXTENSION file_fdw");
    await checkout.pulumi("preview", "--expect-no-changes");
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
    const [acme, globex] = await eventually(120, async () => {
      const result = await pgs("try-restores", "acme", "globex", "--json");
      expect(result.code, result.output).toBe(0);
      const trials = JSON.parse(result.stdout);
      expect(trials[0].compared).toBe("as the live server");
      return trials;
    });
    expect(acme).toMatchObject({ tenant: "acme", ok: true, relations: 1, rows: 2, reason: "" });
    expect(acme.seconds).toBeGreaterThan(0.1);
    expect(globex).toMatchObject({ tenant: "globex", ok: true, relations: 1, rows: 1 });
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
    await eventually(120, async () =>
      expect(await restoreContainers("--filter", "status=running")).not.toEqual([]),
    );
    process.kill(-(child.pid ?? Number.NaN), "SIGKILL");
    await eventually(90, async () => expect(await restoreContainers()).toEqual([]));
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

  test("counts databases whatever they are called, and runs nothing that they are called", async () => {
    const names = [
      "a=b",
      "x|y",
      "postgresql://nowhere/x",
      "it's \\ odd",
      "$(touch /tmp/pwned)",
      "two\nlines",
    ];
    for (const name of names) await checkout.query("acme", `CREATE DATABASE ${escapeIdentifier(name)}`);
    const client = await checkout.client("acme", names[0]);
    await client.query("CREATE TABLE here AS SELECT generate_series(1, 3) AS n");
    await client.end();
    try {
      await inBackup("pgs-backup archive --tenant acme");
      const before = await rows("acme");
      const trial = await tryAcme();
      expect(trial).toMatchObject({ ok: true, relations: 2, rows: before.length + 3 });
      const pwned = await run("docker", ["exec", checkout.name("acme"), "ls", "/tmp/pwned"]);
      expect(pwned.output).toMatch(/No such file/);
    } finally {
      for (const name of names) await checkout.query("acme", `DROP DATABASE ${escapeIdentifier(name)}`);
    }
  });

  describe("with an incremental base backup that the tenant changed", () => {
    let id: string;
    let data: string;

    beforeAll(async () => {
      await hasBaseBackup();
      // Again where a full one was under way, which counts as small.
      await eventually(240, async () => {
        // Every tenant is large here.
        await inBackup(`sed -i 's/^size=.*/size=1000000000/' ${home}/meta/*-backup.info`);
        await makeBaseBackup(checkout, "acme");
        id = (await inBackup(`ls ${home}/base | tail -n 1`)).trim();
        data = `${home}/base/${id}/data`;
        expect(await inBackup(`ls -R ${data}`)).toContain("INCREMENTAL.");
      });
      expect(await tryAcme()).toMatchObject({ ok: true, backup: id });
      await inBackup(
        `mkdir /var/lib/barman/saved && cp -a ${data} ${home}/meta/${id}-backup.info /var/lib/barman/saved`,
      );
    });
    afterEach(async () => {
      await inBackup(
        `rm -r ${data} && cp -a /var/lib/barman/saved/data ${data} && cp -a /var/lib/barman/saved/*.info ${home}/meta/`,
      );
      await nothingIsLeft();
    });

    /** Files for the base backup, by path, that its manifest then has, too. */
    async function forge(files: Record<string, string>, manifest: object = {}): Promise<void> {
      await succeed("docker", ["exec", "-i", checkout.name("acme--backup"), "python3", "-c", forging, data], {
        stdin: JSON.stringify({ files, manifest }),
      });
    }

    const forging = `
import base64, hashlib, json, os, sys
plan, data = json.load(sys.stdin), sys.argv[1]
manifest = json.load(open(data + "/backup_manifest"))
for path, content in plan["files"].items():
    content = base64.b64decode(content)
    with open(os.path.join(data, path), "wb") as file:
        file.write(content)
    entry = {"Path": path, "Size": len(content), "Last-Modified": "2026-01-01 00:00:00 GMT"}
    manifest["Files"] = [one for one in manifest["Files"] if one.get("Path") != path] + [entry]
del manifest["Manifest-Checksum"]
manifest.update(plan["manifest"])
text = json.dumps(manifest)[:-1] + ",\\n"
checksum = hashlib.sha256(text.encode()).hexdigest()
with open(data + "/backup_manifest", "w") as file:
    file.write(text + '"Manifest-Checksum": "' + checksum + '"}\\n')
`;

    test("that is another system's by its manifest is refused", async () => {
      await forge({}, { "System-Identifier": 7_000_000_000_000 });
      expect(await tryAcme()).toMatchObject({
        ok: false,
        reason: expect.stringMatching(/system identifier/i),
      });
    });

    test("with paths that lead out of it writes nothing elsewhere", async () => {
      const path = "../../../../tenant-acme/planted";
      await forge({ [path]: Buffer.from("planted").toString("base64") });
      const files = () => inBackup(`ls -aR ${home}/base; ls -a ${home} /var/lib/barman`);
      const before = await files();
      const { backup } = await tryAcme();
      expect(backup).toBe(id);
      expect(await files()).toEqual(before);
      await inBackup(`rm ${home}/planted`);
    });

    test("with a file that names four billion blocks is refused within its container", async () => {
      // Magic number, number of blocks, length, as pg_combinebackup reads it.
      const head = Buffer.alloc(12);
      head.writeUInt32LE(0xd3ae1f0d, 0);
      head.writeUInt32LE(0xffffffff, 4);
      head.writeUInt32LE(0xffffffff, 8);
      await forge({ "base/1/INCREMENTAL.4000000": head.toString("base64") });
      const neighbour = await keepAsking(checkout, "globex");
      expect(await tryAcme()).toMatchObject({ ok: false, backup: id });
      expect(await neighbour.stop()).toMatchObject({ failed: 0 });
    });

    test.each([
      [
        "links that lead in circles",
        "ln -s . one; ln -s . other",
        /other is neither a file nor a folder|one is/,
      ],
      // Whoever follows it finds what the manifest has, and could write it.
      [
        "a link instead of a file",
        `mv postgresql.auto.conf ${home}/linked; ln -s ${home}/linked postgresql.auto.conf`,
        /postgresql.auto.conf is neither a file nor a folder/,
      ],
      ["a link for a tablespace", "ln -s / pg_tblspc/16999", /16999 is neither a file nor a folder/],
    ])("with %s is refused at once", async (_, script, reason) => {
      await inBackup(`cd ${data} && ${script}`);
      const begun = performance.now();
      expect(await tryAcme()).toMatchObject({ ok: false, backup: id, reason: expect.stringMatching(reason) });
      expect((performance.now() - begun) / 1000).toBeLessThan(60);
    });

    test("that is made on itself is refused at once", async () => {
      await inBackup(
        `sed -i 's/^parent_backup_id=.*/parent_backup_id=${id}/' ${home}/meta/${id}-backup.info`,
      );
      expect(await tryAcme()).toMatchObject({ ok: false, reason: expect.stringMatching(/on a later one/) });
    });
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
      await makeBaseBackup(checkout, "acme");
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

  test("of a tenant without a superuser has its role, and no superuser that logs in", async () => {
    const { code, output } = await pgs("restore", "globex", "--yes");
    expect(code, output).toBe(0);
    const is = `SELECT session_user AS login, current_user AS acts, one,
      (SELECT json_agg(rolname) FROM pg_roles WHERE rolsuper) AS superusers FROM theirs`;
    expect(await checkout.query("globex", is)).toEqual([
      { login: "globex", acts: "pgs_owner", one: 1, superusers: ["postgres"] },
    ]);
    await checkout.up("--expect-no-changes");
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

/** In a session that may write, whatever the tenant's settings say. */
async function writing(id: string, sql: string): Promise<void> {
  const client = await checkout.client(id);
  await client.query("SET default_transaction_read_only = off");
  await client.query(sql);
  await client.end();
}

async function rows(id: string): Promise<number[]> {
  return (await checkout.query(id, "SELECT n FROM written ORDER BY n")).map(({ n }) => n as number);
}

async function inBackup(script: string): Promise<string> {
  return succeed("docker", ["exec", checkout.name("acme--backup"), "bash", "-c", script]);
}

async function tryAcme(): Promise<{ ok: boolean; backup: string; reason: string }> {
  return JSON.parse((await pgs("try-restores", "acme", "--json")).stdout)[0];
}

async function tried(): Promise<object> {
  const backups = JSON.parse((await pgs("backups", "--json")).stdout);
  return backups.find(({ tenant }: { tenant: string }) => tenant === "acme").tried;
}

/** None is due any more. */
async function hasBaseBackup(): Promise<void> {
  await eventually(240, async () => {
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
