import { describe, expect, it, onTestFinished, vi } from "vitest";
import { conninfo, dockerHostAddress } from "../../cli/address";
import { type BackupStatus, problemOf } from "../../cli/backups";
import { limitedUp } from "../../cli/limited-up";
import { loginHint } from "../../cli/login-hint";
import type { TenantSummary } from "../../cli/stack";
import { stateOf, type TenantStatus } from "../../cli/tenant-status";
import { backupsTable, outcomeTable, tenantsTable } from "../../cli/tenants-table";
import { parseTenants } from "../../tenants";

function tenant(fields: Partial<TenantSummary> = {}): TenantSummary {
  return {
    host: "localhost",
    port: 5432,
    database: "acme",
    user: "postgres",
    access: true,
    state: "running",
    tls: "terminate",
    version: 18,
    memory: 512 * 2 ** 20,
    cpus: 1,
    backup: { schedule: "off", retention: "7d" },
    ...fields,
  };
}

function status(fields: Partial<TenantStatus> = {}): TenantStatus {
  return {
    id: "acme",
    host: "acme.pgs.example.com",
    port: 5432,
    version: 18,
    access: true,
    state: "running",
    memory: { used: 84.2 * 2 ** 20, limit: 512 * 2 ** 20 },
    cpu: { used: 0.034, limit: 1 },
    size: 1.26 * 2 ** 30,
    connections: 3,
    maxConnections: 102,
    uptime: 3 * 86400 + 4 * 3600 + 59,
    ...fields,
  };
}

const stopped = status({
  id: "a-longer-id",
  access: false,
  state: "stopped",
  memory: { used: null, limit: 2 ** 30 },
  cpu: { used: null, limit: 0.5 },
  size: null,
  connections: null,
  maxConnections: null,
  uptime: null,
});

describe("the tenants' table", () => {
  it("has a line for each tenant, its columns as wide as what is in them", () => {
    expect(tenantsTable([status(), stopped]).split("\n")).toEqual([
      "TENANT       HOST                  ACCESS  STATE        MEMORY     CPU   SIZE  CONNECTIONS  UPTIME",
      "acme         acme.pgs.example.com  on      running  84Mi/512Mi  0.03/1  1.3Gi        3/102    3d4h",
      "a-longer-id  acme.pgs.example.com  off     stopped       -/1Gi   -/0.5      -          -/-       -",
    ]);
  });

  it("says after an up where each tenant is reached", () => {
    const { host, access, state } = status();
    const acme = { host, port: 5432, database: "acme", user: "postgres", access, state };
    const summary = { ...acme, version: 18, memory: 1, cpus: 1, tls: "terminate" };
    expect(outcomeTable({ acme: summary }).split("\n")).toEqual([
      "TENANT  HOST                  PORT  DATABASE  ACCESS  STATE",
      "acme    acme.pgs.example.com  5432  acme      on      running",
    ]);
    expect(outcomeTable({ acme: summary }, 52).split("\n")[0]).toBe(
      "TENANT  HOST                  PORT  ACCESS  STATE",
    );
  });

  it("is its heading when there is no tenant", () => {
    expect(tenantsTable([])).toBe("TENANT  HOST  ACCESS  STATE  MEMORY  CPU  SIZE  CONNECTIONS  UPTIME");
  });

  it.each([
    [90, "TENANT       HOST                  ACCESS  STATE        MEMORY   SIZE  CONNECTIONS  UPTIME"],
    [70, "TENANT       HOST                  ACCESS  STATE        MEMORY   SIZE"],
    [30, "TENANT       ACCESS  STATE"],
    [10, "TENANT       STATE"],
  ])("leaves out what a terminal of %d columns has no room for", (width, heading) => {
    expect(tenantsTable([status(), stopped], width).split("\n")[0]).toBe(heading);
  });
});

