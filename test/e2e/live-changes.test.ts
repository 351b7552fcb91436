import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { Checkout } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { drive, drivers } from "./support/drivers";
import { expectRunning, interrupt, login, psql } from "./support/psql";
import { shownCertificate } from "./support/tls";

const mib = 2 ** 20;

/** One tenant for each kind of change, so that one `up` makes them all. */
const before: Record<string, object> = {
  closed: {},
  rotated: {},
  chosen: {},
  grown: { memory: "256Mi" },
  faster: { cpus: 0.5 },
  tuned: { settings: { work_mem: "5MB", lock_timeout: "7s" } },
  renamed: {},
  pooled: { pooler: { size: 4 } },
  untouched: {},
};
const after: Record<string, object> = {
  closed: { access: false },
  rotated: { passwordVersion: 2 },
  chosen: {},
  grown: { memory: "2Gi" },
  faster: { cpus: 1.5 },
  tuned: { settings: { work_mem: "9MB", statement_timeout: "5min", search_path: 'app, "$user", public' } },
  renamed: { hostname: "renamed-now" },
  pooled: { pooler: { size: 6 } },
  untouched: {},
};
const chosenPassword = "The 0perator's \\own & password";

const pooler = { hostname: "pooled-pooler.pgs.localhost" };

/** A session that was opened before the changes, and knows when its end came. */
interface Session {
  client: Client;
  pid: number;
  ended?: number;
}

let checkout: Checkout;
const sessions: Record<string, Session> = {};
/** Of the tenant with a pooler, and through that. */
let pooledClient: Client;
const startTimes: Record<string, string> = {};
const oldPasswords: Record<string, string> = {};
let entries = before;
let preview: string;
let upEnded: number;

beforeAll(async () => {
  checkout = await Checkout.create(tenantsFile(before));
  await checkout.up();
  for (const id of Object.keys(before)) {
    await openSession(id);
    startTimes[id] = await startTime(id);
    oldPasswords[id] = await checkout.password(id);
  }
  pooledClient = await openPooled();
});
afterAll(async () => {
  for (const { client } of Object.values(sessions)) await client.end().catch(() => {});
  await pooledClient?.end().catch(() => {});
  await checkout?.remove();
});

describe("a new server", () => {
  test.each([
    ["untouched", { shared_buffers: "32MB", effective_cache_size: "96MB", maintenance_work_mem: "8MB" }],
    ["untouched", { max_connections: "25" }],
    ["grown", { shared_buffers: "64MB", effective_cache_size: "192MB", maintenance_work_mem: "16MB" }],
    ["grown", { max_connections: "51" }],
  ])("%s has sizes that follow from its memory limit: %j", async (id, sizes) => {
    expect(await show(id, Object.keys(sizes))).toEqual(sizes);
  });

  test("was started once for them", async () => {
    expect(await starts("grown")).toBe(1);
  });
});

