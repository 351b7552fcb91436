import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { blocksOf, commandsOf } from "../unit/support/docs";
import { makeBaseBackup } from "./support/base-backup";
import { Checkout, removeLeftovers } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { anonymousVolumes, bySql } from "./support/inside";
import { accessKeyId, S3Server, secretAccessKey } from "./support/s3";

const bucket = "off-site";
let checkout: Checkout;
let s3: S3Server;

const offsite = () => checkout.name("-offsite");
const backup = (id: string) => checkout.name(`${id}--backup`);

beforeAll(async () => {
  s3 = await S3Server.start(bucket);
  checkout = await createWithDestination({ acme: {}, globex: {}, hooli: {} });
});
afterAll(async () => {
  await checkout?.remove();
  s3?.stop();
});

describe("a destination", () => {
  test("whose credentials are wrong ends the up, and nothing of them is printed", async () => {
    await setCredentials(checkout, "somebody-else");
    const { code, output } = await checkout.tryUp();
    expect(code).not.toBe(0);
    expect(output).toMatch(
      /destination s3:\/\/off-site\/of\/pgs at http\S+ cannot be used: .*(403|InvalidAccessKeyId)/,
    );
    expect(output).not.toContain(secretAccessKey);
    await setCredentials(checkout);
  });

  test("gets each tenant's base backup and WAL, which the server is asked to encrypt", async () => {
    await checkout.up();
    await checkout.query("acme", "CREATE TABLE written AS SELECT generate_series(1, 1000) AS n");
    for (const id of ["acme", "globex"]) {
      await eventually(240, async () => {
        await fileWal(id);
        const keys = await s3.list(bucket, `of/pgs/tenant-${id}/`);
        expect(await basesOf(id)).toHaveLength(2);
        expect(keys.filter((key) => /\/wals\/[0-9A-F]{16}\/[0-9A-F]{24}\.lz4$/.test(key))).not.toEqual([]);
      });
    }
    for (const key of await s3.list(bucket, "of/pgs/")) {
      expect(await s3.encryption(bucket, key), key).toBe("AES256");
    }
  });

  test("is known by secrets that are in no environment, argument, label or log, and in no tenant's container", async () => {
    expect(await succeed("docker", ["inspect", offsite()])).not.toContain(secretAccessKey);
    expect((await run("docker", ["logs", offsite()])).output).not.toContain(secretAccessKey);
    const processes = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '";
    expect(await succeed("docker", ["exec", offsite(), "bash", "-c", processes])).not.toContain(
      secretAccessKey,
    );
    expect(await checkout.pulumi("stack", "export")).not.toContain(secretAccessKey);
    const mounts = await succeed("docker", ["inspect", "--format", "{{json .Mounts}}", backup("acme")]);
    expect(mounts).not.toContain(offsite());
  });

  test("is a way out for what copies alone, which reads the tenants' backups and cannot write to them", async () => {
    const target = `/dev/tcp/${await hostAddress()}/${s3.port}`;
    expect(
      await bySql(checkout, "acme", `timeout 5 bash -c '<${target}' && echo open || echo closed`),
    ).toContain("closed");
    await succeed("docker", ["exec", offsite(), "bash", "-c", `timeout 5 bash -c '<${target}'`]);
    const network = ["inspect", "--format", "{{.HostConfig.NetworkMode}}", backup("acme")];
    expect((await succeed("docker", network)).trim()).toBe("none");
    const written = await run("docker", ["exec", offsite(), "touch", "/backups/acme/written"]);
    expect(written.output).toContain("Read-only file system");
    expect(await anonymousVolumes(checkout)).toEqual([]);
  });

  test("that is away stops no backup on the host, and gets what is missing when it is back", async () => {
    s3.away = true;
    await checkout.query("globex", "CREATE TABLE kept AS SELECT 1 AS n; SELECT pg_switch_wal()");
    await eventually(240, async () => {
      await fileWal("globex");
      const { behind, s3: copy } = await status("globex");
      expect(behind).toBe(0);
      expect(copy?.waiting).toBeGreaterThan(0);
    });
    s3.away = false;
    await eventually(240, async () => expect((await status("globex")).s3?.waiting).toBe(0));
  });
});

/** When there was a row of that number, by the server's clock. */
const times: Record<number, string> = {};
/** A segment of WAL of globex that is taken away from the bucket. */
let missing: string;
/** The base backup that was made after the restore in place. */
let later: string[];
/** When the last row was written, in seconds since 1970. */
let written: number;

