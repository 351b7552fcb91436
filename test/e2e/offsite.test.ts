import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { Checkout, removeLeftovers } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { bySql } from "./support/inside";
import { accessKeyId, S3Server, secretAccessKey } from "./support/s3";

const bucket = "off-site";
let checkout: Checkout;
let s3: S3Server;

const barman = () => checkout.name("-backups");

beforeAll(async () => {
  checkout = await Checkout.create(file({ acme: {}, globex: {} }));
  s3 = await S3Server.start(checkout.folder, bucket);
  await configure("schedule", "02:30");
  await configure("destination", `s3://${bucket}/of/pgs`);
  await configure("endpoint", `http://${await hostAddress()}:${s3.port}`);
  await credential("accessKeyId", accessKeyId);
});
afterAll(async () => {
  await checkout?.remove();
  s3?.stop();
});

describe("a destination", () => {
  test("whose credentials are wrong ends the up, and nothing of them is printed", async () => {
    await credential("accessKeyId", "somebody-else");
    await credential("secretAccessKey", secretAccessKey);
    const { code, output } = await checkout.tryUp();
    expect(code).not.toBe(0);
    expect(output).toMatch(
      /destination s3:\/\/off-site\/of\/pgs at http\S+ cannot be used: .*(403|InvalidAccessKeyId)/,
    );
    expect(output).not.toContain(secretAccessKey);
    await credential("accessKeyId", accessKeyId);
  });

  test("gets each tenant's base backup and WAL, which the server is asked to encrypt", async () => {
    await checkout.up();
    await checkout.query("acme", "CREATE TABLE written AS SELECT generate_series(1, 1000) AS n");
    for (const id of ["acme", "globex"]) {
      await eventually(90, async () => {
        await fileWal(id);
        const keys = await s3.list(bucket, `of/pgs/tenant-${id}/`);
        expect(
          keys.filter((key) => /\/base\/\d{8}T\d{6}\/(data\.tar\.lz4|backup\.info)$/.test(key)),
        ).toHaveLength(2);
        expect(keys.filter((key) => /\/wals\/[0-9A-F]{16}\/[0-9A-F]{24}\.lz4$/.test(key))).not.toEqual([]);
      });
    }
    for (const key of await s3.list(bucket, "of/pgs/")) {
      expect(await s3.encryption(bucket, key), key).toBe("AES256");
    }
  });

  test("is known by secrets that are in no environment, argument, label or log", async () => {
    expect(await succeed("docker", ["inspect", barman()])).not.toContain(secretAccessKey);
    expect((await run("docker", ["logs", barman()])).output).not.toContain(secretAccessKey);
    const processes = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '";
    expect(await succeed("docker", ["exec", barman(), "bash", "-c", processes])).not.toContain(
      secretAccessKey,
    );
    expect(await checkout.pulumi("stack", "export")).not.toContain(secretAccessKey);
  });

  test("is a way out for Barman alone", async () => {
    const target = `/dev/tcp/${await hostAddress()}/${s3.port}`;
    expect(
      await bySql(checkout, "acme", `timeout 5 bash -c '<${target}' && echo open || echo closed`),
    ).toContain("closed");
    await succeed("docker", ["exec", barman(), "bash", "-c", `timeout 5 bash -c '<${target}'`]);
  });

  test("that is away stops no backup on the host, and gets what is missing when it is back", async () => {
    s3.away = true;
    await checkout.query("globex", "CREATE TABLE kept AS SELECT 1 AS n; SELECT pg_switch_wal()");
    await eventually(90, async () => {
      await fileWal("globex");
      const { behind, s3: copy } = await status("globex");
      expect(behind).toBe(0);
      expect(copy?.waiting).toBeGreaterThan(0);
    });
    s3.away = false;
    await eventually(60, async () => expect((await status("globex")).s3?.waiting).toBe(0));
  });
});

