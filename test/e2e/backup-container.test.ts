import { readFileSync } from "node:fs";
import type Docker from "dockerode";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import {
  BackupClient,
  backupContainer,
  slotName,
  socketFolder,
  withBackupVolume,
} from "../../backups/client";
import { dockerClient } from "../../docker/client";
import { hardened } from "../../docker/hardening";
import { createOptions } from "../../provider/container/reconcile";
import { onceNoneIsMade } from "./support/base-backup";
import { eventually, run, succeed } from "./support/command";

const prefix = process.env.PGS_TEST_PREFIX ?? "pgst0000";
const images = parse(readFileSync("Pulumi.yaml", "utf8")).config.images.default;
const docker = dockerClient(undefined);

/** A server and its backup container, as the stack makes them, without Pulumi. */
class Tenant {
  readonly name: string;
  readonly backup: Docker.Container;
  readonly client: BackupClient;

  constructor(readonly id: string) {
    this.name = `${prefix}-bk-${id}`;
    this.backup = docker.getContainer(`${this.name}--backup`);
    this.client = new BackupClient(this.backup, id);
  }

  /** @param sockets where the server listens */
  async startServer(sockets = socketFolder): Promise<void> {
    const folders = `/var/run/postgresql,/tmp,${sockets}`;
    const script = `
      mkdir -p ${sockets} ${socketFolder} && chown postgres ${sockets} ${socketFolder}
      [ -e /var/lib/postgresql/.volume-id ] || cat /proc/sys/kernel/random/uuid >/var/lib/postgresql/.volume-id
      exec docker-entrypoint.sh postgres -c unix_socket_directories=${folders} -c summarize_wal=on -c max_slot_wal_keep_size=64MB`;
    await succeed("docker", [
      ...["run", "--detach", "--name", this.name, "--network", "none", "--env", "POSTGRES_PASSWORD=test"],
      ...["--volume", `${this.name}:/var/lib/postgresql`, "--entrypoint", "bash", images[18], "-c", script],
    ]);
  }

  async startBackup(schedule = "02:30"): Promise<void> {
    const { options, mounts, limits } = backupContainer({
      tenant: this.id,
      serverVolume: this.name,
      backupVolume: `${this.name}--backup`,
      schedule,
      retention: 7,
    });
    const name = `${this.name}--backup`;
    const labels = { stack: prefix, tenant: this.id, role: "backup" };
    const image = { image: images.barman, imageId: images.barman };
    const spec = { name, ...labels, ...image, mounts, limits, stopSeconds: 30, options };
    const container = await docker.createContainer({ name, ...createOptions(spec, images.barman) });
    await container.start();
  }

  async query(sql: string, database = "postgres"): Promise<string> {
    const session = ["-h", "/var/run/postgresql", "-U", "postgres", "-d", database];
    const command = ["psql", "-X", "-At", ...session, "-c", sql];
    return (await succeed("docker", ["exec", this.name, ...command])).trim();
  }

  async answers(): Promise<void> {
    await eventually(180, () => this.query("SELECT 1"));
  }

  /** As whatever was written into the backup volume could do it. @returns what it printed */
  async inBackup(script: string): Promise<string> {
    return (await run("docker", ["exec", this.backup.id, "bash", "-c", script])).output.trim();
  }

  async log(): Promise<string> {
    return (await run("docker", ["logs", this.backup.id])).output;
  }

  async ids(): Promise<string[]> {
    const [own] = await this.client.list();
    return (own?.backups ?? []).filter(({ usable }) => usable).map(({ id }) => id);
  }

  /** @returns its id */
  makeBackup(seconds = 120): Promise<string> {
    return onceNoneIsMade(() => this.client.backup(seconds));
  }

  /** Has another base backup than these. */
  async anotherBackup(known: string[], seconds = 180): Promise<string[]> {
    return eventually(seconds, async () => {
      const ids = await this.ids();
      expect(ids.some((id) => !known.includes(id))).toBe(true);
      return ids;
    });
  }