async function write(id: string, n: number): Promise<void> {
  await checkout.query(id, `INSERT INTO written VALUES (${n})`);
  const [{ at } = {}] = await checkout.query(id, "SELECT clock_timestamp() AS at");
  times[n] = new Date((at as Date).getTime() + 1).toISOString();
  await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Acme with a restore in place in between, and globex with several base backups. */
async function writeOn(): Promise<void> {
  await checkout.query("globex", "CREATE TABLE written (n int)");
  await write("acme", 1001);
  await write("acme", 1002);
  const before = await basesOf("acme");
  const command = ["restore", "acme", "--at", times[1001] ?? "", "--yes"];
  const restored = await run("./pgs", command, checkout.options());
  expect(restored.code, restored.output).toBe(0);
  checkout.forgetOutputs();
  await write("acme", 2001);
  await eventually(240, async () => {
    await fileWal("acme");
    later = (await basesOf("acme")).filter((key) => !before.includes(key));
    expect(later).toHaveLength(2);
  });
  await write("acme", 2002);
  await write("acme", 2003);
  for (const n of [1, 2]) await write("globex", n);
  await checkout.query("globex", "SELECT pg_switch_wal()");
  for (const n of [3, 4]) await write("globex", n);
  const [row] = await checkout.query("globex", "SELECT pg_walfile_name(pg_switch_wal()) AS segment");
  missing = row?.segment as string;
  for (const n of [5, 6]) await write("globex", n);
  const first = await basesOf("globex");
  await makeBaseBackup(checkout, "globex");
  await eventually(240, async () => {
    await fileWal("globex");
    expect((await basesOf("globex")).length).toBeGreaterThan(first.length);
  });
  for (const n of [7, 8]) await write("globex", n);
  written = Math.ceil(Date.now() / 1000);
}

describe("a tenant that moves to another host", () => {
  let other: Checkout;

  beforeAll(async () => {
    await checkout.query("hooli", "CREATE TABLE written AS SELECT 1 AS n");
    await eventually(240, async () => expect(await basesOf("hooli")).toHaveLength(2));
    await checkout.query("hooli", "INSERT INTO written VALUES (2)");
    await follow("./pgs disable-access acme", checkout, "hooli");
    // WAL that fills no segment is copied once a minute: others go on meanwhile.
    other = await createWithDestination({ initech: {} });
    await Promise.all([other.up(), writeOn()]);
  });
  afterAll(() => other?.remove());

  test("has its rows there, and is kept where it was until somebody deletes it", async () => {
    await eventually(240, async () => {
      const { wal, s3: copy } = await status("hooli");
      expect(copy?.wal).toBeGreaterThan(wal);
    });
    const { stdout } = await run("./pgs", ["backups"], checkout.options());
    expect(stdout).toMatch(/^hooli .* all there /m);
    await follow("./pgs create acme", other, "hooli");
    expect(await other.query("hooli", "SELECT n FROM written ORDER BY n")).toEqual([{ n: 1 }, { n: 2 }]);
    await follow("./pgs remove acme", checkout, "hooli");
    await succeed("docker", ["volume", "inspect", checkout.name("hooli")]);
    expect(await other.query("hooli", "SELECT count(*)::int AS rows FROM written")).toEqual([{ rows: 2 }]);
  });
});

describe("when the host is gone", () => {
  /** Of the tenants that were there. */
  let entries: Record<string, object>;
  const passwords: Record<string, string> = {};
  const applyWith = (copies: Record<string, object>, ...options: string[]) =>
    checkout.apply(file({ ...entries, ...copies }), ...options);

  beforeAll(async () => {
    for (const id of ["acme", "globex"]) {
      passwords[id] = await checkout.password(id);
      // Not by a full segment: what is in one that is being filled arrives as well.
      await eventually(240, async () => expect((await status(id)).s3?.wal).toBeGreaterThan(written));
    }
    // Another machine: nothing of the stack is on it.
    await removeLeftovers(checkout.prefix);
    expect((await checkout.tryUp()).code).not.toBe(0);
    await follow("docker volume create", checkout);
    await follow("for id in", checkout);
    entries = parse(readFileSync(join(checkout.folder, "tenants.yaml"), "utf8")).tenants;
    const copies = {
      "acme-left": { restoreFrom: { tenant: "acme", at: times[1002] } },
      "acme-after": { restoreFrom: { tenant: "acme", at: times[2002] } },
    };
    await applyWith(copies, "--refresh");
  });

  test("every tenant is back from the bucket, with its rows and its password", async () => {
    expect((await rowsOf("acme")).filter((n) => n <= 1000)).toHaveLength(1000);
    expect(await newRows("acme")).toEqual([1001, 2001, 2002, 2003]);
    expect(await checkout.query("globex", "SELECT n FROM kept")).toEqual([{ n: 1 }]);
    for (const id of ["acme", "globex"]) expect(await checkout.password(id)).toBe(passwords[id]);
  });

  test("times before and after a restore in place are restored from there as well", async () => {
    expect(await newRows("acme-left")).toEqual([1001, 1002]);
    expect(await newRows("acme-after")).toEqual([1001, 2001, 2002]);
  });

  test("so is the time after it from the base backup of before it, and an up tells how far it is", async () => {
    expect(later).toHaveLength(2);
    for (const key of later) await s3.remove(bucket, key);
    s3.delay = 12;
    const copies = { "acme-on": { restoreFrom: { tenant: "acme", at: times[2002] } } };
    const output = await applyWith(copies).finally(() => {
      s3.delay = 0;
    });
    expect(output).toMatch(/acme-on: fetching the base backup and its WAL from S3: \d+ MiB are here/);
    expect(await newRows("acme-on")).toEqual([1001, 2001, 2002]);
  });

  test("a time is refused where WAL before it is missing, or room on the disk, and no other", async () => {
    const keys = await s3.list(bucket, "of/pgs/tenant-globex/");
    const removed = keys.filter((key) => key.endsWith(`/${missing}.lz4`));
    expect(removed).toHaveLength(1);
    for (const key of removed) await s3.remove(bucket, key);
    const copies = {
      "globex-before": { restoreFrom: { tenant: "globex", at: times[1] } },
      "globex-after": { restoreFrom: { tenant: "globex", at: times[7] } },
    };
    // Without it, a recovery would go on with what acme has left at the restore in place.
    const begun = await s3.list(bucket, "of/pgs/tenant-acme/");
    for (const key of begun.filter((key) => /\/00000002[0-9A-F]{16}\.(partial\.)?lz4$/.test(key))) {
      await s3.remove(bucket, key);
    }
    const refused = {
      "globex-gap": { restoreFrom: { tenant: "globex", at: times[5] } },
      "acme-small": { restoreFrom: { tenant: "acme", at: times[1002] } },
      "acme-gap": { restoreFrom: { tenant: "acme", at: times[2002] } },
    };
    const disk = "--driver local --opt type=tmpfs --opt device=tmpfs --opt o=size=64m,uid=999";
    const small = ["--label", "pgs.version=18", ...disk.split(" "), checkout.name("acme-small")];
    await succeed("docker", ["volume", "create", ...small]);
    checkout.write("tenants.yaml", file({ ...entries, ...copies, ...refused }));
    const { code, output } = await checkout.tryUp();
    expect(code).not.toBe(0);
    const errors = errorsOf(output);
    expect(errors).toMatch(/into \S+-acme-small: it needs \d{3} MiB on the disk .*, and \d{2} MiB are free/);
    const gap = (segment: string) =>
      new RegExp(`the WAL of that time is missing: its last commit .* is of .*, and ${segment} is missing`);
    expect(errors).toMatch(gap(missing));
    expect(errors).toMatch(gap("00000002[0-9A-F]{16}"));
    await applyWith(copies);
    expect(await rowsOf("globex-before")).toEqual([1]);
    expect(await rowsOf("globex-after")).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  test("its backups go on, at the host and in the bucket, and write over nothing there", async () => {
    await eventually(240, async () => {
      await fileWal("acme");
      expect((await status("acme")).base).toBeGreaterThan(0);
      expect((await status("acme")).s3?.base).toBeGreaterThan(0);
      const archives = (await s3.list(bucket, "of/pgs/tenant-acme/")).map((key) => key.split("/")[3]);
      expect(new Set(archives).size).toBe(2);
    });
    await checkout.up("--expect-no-changes");
  });

  test("what cannot be read is named, and no older archive is taken for the end", async () => {
    const keys = await basesOf("acme");
    const archives = keys.map((key) => key.split("/")[3] ?? "").sort();
    const newest = keys.find((key) => key.includes(`/${archives.at(-1)}/`) && key.endsWith("/backup.info"));
    await s3.overwrite(bucket, newest ?? "", "no description");
    for (const key of await basesOf("globex")) {
      if (key.endsWith(".tar.lz4")) await s3.overwrite(bucket, key, "no data");
    }
    const refused = {
      unread: { restoreFrom: { tenant: "acme", at: times[1002] } },
      damaged: { restoreFrom: { tenant: "globex", at: times[1] } },
    };
    checkout.write("tenants.yaml", file({ ...entries, ...refused }));
    const { code, output } = await checkout.tryUp();
    expect(code).not.toBe(0);
    const errors = errorsOf(output);
    expect(errors).toMatch(/tenant-acme\/\S+\/backup\.info at s3:\/\/off-site\/of\/pgs cannot be read/);
    expect(errors).toMatch(/tenant-globex\/\S+\.tar\.lz4 at s3:\/\/off-site\/of\/pgs cannot be read: \S/);
  });
});

/** What an `up` ended with: more of its output would hide it in a failed test's message. */
function errorsOf(output: string): string {
  return output.slice(output.indexOf("Diagnostics:"), output.indexOf("Outputs:"));
}

async function rowsOf(id: string): Promise<number[]> {
  return (await checkout.query(id, "SELECT n FROM written ORDER BY n")).map(({ n }) => n as number);
}

/** Those that were written after the first thousand. */
async function newRows(id: string): Promise<number[]> {
  return (await rowsOf(id)).filter((n) => n > 1000);
}

/** The keys of a tenant's base backups in the bucket. */
async function basesOf(id: string): Promise<string[]> {
  const keys = await s3.list(bucket, `of/pgs/tenant-${id}/`);
  return keys.filter((key) => /\/base\/\d{8}T\d{6}\/(\S+\.tar\.lz4|backup\.info)$/.test(key));
}

function file(entries: Record<string, object>): string {
  return stringify({ defaults: { memory: "256Mi" }, tenants: entries });
}

async function createWithDestination(entries: Record<string, object>): Promise<Checkout> {
  const made = await Checkout.create(file(entries), {
    "backups.schedule": "02:30",
    "backups.destination": `s3://${bucket}/of/pgs`,
    "backups.endpoint": `http://${await hostAddress()}:${s3.port}`,
  });
  await setCredentials(made);
  return made;
}

async function setCredentials(on: Checkout, id = accessKeyId): Promise<void> {
  const secrets = { accessKeyId: id, secretAccessKey };
  const pairs = Object.entries(secrets).flatMap(([key, value]) => [
    "--secret",
    `pgs:backupCredentials.${key}=${value}`,
  ]);
  await on.pulumi("config", "set-all", "--path", ...pairs);
}

/** Of the host, where every container with a way out reaches it. */
async function hostAddress(): Promise<string> {
  const [{ IPAM }] = JSON.parse(await succeed("docker", ["network", "inspect", "bridge"]));
  const { Subnet, Gateway } = IPAM.Config[0];
  // An engine that was never started again does not tell it: then it is the first address.
  return Gateway ?? Subnet.replace(/\d+\/\d+$/, "1");
}

/** Runs the commands of docs/restore-drill.md that begin so, with another tenant's id and the names of that stack. */
async function follow(start: string, on: Checkout, id = "acme"): Promise<void> {
  const found = blocksOf("docs/restore-drill.md")
    .map(commandsOf)
    .find((commands) => commands.startsWith(start));
  const commands = (found ?? "false").replaceAll("pgs-", `${on.prefix}-`).replaceAll("acme", id);
  await succeed("bash", ["-euo", "pipefail", "-c", commands], on.options());
  on.forgetOutputs();
}

/** Now, and not as soon as a segment is complete. */
async function fileWal(id: string): Promise<void> {
  await run("docker", ["exec", backup(id), "pgs-backup", "archive", "--tenant", id, "--mark"]);
}

interface Status {
  base: number;
  wal: number;
  behind: number | null;
  s3: { base: number; wal: number; waiting: number } | null;
}

async function status(id: string): Promise<Status> {
  const { stdout } = await run("./pgs", ["backups", "--json"], checkout.options());
  const found = (JSON.parse(stdout) as (Status & { tenant: string })[]).find(({ tenant }) => tenant === id);
  if (!found) throw new Error(`no status of ${id}`);
  return found;
}