describe("a tenant's state", () => {
  const running = { state: "running" };
  it.each([
    [running, { State: "running", Status: "Up 2 hours (healthy)" }, true, "running"],
    [running, { State: "running", Status: "Up 2 seconds (health: starting)" }, true, "running"],
    [running, { State: "running", Status: "Up 2 seconds (health: starting)" }, false, "starting"],
    [running, { State: "running", Status: "Up 2 hours (healthy)" }, false, "silent"],
    [running, { State: "running", Status: "Up 2 hours (unhealthy)" }, true, "unhealthy"],
    [running, { State: "exited", Status: "Exited (137) 2 hours ago" }, false, "exited"],
    [running, undefined, false, "missing"],
    [{ state: "stopped" }, undefined, false, "stopped"],
    [{ state: "stopped" }, { State: "running", Status: "Up 2 hours" }, true, "running"],
  ])("that should be %o with the container %o, answering %s, is %s", (summary, info, answers, state) => {
    expect(stateOf(summary, info, answers)).toBe(state);
  });
});

describe("a tenant's backups", () => {
  const now = 1_800_000_000;
  const hours = 3600;
  const tried = { at: now - 3 * 24 * hours, seconds: 4.2, ok: true, reason: "" };
  const good: BackupStatus = {
    tenant: "acme",
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
    [{ due: true }, "no base backup yet since its WAL began anew"],
    [{ base: 0, due: true }, "no base backup yet"],
    [{ base: now - 30 * hours }, "the base backup is old"],
    [{ tried: null }, "no restore was tried for 30 days"],
    [{ tried: null, since: now - 2 * 24 * hours }, undefined],
    [{ tried: null, since: 0, base: 0 }, "no base backup yet"],
    [{ tried: old }, "no restore was tried for 9 days"],
    [{ tried: failed }, "a restore was tried and failed: the WAL has a gap"],
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
      { ...good, exposed: 0, problem: null },
      { ...good, tenant: "globex", behind: 4096, exposed: 2, tried: null, problem: "the base backup is old" },
      {
        ...good,
        tenant: "gone",
        state: "removed" as const,
        behind: null,
        left: 1500,
        exposed: null,
        problem: null,
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
    ].map((difference) => ({ ...good, exposed: 0, problem: null, ...difference }));
    const [title, ...cells] = backupsTable(judged)
      .split("\n")
      .map((line) => line.slice(32, 46).trim());
    expect(title).toBe("AT S3");
    expect(cells).toEqual(["all there", "until 4s ago", "until 4s ago", "no base backup", "-"]);
  });
});

describe("an up for some tenants alone", () => {
  const config = {
    domain: "pgs.test",
    port: 5432,
    hostnameSuffix: "none",
    backups: { schedule: "off", retention: "7d" },
  };
  const on = { schedule: "02:30", retention: "7d" };
  const backedUp = {
    acme: tenant({ host: "acme.pgs.test", backup: on }),
    globex: tenant({ host: "globex.pgs.test", backup: on }),
  };
  const file = (text: string) => parseTenants(`tenants: ${text}`);
  const applied = {
    acme: tenant({ host: "acme.pgs.test" }),
    globex: tenant({ host: "globex.pgs.test" }),
  };
  const of = (...ids: string[]) => ({
    args: ids.flatMap((id) => ["--target", `urn:pulumi:*::pgs::pgs:index:PgTenant**::${id}`]),
    env: { PGS_LIMITED_TO: ids.join(",") },
  });

  it("names the component and its children of each, and tells the program", () => {
    expect(limitedUp(["acme"], applied, file("{ acme: { memory: 1Gi }, globex: {} }"), config)).toEqual(
      of("acme"),
    );
    expect(limitedUp(["acme", "new"], applied, file("{ globex: {}, new: {} }"), config)).toEqual(
      of("acme", "new"),
    );
  });

  it("knows the backups that each tenant has", () => {
    const backups = { ...config, backups: on };
    expect(
      limitedUp(["acme"], backedUp, file("{ acme: { backup: { retention: 9d } }, globex: {} }"), backups),
    ).toEqual(of("acme"));
  });

  it("knows hostnames with a random suffix", () => {
    const suffixed = {
      acme: tenant({ host: "acme-3f9c1a.pgs.test" }),
      globex: tenant({ host: "globex-aaaaaa.pgs.test" }),
    };
    const random = { ...config, hostnameSuffix: "random" };
    expect(limitedUp(["acme"], suffixed, file("{ acme: {}, globex: {} }"), random)).toEqual(of("acme"));
    expect(limitedUp(["acme"], suffixed, file("{ acme: {}, globex: {} }"), config)).toEqual({
      args: [],
      env: {},
    });
  });

  it.each([
    ["there was no up yet", undefined, "{ acme: {}, globex: {} }", config],
    ["the last up left no tenant", {}, "{ acme: {} }", config],
    ["another tenant is not made yet", applied, "{ acme: {}, globex: {}, other: {} }", config],
    ["another tenant is not removed yet", applied, "{ acme: {} }", config],
    ["another tenant is changed", applied, "{ acme: {}, globex: { cpus: 2 } }", config],
    ["another tenant is renamed", applied, "{ acme: {}, globex: { hostname: other } }", config],
    ["another tenant's TLS is changed", applied, "{ acme: {}, globex: { tls: passthrough } }", config],
    ["hostnames get a suffix", applied, "{ acme: {}, globex: {} }", { ...config, hostnameSuffix: "random" }],
    ["the domain is changed", applied, "{ acme: {}, globex: {} }", { ...config, domain: "x.test" }],
    ["the port is changed", applied, "{ acme: {}, globex: {} }", { ...config, port: 6432 }],
    ["backups are switched on", applied, "{ acme: {}, globex: {} }", { ...config, backups: on }],
    [
      "they are for the only tenant",
      { acme: tenant({ host: "acme.pgs.test" }) },
      "{ acme: {} }",
      { ...config, backups: on },
    ],
    [
      "another tenant's are changed",
      backedUp,
      "{ acme: {}, globex: { backup: { retention: 9d } } }",
      { ...config, backups: on },
    ],
    [
      "no server of the version is left",
      { acme: tenant({ host: "acme.pgs.test" }) },
      "{ acme: { state: stopped } }",
      config,
    ],
  ])("is a whole one when %s", (_, before, text, configured) => {
    expect(limitedUp(["acme"], before, file(text), configured)).toEqual({ args: [], env: {} });
  });
});