  /** What was written up to now. The server itself writes a little more at any time, and hears back every 2 s. */
  async allIsReceived(database = "postgres"): Promise<void> {
    // Nothing that a superuser has set counts for this session.
    const options = "-c event_triggers=off -c search_path=pg_catalog -c statement_timeout=0";
    const session = ["-h", "/var/run/postgresql", "-U", "postgres", "-d", database];
    const psql = ["exec", "--env", `PGOPTIONS=${options}`, this.name, "psql", "-X", "-At", ...session, "-c"];
    const end = (await succeed("docker", [...psql, "SELECT pg_current_wal_lsn()"])).trim();
    const received = `SELECT write_lsn >= '${end}' FROM pg_stat_replication WHERE application_name = 'pgs_backup'`;
    await eventually(120, async () => {
      expect(await succeed("docker", [...psql, received])).toBe("t\n");
      expect((await this.client.status()).behind).toBeLessThan(8192);
    });
  }

  async remove(): Promise<void> {
    await run("docker", ["rm", "--force", "--volumes", this.name, this.backup.id, `${this.name}-relay`]);
    await run("docker", ["volume", "rm", "--force", this.name, `${this.name}--backup`]);
  }
}

describe("the backup container of a tenant", () => {
  const acme = new Tenant("acme");
  beforeAll(() => acme.remove());
  afterAll(() => acme.remove());

  test("makes the first base backup once the server answers", async () => {
    await acme.startBackup();
    await acme.startServer();
    await acme.answers();
    expect(await acme.anotherBackup([])).toHaveLength(1);
    await acme.allIsReceived();
    const status = await acme.client.status();
    expect(status).toMatchObject({ due: false, retired: null, problem: null });
    expect(status.base).toBeGreaterThan(Date.now() / 1000 - 120);
    expect(status.size).toBeGreaterThan(20_000_000);
  });

  test("reaches nothing: no network, the tenant's data and its own programs read-only, no capability", async () => {
    expect(await acme.inBackup("cat /proc/net/dev | tail -n +3 | cut -d: -f1")).toBe("lo");
    for (const path of [
      "/var/lib/postgresql/x",
      "/usr/lib/python3/dist-packages/x.pth",
      "/usr/local/bin/x",
      "/x",
    ]) {
      expect(await acme.inBackup(`touch ${path}`), path).toMatch(/Read-only file system|Permission denied/);
    }
    expect(await acme.inBackup("grep -h ^Cap /proc/self/status | cut -f2 | sort -u")).toBe(
      "0000000000000000",
    );
    expect(await acme.inBackup("id -u; grep NoNewPrivs /proc/self/status | cut -f2")).toBe("999\n1");
  });

  test("archives what was written, up to a mark", async () => {
    await acme.query("CREATE TABLE written (step text); INSERT INTO written VALUES ('first')");
    const segment = await acme.query("SELECT pg_walfile_name(pg_current_wal_lsn())");
    await acme.client.archive({ mark: true });
    expect(await acme.inBackup(`stat -c %s /var/lib/barman/tenant-acme/wals/*/${segment}`)).toBe("16777216");
  });

  test("receives again after a restart of the server, and after one of its own", async () => {
    const before = await acme.ids();
    await succeed("docker", ["restart", "--time", "60", acme.name]);
    await acme.answers();
    await acme.query("INSERT INTO written VALUES ('after a restart')");
    await acme.allIsReceived();
    await succeed("docker", ["restart", acme.backup.id]);
    await acme.query("INSERT INTO written VALUES ('after another')");
    await acme.allIsReceived();
    expect(await acme.ids()).toEqual(before);
  });

  test("goes on without the database postgres, which is the tenant's to drop", async () => {
    const before = await acme.ids();
    await acme.query("ALTER DATABASE postgres RENAME TO kept", "template1");
    try {
      await succeed("docker", ["restart", acme.backup.id]);
      await acme.query("SELECT txid_current()", "kept");
      await acme.allIsReceived("kept");
      expect(before).not.toContain(await acme.makeBackup());
    } finally {
      await acme.query("ALTER DATABASE kept RENAME TO postgres", "template1");
    }
  });

  test("ends in time, and costs next to nothing while nothing happens", async () => {
    const ticks = () =>
      acme.inBackup(
        "cat /proc/[0-9]*/stat | grep -E 'pgs-backup|pg_receivewal|python3' | awk '{ s += $14 + $15 } END { print s }'",
      );
    await acme.allIsReceived();
    const before = Number(await ticks());
    await new Promise((resolve) => setTimeout(resolve, 30_000));
    // A tenth of a second of processor time in half a minute, most of it for the question itself.
    expect(Number(await ticks()) - before).toBeLessThan(10);
    const processes = await acme.inBackup("ls -d /proc/[0-9]* | wc -l");
    expect(Number(processes)).toBeLessThan(8);
    const begun = performance.now();
    await succeed("docker", ["stop", "--time", "30", acme.backup.id]);
    expect((performance.now() - begun) / 1000).toBeLessThan(25);
    expect((await acme.backup.inspect()).State.ExitCode).toBe(0);
    await succeed("docker", ["start", acme.backup.id]);
  });

  test("has all that a stopped server wrote", async () => {
    await acme.allIsReceived();
    await acme.query("INSERT INTO written VALUES ('the last')");
    await succeed("docker", ["stop", "--time", "60", acme.name]);
    await acme.client.archive();
    const checkpoint = await acme.inBackup(
      "pg_controldata /var/lib/postgresql/18/docker | sed -n 's/^Latest checkpoint location: *//p'",
    );
    // The segment that it ends in is being received, and stays so.
    const last = await acme.inBackup(`
      mkdir -p /tmp/wal && cd /var/lib/barman/tenant-acme
      for file in wals/*/0* streaming/0*; do ln -sf "$PWD/$file" "/tmp/wal/$(basename "$file" .partial)"; done
      pg_waldump --path /tmp/wal --start ${checkpoint} --limit 1 2>&1; rm -r /tmp/wal`);
    expect(last).toContain("CHECKPOINT_SHUTDOWN");
    expect(await acme.client.status()).toMatchObject({ behind: null });
    await succeed("docker", ["start", acme.name]);
    await acme.answers();
    await acme.allIsReceived();
  });

  test("the next base backup of a large tenant has only what differs from the last full one", async () => {
    const full = (await acme.ids()).at(-1) ?? "";
    // Every tenant is large here.
    const record = `/var/lib/barman/tenant-acme/meta/${full}-backup.info`;
    await acme.inBackup(`sed -i 's/^size=.*/size=1000000000/' ${record}`);
    const made = await acme.makeBackup();
    const [own] = await acme.client.list();
    expect(own?.backups.find(({ id }) => id === made)).toMatchObject({ usable: true, parent: full });
  });

  test("goes on after a gap with a new base backup", async () => {
    const before = await acme.ids();
    await succeed("docker", ["stop", acme.backup.id]);
    await acme.query(`SELECT pg_drop_replication_slot('${slotName}')`);
    for (let n = 0; n < 3; n++) {
      await acme.query(`INSERT INTO written VALUES ('not received')`);
      await acme.query("SELECT pg_switch_wal()");
      await acme.query("CHECKPOINT");
    }
    await succeed("docker", ["start", acme.backup.id]);
    await acme.anotherBackup(before);
    expect(await acme.log()).toMatch(/WAL between \w{24} and \w{24} was never received/);
    await eventually(90, async () => expect(await acme.client.status()).toMatchObject({ due: false }));
  });

  test("whose slot the tenant takes for itself says so, and goes on with a new base backup when it is free", async () => {
    const before = await acme.ids();
    const end = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active";
    const take = `mkdir /tmp/own; echo $$ >/tmp/own.pid
      until pg_receivewal -U postgres --no-loop -D /tmp/own --slot ${slotName}; do psql -U postgres -c '${end}'; done`;
    await succeed("docker", ["exec", "--detach", acme.name, "setsid", "bash", "-c", take]);
    await eventually(120, async () => {
      expect((await acme.client.status()).problem).toMatch(/slot "pgs_backup" is active|disconnected/);
    });
    for (let n = 0; n < 3; n++) {
      await acme.query("INSERT INTO written VALUES ('received by the tenant')");
      await acme.query("SELECT pg_switch_wal()");
    }
    await eventually(90, async () => {
      expect(
        await acme.query("SELECT pg_current_wal_lsn() - restart_lsn < 2 ^ 24 FROM pg_replication_slots"),
      ).toBe("t");
    });
    await acme.query("CHECKPOINT");
    await succeed("docker", [
      "exec",
      acme.name,
      "bash",
      "-c",
      "kill -- -$(cat /tmp/own.pid); rm -r /tmp/own",
    ]);
    await acme.anotherBackup(before);
    await acme.allIsReceived();
    await eventually(90, async () => {
      expect(await acme.client.status()).toMatchObject({ due: false, problem: null });
    });
  });

  test("goes on beside an unused slot of the tenant, which holds back WAL up to the limit only", async () => {
    await acme.query("SELECT pg_create_physical_replication_slot('hoard', true)");
    for (let n = 0; n < 16; n++) {
      await acme.query("INSERT INTO written VALUES ('hoarded')");
      await acme.query("SELECT pg_switch_wal()");
      if (n % 4 === 3) await acme.query("CHECKPOINT");
    }
    const status = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'hoard'";
    await eventually(90, async () => expect(await acme.query(`CHECKPOINT; ${status}`)).toMatch(/lost$/));
    // max_slot_wal_keep_size is 64 MB here, and the server keeps 80 MB for what comes.
    expect(Number(await acme.query("SELECT count(*) FROM pg_ls_waldir()"))).toBeLessThan(12);
    await acme.allIsReceived();
    await acme.query("SELECT pg_drop_replication_slot('hoard')");
  });

  test("has files of the data folder alone: links and pipes there are not followed", async () => {
    const inData = (script: string) =>
      succeed("docker", ["exec", acme.name, "bash", "-c", `cd /var/lib/postgresql/18/docker && ${script}`]);
    const odd = ["etc", "base/root", "barman", "global/postgres", "pipe", "hard"];
    await inData(`ln -s /etc etc; ln -s / base/root; ln -s /var/lib/barman barman; ln -s /nowhere global/postgres
      mkfifo pipe; ln PG_VERSION hard; chown -h postgres: ${odd.join(" ")}`);
    const made = await acme.makeBackup();
    await inData(`rm ${odd.join(" ")}`);
    const found = `cd /var/lib/barman/tenant-acme/base/${made}/data; ls -d ${odd.join(" ")} 2>/dev/null; cat hard`;
    expect(await acme.inBackup(found)).toBe("hard\n18");
    expect(await acme.client.status()).toMatchObject({ problem: null });
  });

  test("is not steered by settings, objects and triggers of the server's superuser", async () => {
    await acme.query("CREATE SCHEMA evil");
    await acme.query(
      "CREATE VIEW evil.pg_replication_slots AS SELECT pg_sleep(600)::text AS wait, 'pgs_backup'::name AS slot_name",
    );
    await acme.query(
      "CREATE FUNCTION evil.f() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); END $$",
    );
    await acme.query("CREATE EVENT TRIGGER login ON login EXECUTE FUNCTION evil.f()");
    const admin = [
      "env",
      "PGOPTIONS=-c event_triggers=off",
      "psql",
      "-X",
      "-h",
      "/var/run/postgresql",
      "-U",
      "postgres",
      "-c",
    ];
    await succeed("docker", [
      ...["exec", acme.name, ...admin],
      "ALTER ROLE postgres SET search_path = evil, pg_catalog; ALTER ROLE postgres SET statement_timeout = 1",
    ]);
    try {
      await succeed("docker", ["restart", acme.backup.id]);
      await acme.allIsReceived();
      const before = await acme.ids();
      const made = await acme.makeBackup();
      expect(before).not.toContain(made);
    } finally {
      await succeed("docker", ["exec", acme.name, ...admin, "ALTER ROLE postgres RESET ALL"]);
      await succeed("docker", ["exec", acme.name, ...admin, "DROP SCHEMA evil CASCADE"]);
    }
  });

  test("a server that does not answer costs its deadline, and no more", async () => {
    await succeed("docker", ["pause", acme.name]);
    try {
      const begun = performance.now();
      expect(await acme.client.status()).toMatchObject({ behind: null });
      expect((performance.now() - begun) / 1000).toBeLessThan(15);
    } finally {
      await succeed("docker", ["unpause", acme.name]);
    }
  });

  test("keeps the backups of other data aside", async () => {
    const before = await acme.ids();
    const system = await acme.query("SELECT system_identifier FROM pg_control_system()");
    await succeed("docker", ["rm", "--force", acme.name, acme.backup.id]);
    await succeed("docker", ["volume", "rm", acme.name]);
    await acme.startServer();
    await acme.startBackup();
    await acme.answers();
    await acme.anotherBackup(before);
    const [own, aside] = await acme.client.list();
    expect(own?.name).toBe("acme");
    expect(own?.backups).toHaveLength(1);
    expect(aside?.name).toBe(`acme-${system}`);
    expect(aside?.backups.map(({ id }) => id)).toEqual(before);
    expect(aside?.retired?.retention).toBe(7);
    expect(await acme.client.deleteExpired()).toEqual([]);
  });

  test("of a tenant that is removed has all, drops the slot and notes the time; the volume can be read alone", async () => {
    await acme.query("CREATE TABLE written (step text)");
    await acme.client.retire(7);
    expect(await acme.query("SELECT count(*) FROM pg_replication_slots")).toBe("0");
    await acme.backup.remove({ force: true });
    const volume = { image: images.barman, volume: `${acme.name}--backup`, tenant: "acme", stack: prefix };
    const { status, sets } = await withBackupVolume(docker, volume, async (client) => ({
      status: await client.status(),
      sets: await client.list(),
    }));
    expect(status).toMatchObject({ behind: null, retired: { retention: 7 } });
    expect(sets[0]?.backups).toHaveLength(1);
    expect(await docker.listContainers({ all: true, filters: { volume: [`${acme.name}--backup`] } })).toEqual(
      [],
    );
  });

  test("of a tenant that is back goes on with a new base backup", async () => {
    await acme.startBackup();
    await eventually(120, async () => expect(await acme.ids()).toHaveLength(2));
    // The supervisor notes it a moment after the base backup is in the catalogue.
    await eventually(90, async () => {
      expect(await acme.client.status()).toMatchObject({ retired: null, due: false });
    });
  });
});

