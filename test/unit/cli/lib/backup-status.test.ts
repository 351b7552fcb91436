import { describe, expect, it, onTestFinished, vi } from "vitest";
import { type BackupStatus, problemOf } from "../../../../cli/lib/backup-status";
import { backupsTable } from "../../../../cli/lib/tenants-table";

describe("a tenant's backups", () => {
  const now = 1_800_000_000;
  const hours = 3600;
  const tried = { at: now - 3 * 24 * hours, seconds: 4.2, ok: true, backup: "20261123T023000", reason: "" };
  const good: BackupStatus = {
    tenant: "acme",
    owner: "acme",
    state: "running",
    since: now - 30 * 24 * hours,
    base: now - 20 * hours,
    due: false,
    wal: now - 9 * hours,
    behind: 0,
    size: 1,
    left: null,
    tried,
    s3: null,
    failure: null,
  };
  const copied = { base: now - 6 * 24 * hours, wal: now - 4, waiting: 0 };
  const old = { ...tried, at: now - 9 * 24 * hours };
  const failed = { ...tried, ok: false, reason: "the WAL has a gap" };

  it.each<[Partial<BackupStatus>, string | undefined]>([
    [{}, undefined],
    [{ behind: 5_000_000, wal: now - 2 }, undefined],
    [{ behind: 5_000_000 }, "its WAL is behind"],
    [{ behind: null }, "no WAL is received"],
    [{ base: 0 }, "no base backup yet"],
    [{ due: true }, "no base backup yet since its WAL was interrupted"],
    [{ base: 0, due: true }, "no base backup yet"],
    [{ base: now - 30 * hours }, "the base backup is old"],
    [{ tried: null }, "no restore was tried for 30 days"],
    [{ tried: null, since: now - 2 * 24 * hours }, undefined],
    [{ tried: null, since: 0, base: 0 }, "no base backup yet"],
    [{ tried: old }, "no restore was tried for 9 days"],
    [{ tried: failed }, "a restore was tried and failed: the WAL has a gap"],
    [{ failure: "its disk is full" }, "its disk is full"],
    [{ behind: null, base: 0 }, "no WAL is received; no base backup yet"],
    [{ state: "stopped", behind: null, base: now - 300 * hours, tried: old }, undefined],
    [{ state: "stopped", behind: null, tried: failed }, "a restore was tried and failed: the WAL has a gap"],
    [{ s3: copied }, undefined],
    [{ s3: { ...copied, base: 0 } }, "no new base backup at the destination"],
    [{ s3: { ...copied, wal: now - 1 * hours, waiting: 3 } }, "WAL does not get to the destination"],
    [{ s3: { base: 0, wal: 0, waiting: 3 }, since: now - 60, tried: null }, undefined],
    [{ state: "removed", behind: null, base: 0, tried: failed }, undefined],
  ])("that differ by %o from good ones have the problem %s", (difference, problem) => {
    expect(problemOf({ ...good, ...difference }, now)).toBe(problem);
  });

  it("are a table with what would be lost, what is kept for how long, and what is wrong", () => {
    vi.useFakeTimers({ now: now * 1000 });
    onTestFinished(() => void vi.useRealTimers());
    const judged = [
      { ...good, exposed: 0, problem: null, pending: null },
      {
        ...good,
        tenant: "globex",
        behind: 4096,
        exposed: 2,
        tried: null,
        problem: "the base backup is old",
        pending: null,
      },
      {
        ...good,
        tenant: "gone",
        state: "removed" as const,
        behind: null,
        left: 1500,
        exposed: null,
        problem: null,
        pending: null,
      },
    ];
    expect(backupsTable(judged).split("\n")).toEqual([
      "TENANT  BASE BACKUP  WAL                     SIZE  TRIED RESTORE  PROBLEM",
      "acme    20h ago      all there                 1B  3d ago, in 5s",
      "globex  20h ago      2s, 4Ki behind            1B  -              the base backup is old",
      "gone    20h ago      removed, kept for 1d1h    1B  3d ago, in 5s",
    ]);
  });

  it("are a table with what the copy off the host lacks, where there is one", () => {
    vi.useFakeTimers({ now: now * 1000 });
    onTestFinished(() => void vi.useRealTimers());
    const judged = [
      { s3: copied },
      { s3: copied, wal: copied.wal },
      { s3: { ...copied, waiting: 2 } },
      { s3: { base: 0, wal: 0, waiting: 0 } },
      { s3: null },
    ].map((difference) => ({ ...good, exposed: 0, problem: null, pending: null, ...difference }));
    const [title, ...cells] = backupsTable(judged)
      .split("\n")
      .map((line) => line.slice(32, 46).trim());
    expect(title).toBe("AT S3");
    expect(cells).toEqual(["all there", "until 4s ago", "until 4s ago", "no base backup", "-"]);
  });
});