describe("changed live", () => {
  beforeAll(async () => {
    await checkout.pulumi("config", "set", "--secret", "--path", "pgs:passwords.chosen", chosenPassword);
    edit(after);
    preview = await checkout.pulumi("preview", "--diff");
    await checkout.up();
    upEnded = performance.now();
  });

  test.each(Object.keys(before))("%s: the server was not restarted", async (id) => {
    expect(await startTime(id)).toBe(startTimes[id]);
  });

  test.each(Object.keys(before).filter((id) => id !== "closed"))("%s: its open session goes on", goesOn);

  test("access off: open sessions end within two seconds of the up's end", async () => {
    await eventually(60, async () => expect(sessions.closed?.ended).toBeDefined());
    expect(sessions.closed?.ended).toBeLessThan(upEnded + 2000);
  });

  test("access off: a new login is refused", async () => {
    await expect(checkout.query("closed", "SELECT 1")).rejects.toThrow();
  });

  test.each(["rotated", "chosen"])("%s: the new password logs in and the old one does not", async (id) => {
    expect(await checkout.password(id)).not.toBe(oldPasswords[id]);
    await checkout.query(id, "SELECT 1");
    await expect(logIn(id, { password: oldPasswords[id] })).rejects.toThrow("password authentication failed");
  });

  test("the operator's own password is that which was set", async () => {
    expect(await checkout.password("chosen")).toBe(chosenPassword);
  });

  test("memory: the limit is in force, without swap", async () => {
    const { Memory, MemorySwap } = await hostConfig("grown");
    expect({ Memory, MemorySwap }).toEqual({ Memory: 2048 * mib, MemorySwap: 2048 * mib });
    expect(await kernelLimit("grown", "memory/memory.limit_in_bytes", "memory.max")).toBe(`${2048 * mib}`);
  });

  test("memory: what can change live has changed, and what cannot waits for the next start", async () => {
    expect(await show("grown", ["effective_cache_size", "maintenance_work_mem"])).toEqual({
      effective_cache_size: "1536MB",
      maintenance_work_mem: "128MB",
    });
    expect(await show("grown", ["shared_buffers", "max_connections"])).toEqual({
      shared_buffers: "64MB",
      max_connections: "51",
    });
  });

  test("memory: preview said what of it waits for the next start", () => {
    const section = planOf("grown");
    expect(section).toMatch(/initial *: \{[^}]*shared_buffers *: "64MB" => "512MB"/);
    expect(section).toMatch(/memory *: 268435456 => 2147483648/);
    expect(section).not.toMatch(/restart *: \{/);
  });

  test("cpus: the limit is in force", async () => {
    expect((await hostConfig("faster")).NanoCpus).toBe(1.5e9);
    expect(await kernelLimit("faster", "cpu/cpu.cfs_quota_us", "cpu.max")).toMatch(/^150000( 100000)?$/);
  });

  const wanted = {
    work_mem: "9MB",
    statement_timeout: "5min",
    search_path: 'app, "$user", public',
  };
  test("settings: new sessions have the new values", async () => {
    expect(await show("tuned", Object.keys(wanted))).toEqual(wanted);
  });

  test("settings: the open session has them too", async () => {
    expect(await show("tuned", Object.keys(wanted), sessions.tuned?.client)).toEqual(wanted);
  });

  test("settings: one that was taken out of the file is gone", async () => {
    expect(await show("tuned", ["lock_timeout"])).toEqual({ lock_timeout: "0" });
  });

  test("hostname: the new one logs in and the old one does not", async () => {
    expect(await logIn("renamed", { hostname: "renamed-now.pgs.localhost" })).toBe("renamed");
    await expect(logIn("renamed", { hostname: "renamed.pgs.localhost" })).rejects.toThrow();
  });

  test("pooler: a client of it goes on, and as many connections as are set now serve all of them", async () => {
    await pooledClient.query("SELECT 1");
    const clients = await Promise.all(Array.from({ length: 12 }, openPooled));
    // Long enough for all of its connections to be made before the first query ends.
    await eventually(60, async () => {
      const answers = await Promise.all(
        clients.map((client) => client.query("SELECT pg_backend_pid() AS pid FROM pg_sleep(1)")),
      );
      expect(new Set(answers.map(({ rows }) => rows[0].pid)).size).toBe(6);
    });
    await Promise.all(clients.map((client) => client.end()));
  });

  test("what was done is what preview finds done", async () => {
    await checkout.pulumi("preview", "--expect-no-changes");
  });
});

describe("the certificate changes live", () => {
  const serials: string[] = [];
  const operatorCertificate = async () => {
    const [chain, key] = ["chain.pem", "key.pem"].map((file) => join(checkout.folder, file)) as [
      string,
      string,
    ];
    const args = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=own -addext subjectAltName=DNS:*.pgs.localhost -out ${chain} -keyout ${key}`;
    await succeed("openssl", args.split(" "));
    return { chain, key };
  };

  const changed = async () => {
    await eventually(60, async () => expect(serials).not.toContain(await servedSerial()));
    serials.push(await servedSerial());
    for (const id of ["untouched", "tuned", "rotated"]) {
      expect(await startTime(id)).toBe(startTimes[id]);
      await goesOn(id);
    }
  };

  test("when the stack's own CA signs a new one; access that is opened again lets clients in", async () => {
    serials.push(await servedSerial());
    edit({ ...entries, closed: {} });
    const urn =
      "urn:pulumi:dev::pgs::pgs:index:WildcardCertificate$tls:index/locallySignedCert:LocallySignedCert::server";
    await checkout.up("--replace", urn);
    await changed();
    // Verified with the CA, as before.
    await checkout.query("closed", "SELECT 1");
    expect(await startTime("closed")).toBe(startTimes.closed);
  });

  test("when the operator brings one; without a password of the operator's own, the random one counts", async () => {
    const { chain, key } = await operatorCertificate();
    await checkout.pulumi("config", "set", "--path", "pgs:certificate.chain", chain);
    await checkout.pulumi("config", "set", "--path", "pgs:certificate.key", key);
    await checkout.pulumi("config", "rm", "--path", "pgs:passwords.chosen");
    await checkout.up();
    await changed();
    expect(await logIn("chosen", { password: oldPasswords.chosen })).toBe("chosen");
    await expect(logIn("chosen", { password: chosenPassword })).rejects.toThrow(/authentication failed/);
    expect(await startTime("chosen")).toBe(startTimes.chosen);
  });

  test("when the operator's files change", async () => {
    await operatorCertificate();
    await checkout.up();
    await changed();
  });

  test("back to one of the stack's own", async () => {
    await checkout.pulumi("config", "rm", "pgs:certificate");
    await checkout.up();
    await changed();
    await checkout.query("untouched", "SELECT 1");
  });
});

describe("every setting that PostgreSQL can reload", () => {
  /** Other values than those in force where a number leaves room for it, and where it is no time limit. */
  const other = `SELECT lower(name) AS name, CASE
      WHEN vartype = 'integer' AND setting::bigint > 0 AND setting::bigint < max_val::bigint
        THEN (setting::bigint + 1)::text
      WHEN vartype = 'real' AND setting::float8 > 0 AND setting::float8 * 1.5 <= max_val::float8
        THEN trim_scale(setting::numeric * 1.5)::text
      ELSE setting END AS value
    FROM pg_settings WHERE context NOT IN ('internal', 'postmaster')
      AND name !~ '^(seed|transaction_(deferrable|isolation|read_only))$'
      AND name !~ '^(ssl|unix_socket|listen|data_dir|config_file|hba_file|ident_file|allow_alter_system)'
    ORDER BY name`;
  let settings: Record<string, string>;

  test("is taken over live, all in one up", async () => {
    const rows = await checkout.query("faster", other);
    settings = Object.fromEntries(rows.map(({ name, value }) => [name, value])) as Record<string, string>;
    console.log(`live-changes: ${rows.length} reloadable settings`);
    expect(rows.length).toBeGreaterThan(200);
    edit({ ...entries, faster: { cpus: 1.5, settings } });
    await checkout.up();
    expect(await startTime("faster")).toBe(startTimes.faster);
    await goesOn("faster");
  });

  test("has the value of tenants.yaml", async () => {
    const rows = await checkout.query("faster", "SELECT lower(name) AS name, setting FROM pg_settings");
    const inForce = Object.fromEntries(rows.map(({ name, setting }) => [name, setting]));
    const differing = Object.keys(settings).filter((name) => inForce[name] !== settings[name]);
    expect(differing.map((name) => [name, settings[name], inForce[name]])).toEqual([]);
  });

  test("is no difference for the next preview, and gone when it is taken out again", async () => {
    await checkout.pulumi("preview", "--expect-no-changes");
    edit({ ...entries, faster: {} });
    await checkout.up();
    expect(await startTime("faster")).toBe(startTimes.faster);
    const left = await checkout.query(
      "faster",
      "SELECT name FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf' ORDER BY name",
    );
    expect(left.map(({ name }) => name)).toEqual([
      "authentication_timeout",
      "effective_cache_size",
      "maintenance_work_mem",
      "max_connections",
      "max_slot_wal_keep_size",
      "shared_buffers",
    ]);
  });
});

describe("settings that need a restart", () => {
  const settings = { max_connections: 40, wal_buffers: "2MB", work_mem: "7MB" };

  test("preview names them", async () => {
    edit({ ...entries, tuned: { settings } });
    expect(await checkout.pulumi("preview")).toContain(
      `${checkout.name("tuned")} is restarted once: max_connections`,
    );
    preview = await checkout.pulumi("preview", "--diff");
    expect(planOf("tuned")).toMatch(/restart *: \{[^}]*max_connections *: "40"/);
  });

  test("restart that server once, whatever their number, and no other", async () => {
    const startsBefore = await starts("tuned");
    await checkout.up();
    expect(await startTime("tuned")).not.toBe(startTimes.tuned);
    expect(await starts("tuned")).toBe(startsBefore + 1);
    expect(await show("tuned", Object.keys(settings))).toEqual({
      max_connections: "40",
      wal_buffers: "2MB",
      work_mem: "7MB",
    });
    for (const id of ["untouched", "rotated", "renamed", "faster"]) {
      expect(await startTime(id)).toBe(startTimes[id]);
      await goesOn(id);
    }
    startTimes.tuned = await startTime("tuned");
  });
});

/** Seconds. A query that nothing cancels takes a minute. */
const cancelled = 20;

describe("a pooler", () => {
  test.each([
    ["psql 15", psql[15], {}],
    ["psql 18, direct TLS", psql[18], { sslnegotiation: "direct" }],
  ])("takes logins, and passes on Ctrl-C: %s", async (_, binary, parameters) => {
    const real = {
      host: pooler.hostname,
      sslmode: "verify-full",
      sslrootcert: await checkout.caFile(),
      ...parameters,
    };
    const result = await login(checkout, binary, "pooled", real);
    expect([result.stderr, result.stdout.trim()]).toEqual(["", "pooled"]);
    const { output, seconds } = await interrupt(checkout, binary, "pooled", real);
    expect(output).toMatch(/ERROR: +canceling statement due to user request/);
    expect(seconds).toBeLessThan(cancelled);
  });

  test.each(drivers)(
    "serves one client by several connections, and passes on its cancel: %s",
    async (_, driver) => {
      const found = await drive(checkout, "pooled", driver, { host: pooler.hostname });
      expect(found.message).toMatch(driver.message);
      expect(found.seconds).toBeLessThan(cancelled);
      expect(found.goesOn).toBe(driver.goesOn);
      expect(new Set(found.pids).size).toBe(2);
    },
  );

  test("refuses a wrong password, a role that may not log in or not any more, and another tenant's password", async () => {
    await checkout.query(
      "pooled",
      "CREATE ROLE late LOGIN PASSWORD 'x' VALID UNTIL '2020-01-01'; CREATE ROLE nobody NOLOGIN PASSWORD 'x'; CREATE ROLE app LOGIN PASSWORD 'x'",
    );
    await expect(logIn("pooled", { ...pooler, password: "wrong" })).rejects.toThrow();
    await expect(
      logIn("pooled", { ...pooler, password: await checkout.password("untouched") }),
    ).rejects.toThrow();
    for (const user of ["late", "nobody"]) {
      await expect(logIn("pooled", { ...pooler, user, password: "x" })).rejects.toThrow();
    }
    expect(await logIn("pooled", { ...pooler, user: "app", password: "x" })).toBe("pooled");
  });

  test("keeps prepared statements for clients that share connections, and lets a planned restart fail no query", async () => {
    await checkout.query(
      "pooled",
      "CREATE TABLE counted AS SELECT n, 0 AS times FROM generate_series(1, 12) AS n",
    );
    let going = true;
    let done = 0;
    const work = Array.from({ length: 12 }, async (_, index) => {
      const client = await openPooled();
      // A transaction, and statements of a name.
      for (; going; done++) {
        await client.query("BEGIN");
        await client.query({
          name: "add",
          text: "UPDATE counted SET times = times + 1 WHERE n = $1",
          values: [index + 1],
        });
        await client.query({ name: "wait", text: "SELECT pg_sleep($1)", values: [0.02] });
        await client.query("COMMIT");
      }
      await client.end();
    });
    const newcomers = (async () => {
      for (; going; done++) await logIn("pooled", pooler);
    })();
    const all = Promise.all([...work, newcomers]);
    const startedAt = await startTime("pooled");
    edit({ ...entries, pooled: { pooler: { size: 6 }, settings: { max_connections: 30 } } });
    await Promise.race([checkout.up(), all]);
    const before = done;
    await eventually(60, async () => expect(done).toBeGreaterThan(before + 20));
    going = false;
    await all;
    expect(await startTime("pooled")).not.toBe(startedAt);
    const [{ times }] = (await checkout.query("pooled", "SELECT sum(times)::int AS times FROM counted")) as [
      { times: number },
    ];
    console.log(`live-changes: ${times} transactions by a pooler, over a restart of the server`);
  });

  test("is put right after what somebody did to it, the tenant's own superuser too", async () => {
    const container = `${checkout.name("pooled")}--pooler`;
    await checkout.query("pooled", "COPY (SELECT 'x') TO '/var/lib/postgresql/.pgbouncer.ini'");
    await succeed("docker", ["rm", "--force", container]);
    expect(await checkout.pulumi("preview")).toContain("PostgresServer pooled was changed by hand (pooler)");
    await checkout.up();
    expect(await logIn("pooled", pooler)).toBe("pooled");
  });

  test("gives each client a server process of its own in session mode, from one moment to the next", async () => {
    const [one, other] = [await openPooled(), await openPooled()];
    const pid = async (client: Client) =>
      (await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid")).rows[0]?.pid;
    expect(await pid(one)).toBe(await pid(other));
    edit({ ...entries, pooled: { pooler: { size: 6, mode: "session" } } });
    await checkout.up();
    expect(await pid(one)).not.toBe(await pid(other));
    await one.end();
    await other.end();
  });

  test("goes with its clients where access is closed, and what they were running ends", async () => {
    const client = await openPooled();
    const ended = new Promise<void>((resolve) => client.on("end", resolve));
    const query = "SELECT pg_sleep(120), 'pooled'";
    void client.query(query).catch(() => {});
    await eventually(60, () => expectRunning(checkout, "pooled", query));
    edit({ ...entries, pooled: { pooler: { size: 6 }, access: false } });
    await checkout.up();
    await ended;
    expect((await containers()).filter((line) => line.includes("--pooler"))).toEqual([]);
    const running = `SELECT count(*) FROM pg_stat_activity WHERE query = $_$${query}$_$`;
    await eventually(60, async () =>
      expect(
        await succeed("docker", ["exec", checkout.name("pooled"), "psql", "-U", "postgres", "-Atc", running]),
      ).toBe("0\n"),
    );
    await checkout.pulumi("preview", "--expect-no-changes");
  });
});

describe("a setting that is refused", () => {
  test("an unknown name, a value that is none and one out of range are refused before anything is planned", async () => {
    const containersBefore = await containers();
    const settings = "work_memm: 4MB, work_mem: plenty, max_connections: 0";
    checkout.write("tenants.yaml", `tenants:\n  tuned: {}\n  untouched: { settings: { ${settings} } }\n`);
    const result = await checkout.tryUp();
    expect(result.code).not.toBe(0);
    for (const message of [
      /3:28: tenants\.untouched\.settings\.work_memm: .*did you mean work_mem\?/,
      /3:54: tenants\.untouched\.settings\.work_mem: expected a number/,
      /3:79: tenants\.untouched\.settings\.max_connections: expected/,
    ]) {
      expect(result.output).toMatch(message);
    }
    expect(await containers()).toEqual(containersBefore);
    expect(await show("tuned", ["work_mem"])).toEqual({ work_mem: "7MB" });
    await goesOn("untouched");
  });

  test.each([
    ["timezone", "Nowhere/Land", "Etc/UTC", 0],
    ["shared_preload_libraries", "nothere", "pg_stat_statements", 0],
    // The server says no to these only when it starts: it is started again as it was.
    ["max_connections", "2", "25", 2],
    ["huge_pages", "on", "try", 2],
  ])(
    "%s: %s fails the up, names its line, and leaves the server as it was",
    async (name, value, former, restarts) => {
      const startsBefore = await starts("untouched");
      checkout.write(
        "tenants.yaml",
        `${tenantsFile({ ...entries, untouched: undefined })}  untouched:\n    settings:\n      work_mem: 6MB\n      ${name}: ${value}\n`,
      );
      const line = 4 + tenantsFile({ ...entries, untouched: undefined }).split("\n").length - 1;
      const result = await checkout.tryUp();
      expect(result.code).not.toBe(0);
      expect(result.output).toMatch(new RegExp(`tenants\\.yaml:${line}:\\d+: setting ${name}: .+`));
      expect(await show("untouched", [name, "work_mem"])).toEqual({ [name]: former, work_mem: "4MB" });
      // The limit for one address is not that of a max_connections which was refused.
      await Promise.all([1, 2, 3].map(async () => (await checkout.client("untouched")).end()));
      if (restarts === 0) {
        expect(await startTime("untouched")).toBe(startTimes.untouched);
        await goesOn("untouched");
      }
      expect(await starts("untouched")).toBeLessThanOrEqual(startsBefore + restarts);
      await succeed("docker", ["restart", "--time", "60", checkout.name("untouched")]);
      await eventually(90, async () => void (await checkout.query("untouched", "SELECT 1")));
      await openSession("untouched");
      startTimes.untouched = await startTime("untouched");
    },
  );

  test("once it is corrected, the up goes through", async () => {
    edit({ ...entries, untouched: { settings: { work_mem: "6MB" } } });
    await checkout.up();
    expect(await show("untouched", ["work_mem"])).toEqual({ work_mem: "6MB" });
    expect(await startTime("untouched")).toBe(startTimes.untouched);
  });
});

describe("a memory limit", () => {
  test("raised before the server's next start has its sizes after it", async () => {
    await succeed("docker", ["restart", "--time", "60", checkout.name("grown")]);
    await eventually(90, async () =>
      expect(await show("grown", ["shared_buffers", "max_connections"])).toEqual({
        shared_buffers: "512MB",
        max_connections: "409",
      }),
    );
  });

  test("lowered from 2Gi to 128Mi leaves a server that runs with the small sizes, and its data", async () => {
    await checkout.query("grown", "CREATE TABLE kept AS SELECT n FROM generate_series(1, 200000) AS n");
    const startsBefore = await starts("grown");
    edit({ ...entries, grown: { memory: "128Mi" } });
    expect(await checkout.pulumi("preview")).toContain(`${checkout.name("grown")} is restarted once`);
    await checkout.up();
    expect((await hostConfig("grown")).Memory).toBe(128 * mib);
    expect(await starts("grown")).toBe(startsBefore + 1);
    expect(await show("grown", ["shared_buffers", "max_connections"])).toEqual({
      shared_buffers: "32MB",
      max_connections: "25",
    });
    expect(await checkout.query("grown", "SELECT count(*)::int AS n FROM kept")).toEqual([{ n: 200000 }]);
  });

  test("and that starts again", async () => {
    await succeed("docker", ["restart", "--time", "60", checkout.name("grown")]);
    await eventually(90, async () =>
      expect(await checkout.query("grown", "SELECT count(*)::int AS n FROM kept")).toEqual([{ n: 200000 }]),
    );
    await checkout.pulumi("preview", "--expect-no-changes");
  });
});

describe("extensions", () => {
  const installed = async (id: string) =>
    Object.fromEntries(
      (await checkout.query(id, "SELECT extname, extversion FROM pg_extension ORDER BY extname")).map(
        ({ extname, extversion }) => [extname, extversion],
      ),
    );
  const listed = async (id: string) =>
    JSON.parse((await checkout.pgs(["extensions", id, "--json"])).stdout).filter(
      ({ state }: { state: string }) => state !== "available",
    );

  test("a new server counts its statements, in little memory", async () => {
    expect(await installed("untouched")).toMatchObject({ pg_stat_statements: "1.12" });
    const [{ n } = {}] = await checkout.query(
      "untouched",
      "SELECT count(*)::int AS n FROM pg_stat_statements",
    );
    expect(n).toBeGreaterThan(0);
    expect(n).toBeLessThan(500);
  });

  test("are made live, the newest or as written, with those that they need", async () => {
    startTimes.faster = await startTime("faster");
    edit({
      ...entries,
      faster: { extensions: ["earthdistance", "hstore", "pg_trgm@1.4", "pg_stat_statements"] },
    });
    expect(await checkout.pulumi("preview")).not.toContain("is restarted once");
    await checkout.up();
    expect(await installed("faster")).toMatchObject({ cube: "1.5", hstore: "1.8", pg_trgm: "1.4" });
    expect(await startTime("faster")).toBe(startTimes.faster);
    expect(await listed("faster")).toContainEqual(
      expect.objectContaining({ name: "pg_trgm", installed: "1.4", newest: "1.6", state: "outdated" }),
    );
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  test("that the tenant dropped are seen, and an update is announced; what is in use stays", async () => {
    await checkout.query("faster", "DROP EXTENSION earthdistance; CREATE TABLE used (h hstore)");
    const drift = await checkout.pulumi("preview");
    expect(drift).toContain("was changed by hand (extensions)");
    edit({ ...entries, faster: { extensions: ["earthdistance", "pg_trgm", "pg_stat_statements"] } });
    const plan = await checkout.pulumi("preview");
    expect(plan).toContain(`${checkout.name("faster")}: the extension pg_trgm is updated from 1.4 to 1.6`);
    expect(plan).toContain("the extension hstore is dropped, unless something uses it");
    const result = await checkout.tryUp();
    expect(result.code).not.toBe(0);
    expect(result.output).toMatch(
      /tenants\.yaml:\d+:\d+: the extension hstore was taken out of the entry, and is in use: column h of table public\.used depends on type public\.hstore/,
    );
    await checkout.query("faster", "DROP TABLE used");
    await checkout.up();
    expect(await installed("faster")).toMatchObject({ earthdistance: "1.2", pg_trgm: "1.6" });
    expect(await installed("faster")).not.toHaveProperty("hstore");
    expect(await startTime("faster")).toBe(startTimes.faster);
  });

  test("that the image does not have are refused before anything changes", async () => {
    const before = entries;
    edit({ ...entries, faster: { extensions: ["pg_trgn", "hstore", "pg_stat_statements"] } });
    const result = await checkout.tryUp();
    expect(result.code).not.toBe(0);
    expect(result.output).toMatch(/has no extension pg_trgn; did you mean pg_trgm\? It has amcheck, /);
    expect(await installed("faster")).not.toHaveProperty("hstore");
    edit(before as Record<string, object>);
  });

  test("of another image come with one restart, and its library too", async () => {
    const image = `${checkout.prefix}-demo:latest-demo`;
    await succeed("docker", ["build", "--quiet", "--tag", image, "-"], { stdin: await demoImage() });
    try {
      await checkout.pulumi("config", "set", "--path", "pgs:images.18-demo", image);
      const demo = {
        image: "demo",
        extensions: ["demo"],
        settings: { shared_preload_libraries: "auto_explain" },
      };
      edit({ ...entries, faster: { ...demo, extensions: ["demo", "pg_stat_statements"] } });
      const startsBefore = await starts("faster");
      expect(await checkout.pulumi("preview")).toContain(`${checkout.name("faster")} is restarted once`);
      await checkout.up();
      expect(await checkout.query("faster", "SELECT demo() AS said")).toEqual([{ said: "hello" }]);
      expect(await show("faster", ["shared_preload_libraries"])).toEqual({
        shared_preload_libraries: "auto_explain, pg_stat_statements",
      });
      expect(startsBefore).toBeGreaterThan(0);
      // A catalog that its superuser took away harms that tenant alone.
      await checkout.query(
        "faster",
        "SET allow_system_table_mods = on; ALTER VIEW pg_catalog.pg_available_extensions RENAME TO away",
      );
      await checkout.pulumi("preview", "--expect-no-changes");
      edit({ ...entries, untouched: {}, faster: { ...demo, image: undefined, extensions: [] } });
      await checkout.up();
      expect(await installed("faster")).not.toHaveProperty("demo");
    } finally {
      await run("docker", ["rmi", image]);
    }
  });
});

/** A build context with an extension that is SQL alone. */
async function demoImage(): Promise<string> {
  const from = await succeed("docker", ["inspect", "--format", "{{.Config.Image}}", checkout.name("faster")]);
  return [
    `FROM ${from.trim()}`,
    "USER root",
    `RUN cd "$(dirname "$(find / -xdev -path '*/extension/plpgsql.control')")" \\`,
    ` && echo "default_version = '1.0'" >demo.control \\`,
    ` && echo "CREATE FUNCTION demo() RETURNS text LANGUAGE sql RETURN 'hello';" >demo--1.0.sql`,
    "",
  ].join("\n");
}

function tenantsFile(tenants: Record<string, object | undefined>): string {
  return stringify({ defaults: { memory: "128Mi" }, tenants }, { keepUndefined: false, lineWidth: 0 });
}

function edit(tenants: Record<string, object>): void {
  entries = tenants;
  checkout.write("tenants.yaml", tenantsFile(tenants));
}

async function containers(): Promise<string[]> {
  const list = await succeed("docker", ["ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.ID}}"]);
  return list.split("\n").filter((line) => line.startsWith(`${checkout.prefix}-`));
}

async function openSession(id: string): Promise<void> {
  const client = await checkout.client(id);
  const { rows } = await client.query("SELECT pg_backend_pid() AS pid");
  const session: Session = { client, pid: rows[0].pid };
  client.on("end", () => {
    session.ended = performance.now();
  });
  sessions[id] = session;
}

async function goesOn(id: string): Promise<void> {
  const { rows } = (await sessions[id]?.client.query("SELECT pg_backend_pid() AS pid")) ?? { rows: [] };
  expect(rows).toEqual([{ pid: sessions[id]?.pid }]);
}

/** Asked over the server's own socket: it is also told of a tenant without access. */
async function startTime(id: string): Promise<string> {
  const sql = "SELECT pg_postmaster_start_time()";
  return succeed("docker", ["exec", checkout.name(id), "psql", "-U", "postgres", "-Atc", sql]);
}

/** How many times the server of this container was ready over TCP: its own first set-up is not. */
async function starts(id: string): Promise<number> {
  const log = await run("docker", ["logs", checkout.name(id)]);
  return log.output.split("\n").filter((line) => line.includes("listening on IPv4 address")).length;
}

async function show(id: string, names: string[], client?: Client): Promise<Record<string, string>> {
  const columns = names.map((name) => `current_setting('${name}') AS ${name}`);
  const sql = `SELECT ${columns.join(", ")}`;
  const rows = client ? (await client.query(sql)).rows : await checkout.query(id, sql);
  return rows[0] as Record<string, string>;
}

async function hostConfig(id: string): Promise<{ Memory: number; MemorySwap: number; NanoCpus: number }> {
  const answer = await succeed("docker", ["inspect", "--format", "{{json .HostConfig}}", checkout.name(id)]);
  return JSON.parse(answer);
}

/** What the kernel holds the container to, by the names of cgroups v1 and v2. */
async function kernelLimit(id: string, v1: string, v2: string): Promise<string> {
  const read = `cat /sys/fs/cgroup/${v1} 2>/dev/null || cat /sys/fs/cgroup/${v2}`;
  return (await succeed("docker", ["exec", checkout.name(id), "sh", "-c", read])).trim();
}

/** What `preview --diff` said of the tenant's server. */
function planOf(id: string): string {
  const section = preview
    .split(/^ +(?=[-+~]+ [\w-]+:[\w/-]+:[\w-]+: \()/m)
    .find(
      (part) => part.startsWith("~ pgs:index:PostgresServer") && part.includes(`[id=${checkout.name(id)}]`),
    );
  expect(section, `no plan for ${id} in:\n${preview}`).toBeDefined();
  return section ?? "";
}

interface Login {
  user?: string;
  password?: string;
  hostname?: string;
}

/** A client of the tenant's pooler. */
async function openPooled(): Promise<Client> {
  return connect("pooled", pooler);
}

/** Over the public port, without verifying the certificate. */
async function connect(id: string, { hostname, ...other }: Login): Promise<Client> {
  const servername = hostname ?? new URL(await checkout.connectionString(id)).hostname;
  const client = new Client({
    ...(await checkout.clientConfig(id)),
    ...other,
    ssl: { servername, rejectUnauthorized: false },
  });
  client.on("error", () => {});
  await client.connect();
  return client;
}

/** Logs in. @returns the database's name */
async function logIn(id: string, other: Login): Promise<string> {
  const client = await connect(id, other);
  try {
    return (await client.query("SELECT current_database() AS name")).rows[0].name;
  } finally {
    await client.end();
  }
}

/** Serial number of the certificate that a new TLS client is shown. */
async function servedSerial(): Promise<string> {
  return (await shownCertificate(checkout.port, "untouched.pgs.localhost")).serialNumber;
}