describe("a tenant that answers in its server's place", () => {
  const mallory = new Tenant("mallory");
  const neighbour = new Tenant("neighbour");
  const relay = `${mallory.name}-relay`;
  /** Where a program would find it, with what it would do. */
  const planted = "import os; os.system('touch /tmp/pwned /var/lib/barman/pwned')";
  const hook = "touch /tmp/pwned /var/lib/barman/pwned";

  beforeAll(async () => {
    for (const one of [mallory, neighbour]) await one.remove();
    await neighbour.startServer();
    await neighbour.startBackup();
    await mallory.startServer("/var/lib/postgresql/.real");
    for (const one of [mallory, neighbour]) await one.answers();
    await neighbour.anotherBackup([]);
    await docker.createVolume({ Name: relay });
    const container = await docker.createContainer({
      name: relay,
      Image: images.barman,
      Entrypoint: ["python3", "-c", readFileSync("test/e2e/support/relay.py", "utf8"), "/tmp/plan.json"],
      HostConfig: {
        ...hardened,
        NetworkMode: "none",
        Binds: [`${mallory.name}:/var/lib/postgresql`],
        Tmpfs: { "/tmp": "" },
      },
    });
    await container.start();
    await plan("/tmp", {});
  });
  afterAll(async () => {
    for (const one of [mallory, neighbour]) await one.remove();
    await run("docker", ["volume", "rm", "--force", relay]);
  });

  async function plan(location: string, files: Record<string, string>, archive = "evil.tar"): Promise<void> {
    await planAll({ location, files, archive });
  }

  async function planAll(all: object): Promise<void> {
    const content = JSON.stringify({ location: "/tmp", files: {}, archive: "evil.tar", ...all });
    const write = ["exec", "--interactive", relay, "sh", "-c", "cat >/tmp/plan.json"];
    await succeed("docker", write, { stdin: content });
  }

  test("writes where its own backups are, and nothing there runs it", async () => {
    const site = ".local/lib/python3.11/site-packages";
    await plan("/var/lib/barman", {
      [`${site}/evil.pth`]: planted,
      [`${site}/usercustomize.py`]: planted,
      "barman/__init__.py": planted,
      "pgs_backup/__init__.py": planted,
      "json.py": planted,
      "sitecustomize.py": planted,
      ".psqlrc": `\\! ${hook}`,
      ".barman.conf": `[barman]\npre_backup_script = ${hook}\n`,
      ".barman.auto.conf": `[tenant-mallory]\npre_backup_script = ${hook}\n`,
      "tenant-mallory/.barman.auto.conf": `[tenant-mallory]\npre_archive_script = ${hook}\n`,
      "servers.d/x.conf": `[tenant-mallory]\npost_backup_script = ${hook}\n`,
      ".pgpass": "*:*:*:*:x",
      ".pg_service.conf": "[x]\n",
      "bin/psql": `#!/bin/sh\n${hook}\n`,
      "retired.json.new": "x",
      "identity.json": "}{",
    });
    await mallory.startBackup();
    await mallory.anotherBackup([]);
    // The attack itself has worked: this is not a test of something that was refused.
    expect(await mallory.inBackup(`cat /var/lib/barman/${site}/evil.pth`)).toBe(planted);
    await succeed("docker", ["restart", mallory.backup.id]);
    await mallory.allIsReceived();
    await plan("/tmp", {});
    await mallory.client.archive({ mark: true });
    await mallory.makeBackup();
    await mallory.client.list();
    expect(await mallory.inBackup("ls -d /tmp/pwned /var/lib/barman/pwned 2>/dev/null")).toBe("");
  });

  test("writes to /tmp of this container, and nothing there runs it", async () => {
    await plan("/tmp", { "json.py": planted, "barman.conf": hook, "x/psql": `#!/bin/sh\n${hook}\n` });
    await mallory.makeBackup();
    expect(await mallory.inBackup("cat /tmp/json.py")).toBe(planted);
    expect(await mallory.inBackup("chmod 755 /tmp/x/psql; /tmp/x/psql")).toContain("Permission denied");
    await mallory.client.archive();
    await mallory.client.status();
    expect(await mallory.inBackup("ls -d /tmp/pwned /var/lib/barman/pwned 2>/dev/null")).toBe("");
  });

  test.each([
    ["the programs", "/usr/lib/python3/dist-packages"],
    ["the commands", "/usr/local/bin"],
    ["the configuration of the system", "/etc"],
    ["the tenant's own data", "/var/lib/postgresql"],
    ["a process", "/proc/1"],
    ["a relative name", "../../../usr/local/bin"],
  ])("cannot write to %s: the base backup fails, and leaves nothing", async (_, location) => {
    const before = await mallory.ids();
    await plan(location, { mem: hook, "evil.pth": planted });
    await expect(mallory.makeBackup()).rejects.toThrow(/cannot make a base backup/);
    expect(await mallory.ids()).toEqual(before);
    expect(await mallory.inBackup("ls /var/lib/barman/tenant-mallory/base")).toBe(before.join("\n"));
  });

  test("and after all of them the next base backup is made", async () => {
    const before = await mallory.ids();
    await plan("/tmp", {});
    expect(before).not.toContain(await mallory.makeBackup());
  });

  test.each(["../evil.tar", "/evil.tar", ".", "a/../b"])("cannot name an archive %s", async (archive) => {
    await plan("/tmp", { x: "x" }, archive);
    await expect(mallory.makeBackup()).rejects.toThrow(/cannot make a base backup/);
  });

  test("links in an archive lead nowhere else: neither when they are written, nor measured, nor deleted", async () => {
    const wals = "/var/lib/barman/tenant-mallory/wals";
    const before = await mallory.inBackup(`ls ${wals}/*/`);
    await planAll({ location: "", links: { out: "/usr/local/bin" }, files: { "out/evil": hook } });
    await expect(mallory.makeBackup()).rejects.toThrow(/cannot make a base backup/);
    expect(await mallory.inBackup("ls /usr/local/bin/evil")).toContain("No such file");
    const links = { wals, loop: ".", root: "/", process: "/proc/1/root", data: "/var/lib/postgresql" };
    await planAll({ location: "", links });
    const made = await mallory.makeBackup();
    const home = `/var/lib/barman/tenant-mallory/base/${made}`;
    expect(await mallory.inBackup(`readlink ${home}/data/wals`)).toBe(wals);
    expect((await mallory.client.status()).size).toBeLessThan(2 ** 30);
    await planAll({});
    await mallory.makeBackup();
    const deleted = `pgs-backup barman --tenant mallory --name mallory -- delete tenant-mallory ${made}`;
    await mallory.inBackup(deleted);
    expect(await mallory.ids()).not.toContain(made);
    expect(await mallory.inBackup(`ls ${wals}/*/`)).toContain(before.split("\n").at(-1));
    expect(await mallory.query("SELECT count(*) > 0 FROM pg_class")).toBe("t");
  });

  test("a label larger than the container's memory costs this base backup, and nothing is left of it", async () => {
    const before = await mallory.ids();
    const { StartedAt } = (await mallory.backup.inspect()).State;
    await planAll({ location: "", zeros: { backup_label: 700 << 20 }, after: true });
    await expect(mallory.makeBackup(240)).rejects.toThrow(/backups of mallory: /);
    await planAll({});
    await eventually(120, async () => expect(before).not.toContain(await mallory.makeBackup()));
    expect((await mallory.backup.inspect()).State).toMatchObject({ Running: true, StartedAt });
    const left = await mallory.inBackup("find /var/lib/barman -size +600M");
    expect(left).toBe("");
    await mallory.allIsReceived();
  });

  test.each([
    ["into its own folder", ""],
    ["beside it", "/var/lib/barman"],
  ])("a stream without end %s is ended, and what it wrote is removed", async (_, location) => {
    const before = await mallory.ids();
    const others = await neighbour.ids();
    await planAll({ location, endless: true });
    const flooded = mallory.makeBackup(240).catch((error: Error) => error.message);
    await neighbour.query("CREATE TABLE IF NOT EXISTS written (n int); INSERT INTO written VALUES (1)");
    await neighbour.allIsReceived();
    expect(await flooded).toMatch(/the server sends more than twice/);
    await planAll({});
    expect(await neighbour.ids()).toEqual(others);
    expect(await neighbour.client.status()).toMatchObject({ problem: null });
    await neighbour.allIsReceived();
    expect(await mallory.ids()).toEqual(before);
    expect(await mallory.inBackup("ls /var/lib/barman/tenant-mallory/base")).toBe(before.join("\n"));
    expect(await mallory.inBackup("find /var/lib/barman -name 'endless*'")).toBe("");
    expect(before).not.toContain(await mallory.makeBackup());
  });

  test("answers for itself alone: odd notes and records are data", async () => {
    await plan("/var/lib/barman", {
      "due.json": "[".repeat(100_000),
      "identity.json": JSON.stringify({ system: "../../x", volume: "\u001b[2J" }),
      "settings.json": JSON.stringify({ retention: -1 }),
      "tenant-mallory-1/meta/20260101T000000-backup.info": "status=DONE\nversion=999999999999\nsize=-1\n",
      "tenant-mallory-2/meta/20260101T000001-backup.info": `status=DONE\nlabel=${"x".repeat(3 << 20)}\n`,
    });
    await mallory.makeBackup();
    const sets = await mallory.client.list();
    expect(sets.map(({ name }) => name)).toEqual(["mallory", "mallory-1", "mallory-2"]);
    expect(sets[2]?.backups).toEqual([]);
    await mallory.client.status();
  });
});
