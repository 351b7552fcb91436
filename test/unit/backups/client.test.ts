import { PassThrough } from "node:stream";
import type Docker from "dockerode";
import { describe, expect, it } from "vitest";
import { BackupClient, BackupError, backupContainer } from "../../../backups/client";
import { createOptions } from "../../../provider/container/reconcile";

const wellStatus = {
  since: 1795000000,
  base: 1795003600,
  due: false,
  wal: 1795007200,
  behind: 0,
  size: 40_000_000,
  retired: null,
  problem: null,
  aside: [],
};

/** A container that answers each command with these bytes. */
function answering(stdout: string, stderr = "", code = 0) {
  const commands: string[][] = [];
  const container = {
    async exec({ Cmd }: Docker.ExecCreateOptions) {
      commands.push((Cmd ?? []).slice(4));
      const stream = new PassThrough();
      return {
        start: async () => {
          setImmediate(() => stream.end());
          stream.resume();
          return stream;
        },
        inspect: async () => ({ ExitCode: code }),
      };
    },
    modem: {
      demuxStream(_: unknown, out: NodeJS.WritableStream, err: NodeJS.WritableStream) {
        out.write(Buffer.from(stdout));
        err.write(Buffer.from(stderr));
      },
    },
  };
  return { client: new BackupClient(container as unknown as Docker.Container, "acme"), commands };
}

describe("the client of a tenant's backups", () => {
  it("asks by a verb with the tenant's id, and gives what the answer says", async () => {
    const { client, commands } = answering(JSON.stringify(wellStatus));
    expect(await client.status()).toEqual(wellStatus);
    expect(commands).toEqual([["pgs-backup", "status", "--tenant", "acme"]]);
  });

  it("drops fields that it does not know", async () => {
    const { client } = answering(JSON.stringify({ ...wellStatus, more: "x" }));
    expect(await client.status()).toEqual(wellStatus);
  });

  it.each([
    ["no JSON", "}{", /backups of acme: the answer is not JSON/],
    ["an empty answer", "", /backups of acme: the answer is not JSON/],
    ["another type", JSON.stringify({ ...wellStatus, size: "big" }), /not understood: size/],
    ["a negative number", JSON.stringify({ ...wellStatus, behind: -1 }), /not understood: behind/],
    ["a number that is none", `{"size": 1e999}`, /not understood/],
    ["a list", "[]", /not understood/],
    ["an error", `{"error": "the disk is full"}`, /^backups of acme: the disk is full$/],
  ])("makes %s an error of this tenant", async (_, stdout, message) => {
    const failure = answering(stdout).client.status();
    await expect(failure).rejects.toThrow(BackupError);
    await expect(failure).rejects.toThrow(message);
  });

  it("shows no control character of an answer", async () => {
    const { client } = answering(JSON.stringify({ error: "\u001b]0;title\u0007\u001b[2J gone" }));
    await expect(client.list()).rejects.toThrow("backups of acme: \\u001b]0;title\\u0007\\u001b[2J gone");
  });

  it("takes no name for backups that could be a path or an option", async () => {
    for (const name of ["../acme", "-rf", "acme/x", "acme\n"]) {
      const { client } = answering(JSON.stringify({ sets: [{ name, retired: null, backups: [] }] }));
      await expect(client.list(), name).rejects.toThrow(/not understood: sets.0.name/);
    }
  });

  it("hands the data's identity, the retention and a timeline over as arguments", async () => {
    const { client, commands } = answering(JSON.stringify({ aside: "acme-7412000000000000000" }));
    const data = { systemId: "7412000000000000001", volumeId: "0b0e1a52-6a5c-4a3a-8a50-3c1f6f2b8a01" };
    expect(await client.adopt(data)).toBe("acme-7412000000000000000");
    await client.retire(7);
    await client.archive({ mark: true });
    await client.adoptTimeline("00000002", "1\t0/3000000\tno recovery target specified\n");
    expect(commands).toEqual([
      ["pgs-backup", "adopt", "--tenant", "acme", "--system-id", data.systemId, "--volume-id", data.volumeId],
      ["pgs-backup", "retire", "--tenant", "acme", "--retention", "7"],
      ["pgs-backup", "archive", "--tenant", "acme", "--mark"],
      ["pgs-backup", "adopt-timeline", "--tenant", "acme", "--timeline", "00000002"],
    ]);
  });
});

describe("the container of a tenant's backups", () => {
  const { options, mounts, limits } = backupContainer({
    tenant: "acme",
    serverVolume: "pgs-acme",
    backupVolume: "pgs-acme--backup",
    schedule: "02:30",
    retention: 7,
  });

  it("has a command that can be read, and the tenant's data read-only", () => {
    expect(options.Entrypoint).toEqual(["pgs-backup"]);
    expect(options.Cmd?.join(" ")).toBe("run --tenant acme --schedule 02:30 --retention 7");
    expect(mounts).toEqual([
      { volume: "pgs-acme", path: "/var/lib/postgresql", readOnly: true },
      { volume: "pgs-acme--backup", path: "/var/lib/barman", backupsOf: "acme" },
    ]);
  });

  it("has no network, little memory, few processes, and comes after the servers for the processors", () => {
    const spec = {
      name: "pgs-acme--backup",
      stack: "dev-1",
      role: "backup",
      image: "pgs-barman:1",
      imageId: "sha256:1",
    };
    const { HostConfig } = createOptions(
      { ...spec, stopSeconds: 30, options, mounts, limits },
      "pgs-barman:1",
    );
    expect(HostConfig).toMatchObject({
      NetworkMode: "none",
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      Memory: 512 << 20,
      MemorySwap: 512 << 20,
      PidsLimit: 256,
      CpuShares: 64,
    });
  });
});