describe("the address of the Docker host", () => {
  it.each([
    [undefined, "127.0.0.1"],
    ["unix:///run/user/1000/docker.sock", "127.0.0.1"],
    ["ssh://root@192.0.2.8", "192.0.2.8"],
    ["ssh://root@192.0.2.9:22", "192.0.2.9"],
    ["tcp://192.0.2.10/", "192.0.2.10"],
    ["tcp://[2001:db8::7]:2376", "2001:db8::7"],
    ["tcp://localhost:2375", expect.stringMatching(/^(127\.0\.0\.1|::1)$/)],
    ["ssh://root@docker.invalid", undefined],
  ])("%s is numeric: %s", async (host, address) => {
    expect(await dockerHostAddress(host)).toEqual(address);
  });
});

it("quotes what psql would take apart", () => {
  expect(conninfo({ host: "a.b", sslrootcert: "/tmp/it's a \\/ca.pem" })).toBe(
    "host=a.b sslrootcert='/tmp/it\\'s a \\\\/ca.pem'",
  );
});

describe("the hint how to log in", () => {
  const unresolved = "acme.pgs.invalid";
  const docker = "tcp://192.0.2.7:2376";

  it("takes the first tenant that can be reached", async () => {
    const hint = await loginHint(
      {
        closed: tenant({ access: false }),
        stopped: tenant({ state: "stopped" }),
        open: tenant({ database: "open", port: 6432 }),
        other: tenant({ database: "other" }),
      },
      docker,
    );
    expect(hint.split("\n")).toEqual([
      "Connection string:  ./pgs url open",
      'Log in:             PGPASSWORD=$(./pgs password open) psql "host=localhost port=6432 dbname=open user=postgres sslmode=require"',
      "or:                 ./pgs connect open",
    ]);
  });

  it("says so when no tenant can be reached", async () => {
    const none = "No tenant can be reached: none is running with access on.";
    expect(await loginHint({}, docker)).toBe(none);
    const closed = { a: tenant({ access: false }), b: tenant({ state: "stopped" }) };
    expect(await loginHint(closed, docker)).toBe(none);
  });

  it("has an address beside a name that does not resolve, and only then", async () => {
    expect(await loginHint({ acme: tenant({ host: unresolved }) }, docker)).toContain(
      `"host=${unresolved} hostaddr=192.0.2.7 port=5432 `,
    );
    expect(await loginHint({ acme: tenant() }, docker)).not.toContain("hostaddr");
  });
});