describe("when the host is gone", () => {
  const passwords: Record<string, string> = {};

  beforeAll(async () => {
    // The clock of the servers is this one.
    const at = new Date().toISOString();
    await checkout.query("acme", "INSERT INTO written VALUES (1001)");
    const written = Math.ceil(Date.now() / 1000);
    for (const id of ["acme", "globex"]) {
      passwords[id] = await checkout.password(id);
      // Not by a full segment: what is in one that is being filled arrives as well.
      await eventually(120, async () => expect((await status(id)).s3?.wal).toBeGreaterThan(written));
    }
    console.log(`a row was at S3 ${Math.round(Date.now() / 1000 - written)} s after its commit`);
    // Another machine: nothing of the stack is on it.
    await removeLeftovers(checkout.prefix);
    await makeVolumes();
    await checkout.apply(
      file({
        acme: { restoreFrom: { tenant: "acme" } },
        globex: { restoreFrom: { tenant: "globex" } },
        "acme-then": { restoreFrom: { tenant: "acme", at } },
      }),
    );
  });

  test("every tenant is back from the bucket, with its rows and its password", async () => {
    const [row] = await checkout.query("acme", "SELECT count(*)::int AS rows, max(n) AS newest FROM written");
    expect(row).toEqual({ rows: 1001, newest: 1001 });
    expect(await checkout.query("globex", "SELECT n FROM kept")).toEqual([{ n: 1 }]);
    for (const id of ["acme", "globex"]) expect(await checkout.password(id)).toBe(passwords[id]);
  });

  test("a time is restored from there as well", async () => {
    expect(await checkout.query("acme-then", "SELECT max(n) AS newest FROM written")).toEqual([
      { newest: 1000 },
    ]);
  });

  test("its backups go on, at the host and in the bucket, and write over nothing there", async () => {
    await eventually(90, async () => {
      await fileWal("acme");
      expect((await status("acme")).base).toBeGreaterThan(0);
      expect((await status("acme")).s3?.base).toBeGreaterThan(0);
      const archives = (await s3.list(bucket, "of/pgs/tenant-acme/")).map((key) => key.split("/")[3]);
      expect(new Set(archives).size).toBe(2);
    });
    await checkout.up("--expect-no-changes");
  });
});

function file(entries: Record<string, object>): string {
  return stringify({ defaults: { memory: "256Mi" }, tenants: entries });
}

function configure(key: string, value: string): Promise<string> {
  return checkout.pulumi("config", "set", "--path", `pgs:backups.${key}`, value);
}

function credential(key: string, value: string): Promise<string> {
  return checkout.pulumi("config", "set", "--secret", "--path", `pgs:backupCredentials.${key}`, value);
}

/** Of the host, where every container with a way out reaches it. */
async function hostAddress(): Promise<string> {
  const gateway = "{{(index .IPAM.Config 0).Gateway}}";
  return (await succeed("docker", ["network", "inspect", "bridge", "--format", gateway])).trim();
}

/** An up makes nothing in the place of a volume that is lost (docs/disaster.md). */
async function makeVolumes(): Promise<void> {
  for (const id of ["acme", "globex", "proxy", "-backups"]) {
    await succeed("docker", ["volume", "create", "--label", "pgs.version=18", checkout.name(id)]);
  }
}

/** As Barman does each minute. */
async function fileWal(id: string): Promise<void> {
  await run("docker", ["exec", barman(), "barman", "-q", "archive-wal", `tenant-${id}`]);
  await run("docker", ["exec", barman(), "barman", "-q", "check-backup", `tenant-${id}`, "latest"]);
}

interface Status {
  base: number;
  behind: number | null;
  s3: { base: number; wal: number; waiting: number } | null;
}

async function status(id: string): Promise<Status> {
  const lines = (await succeed("docker", ["exec", barman(), "pgs-backups", "status"])).trim().split("\n");
  const all = lines.map((line) => JSON.parse(line) as Status & { tenant: string });
  const found = all.find(({ tenant }) => tenant === id);
  if (!found) throw new Error(`no status of ${id}`);
  return found;
}
