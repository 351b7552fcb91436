import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import type { Panel } from "@grafana/grafana-foundation-sdk/dashboard";
import type { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Charts, seriesNames } from "../../cli/dashboard/api";
import { firingAlerts } from "../../cli/lib/alerts";
import { Metrics } from "../../cli/lib/metrics";
import { dashboards } from "../../monitoring/dashboards";
import { certificateFiles } from "../unit/support/certificates";
import { launch, watchedPage } from "./support/browser";
import { Checkout, freePort, withBackups } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { RunningDashboard } from "./support/dashboard";
import { bySql, connectTo, inContainer, inspect } from "./support/inside";
import { MailServer } from "./support/mail";
import { accessKeyId, S3Server, secretAccessKey } from "./support/s3";

// One stack that is watched, with its rules in haste: five minutes are ten seconds, a day is a minute and a half.
const env = { PGS_MONITORING_HASTE: "30" };
const tenants = (globex = "") => `defaults: { backup: { schedule: off } }
tenants:
  acme: { maxConnectionsPerClient: 70, settings: { max_connections: 70 } }
  globex: { memory: 256Mi, access: false${globex} }
  hooli: { disk: 512Mi }
  wayne: { backup: { schedule: 05:00 } }
`;
const ids = ["acme", "globex", "hooli", "wayne"];
const watchers = ["prometheus", "exporter", "collector", "relay"];

let checkout: Checkout;
let metrics: Metrics;
let s3: S3Server;
let receiver: Server;
let mail: MailServer;
/** Where this machine is reached from containers. */
let own: string;
let webhook: string;
/** Of the existing Prometheus. */
let existing: number;
/** What the webhook got. */
const received: {
  path?: string;
  authorization?: string;
  /** As Slack gets it. */
  channel?: string;
  attachments?: { title: string; text: string }[];
  alerts?: { status: string; labels: Record<string, string> }[];
}[] = [];

beforeAll(async () => {
  const addresses = Object.values(networkInterfaces()).flat();
  own = addresses.find((one) => one?.family === "IPv4" && !one.internal)?.address ?? "";
  s3 = await S3Server.start("off-site");
  webhook = `http://${own}:${await receive()}`;
  mail = await MailServer.start(own);
  existing = await freePort();
  checkout = await Checkout.create(
    tenants(),
    {
      ...withBackups,
      "backups.destination": "s3://off-site/of/pgs",
      "backups.endpoint": `http://${own}:${s3.port}`,
      "monitoring.enabled": "true",
      "monitoring.alerts.webhook": `${webhook}/alerts`,
      "monitoring.remoteWrite": `http://${own}:${existing}/api/v1/write`,
    },
    env,
  );
  const secrets = {
    "pgs:alertCredentials.webhookToken": "sesame-4711",
    "pgs:backupCredentials.accessKeyId": accessKeyId,
    "pgs:backupCredentials.secretAccessKey": secretAccessKey,
  };
  const pairs = Object.entries(secrets).flatMap(([key, value]) => ["--secret", `${key}=${value}`]);
  await checkout.pulumi("config", "set-all", "--path", ...pairs);
  // The collector takes the proxy's volume for the disk that all volumes are on: this one is small, and can be filled.
  const disk = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=16m"];
  await docker("volume", "create", ...disk, checkout.name("proxy"));
  expect(await checkout.up()).toContain(`${checkout.name("hooli")}: its disk budget is soft on this host`);
  const stack = (await checkout.pulumi("stack", "output", "stack")).trim();
  metrics = (await Metrics.of({ dockerHost: undefined }, { stack })) as Metrics;
});
afterAll(async () => {
  receiver?.close();
  mail?.stop();
  await checkout?.remove();
  s3?.stop();
});

/** Listens as a webhook of Alertmanager. @returns the port */
async function receive(): Promise<number> {
  receiver = createServer((request, response) => {
    let body = "";
    request.on("data", (data) => {
      body += data;
    });
    request.on("end", () => {
      const { authorization } = request.headers;
      received.push({ path: request.url, authorization, ...JSON.parse(body) });
      response.end();
    });
  });
  await new Promise<void>((resolve) => receiver.listen(0, resolve));
  return (receiver.address() as { port: number }).port;
}

/** What the webhook was told by this path, of a tenant or of the stack. */
function told(path: string, tenant?: string): string[] {
  const all = received.filter((one) => one.path === path).flatMap(({ alerts = [] }) => alerts);
  const about = all.filter(({ labels }) => labels.tenant === tenant);
  return [...new Set(about.map(({ status, labels }) => `${labels.alertname} ${status}`))];
}

/**
 * Of something that gives no answer in time. In haste that is some seconds: on a busy machine one of those may fire beside
 * what a test causes. The test of what watches has each of them, alone.
 */
const unanswered = (alert: string) => /^Pgs(Collector|Proxy|Exporter)(Down|Blind)/.test(alert);

const docker = (...args: string[]) => succeed("docker", args);

const nameOf = (watcher: string) => checkout.name(`-${watcher}`);

/** The value of one series; undefined while it is not there. */
async function valueNow(expression: string): Promise<number | undefined> {
  return (await metrics.query(expression))[0]?.value;
}

/** Seconds for what takes a few on a quiet machine. */
const patience = 120;

const until = (expression: string, value: number) =>
  eventually(patience, async () => expect(await valueNow(expression), expression).toBe(value));

/** When each container of the stack was started. */
async function starts(): Promise<string> {
  const names = (await docker("ps", "--format", "{{.Names}}")).split("\n");
  const ours = names.filter((name) => name.startsWith(`${checkout.prefix}-`)).sort();
  return succeed("docker", ["inspect", "--format", "{{.Name}} {{.Id}} {{.State.StartedAt}}", ...ours]);
}

/** Asked of the monitoring network itself. */
async function fetched(url: string): Promise<string> {
  const script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=60).read().decode())";
  return succeed("docker", ["exec", nameOf("collector"), "python3", "-c", script, url]);
}

/** What the exporter says of a tenant now: Prometheus asks it once a minute. */
function probe(id: string): Promise<string> {
  const target = `postgresql://pgs_monitor@${nameOf("relay")}:5432/${id}?sslmode=disable`;
  return fetched(`http://${nameOf("exporter")}:9187/probe?target=${target}`);
}

const isSeen = (id: string) =>
  eventually(patience, async () => expect(await probe(id)).toMatch(/^pg_up 1$/m));

/** What fires, by name, tenant and severity, as `./pgs alerts` asks for it. */
async function firing(): Promise<string[]> {
  const found = await firingAlerts((expression) => metrics.query(expression));
  return found.map(({ alert, tenant, severity }) => [alert, tenant, severity].filter(Boolean).join(" "));
}

/** These alerts fire in time, and no other but of wayne, whose only base backup is soon too old. */
async function fires(...alerts: string[]): Promise<void> {
  const begun = performance.now();
  const ofOthers = async () => (await firing()).filter((one) => !/ wayne /.test(one)).sort();
  await eventually(patience, async () => expect(await ofOthers()).toEqual(alerts.sort()));
  console.log(`${alerts.join(", ") || "silence"}: ${((performance.now() - begun) / 1000).toFixed(0)} s`);
}

const silence = () => fires();

const allWatched = () =>
  eventually(patience, async () =>
    expect(await metrics.query("pgs:tenant_watched")).toHaveLength(ids.length),
  );

describe("a stack that is watched", () => {
  test("is silent when it is new, and when all is well", async () => {
    // Before the first evaluation of the rules there is no answer.
    const heard: string[] = [];
    await eventually(patience, async () => {
      const { stdout } = await checkout.pgs(["alerts"]);
      heard.push(stdout);
      expect(stdout).toBe("No alert fires.\n");
    });
    for (const id of ids) expect(heard.join("")).not.toContain(` ${id} `);
    await allWatched();
    await eventually(patience, async () =>
      expect(await metrics.query("pg_up == 1")).toHaveLength(ids.length),
    );
    await silence();
    await eventually(patience, async () => {
      const { stdout } = await checkout.pgs(["alerts", "--json"]);
      expect(JSON.parse(stdout).filter(({ tenant }: { tenant: string }) => tenant !== "wayne")).toEqual([]);
    });
  });

  test("has series of each tenant, also of one that no client may come to", async () => {
    const client = await checkout.client("acme");
    for (let one = 0; one < 8; one++) await client.query(`CREATE DATABASE "db ${one}"`);
    for (let one = 0; one < 20; one++)
      await client.query(`CREATE ROLE "role ${one}"; SELECT ${one} AS "${one}"`);
    await client.end();
    for (const tenant of ["acme", "globex"]) await until(`pg_up{tenant="${tenant}"}`, 1);
    await until("pgs_server_up{tenant='acme'}", 1);
    await until('pgs_tenant_info{tenant="globex",access="false",state="running",version="18"}', 1);
    for (const name of [
      "pg_database_size_bytes",
      "pg_wal_size_bytes",
      "pg_stat_activity_count",
      "pg_settings_max_connections",
      "pg_locks_count",
      "pg_stat_database_xact_commit",
      "pg_database_wraparound_age_datfrozenxid_seconds",
      "pgs_disk_used_bytes",
      "pgs_server_memory_bytes",
      "pgs_server_cpu_seconds_total",
    ]) {
      await until(`count(count by (tenant) (${name}{stack="dev"}))`, ids.length);
    }
    await until("pgs_disk_limit_bytes", 2 ** 29);
    await until("pgs_disk_read_only", 0);
    for (const name of [
      "pgs_host_disk_free_bytes",
      "pgs_host_memory_promised_bytes",
      "pgs_certificate_not_after_timestamp_seconds",
      "sum(traefik_open_connections)",
    ]) {
      await eventually(patience, async () => expect(await valueNow(name), name).toBeGreaterThanOrEqual(0));
    }
  });

  test("knows what of the backups can be restored", async () => {
    await eventually(patience, async () => {
      const base = "pgs_backup_base_timestamp_seconds{tenant='wayne'}";
      expect(await valueNow(`time() - ${base} < bool 600`)).toBe(1);
      expect(await valueNow("pgs_backup_exposure_seconds{tenant='wayne'} < bool 300")).toBe(1);
      const first = "pgs_backup_first_recoverable_timestamp_seconds{tenant='wayne'}";
      expect(await valueNow(`${first} >= bool ${base}`)).toBe(1);
    });
  });

  test("has at most 150 series a tenant, however many databases, roles and statements that has", async () => {
    const ofTenants = '{tenant!="",__name__!~"ALERTS.*|pgs_alert.*"}';
    // Of each tenant's own database as well: its server was asked when it had all of them.
    const database = "pg_stat_database_xact_commit";
    const question = `count by (tenant) (${ofTenants}) and on (tenant) ${database}`;
    const counts = await eventually(patience, async () => {
      const found = await metrics.query(question);
      expect(found).toHaveLength(ids.length);
      return found;
    });
    for (const { value } of counts) expect(value).toBeLessThanOrEqual(150);
    expect(await metrics.query('{tenant="acme",datname!="",datname!="acme"}')).toEqual([]);
  });
});

test("each panel of the dashboards has data", async () => {
  const panels = Object.entries(dashboards).flatMap(([name, { panels = [] }]) =>
    (panels as Panel[]).flatMap(({ title, description = "", targets = [] }) =>
      (targets as { expr?: string }[]).map(({ expr = "" }) => ({ name, title, description, expr })),
    ),
  );
  // All in one question: how many series each of them finds.
  const question = panels
    .map(({ expr }, index) => {
      const asked = expr
        .replaceAll("$stack", "dev")
        .replaceAll("$tenant", "wayne")
        .replaceAll("$__rate_interval", "1m");
      return `label_replace(count(${asked}), "panel", "${index}", "", "")`;
    })
    .join(" or ");
  await checkout.query("wayne", "SELECT count(*) FROM pg_class");
  await eventually(patience, async () => {
    const found = (await metrics.query(question)).map(({ labels }) => Number(labels.panel));
    const empty = panels.filter(
      ({ description }, index) => !found.includes(index) && !description.startsWith("Only with"),
    );
    expect(empty).toEqual([]);
    expect(found.length).toBeGreaterThan(50);
  });
});

test("an existing Prometheus gets all of it", async () => {
  const name = nameOf("receiver");
  const { Image } = await inspect(nameOf("prometheus"));
  await docker(
    ...["run", "--detach", "--name", name, "--publish", `${existing}:9090`],
    ...["--entrypoint", "/bin/prometheus", Image],
    ...["--config.file=/dev/null", "--storage.tsdb.path=/prometheus", "--web.enable-remote-write-receiver"],
  );
  const query = ["promtool", "query", "instant", "http://127.0.0.1:9090", 'pg_up{stack="dev"} == 1'];
  await eventually(patience, async () => {
    const found = await docker("exec", name, ...query);
    for (const id of ids) expect(found).toContain(`tenant="${id}"`);
  });
  await docker("rm", "--force", "--volumes", name);
});

test("the dashboard's charts are those of Prometheus, and its host has what the proxy says", async () => {
  const client = await checkout.client("acme");
  await eventually(patience, async () =>
    expect(await valueNow('sum(traefik_open_connections{entrypoint="postgres"})')).toBeGreaterThan(0),
  );
  const [dashboard, browser] = await Promise.all([RunningDashboard.start(checkout), launch()]);
  try {
    const { page, wrong } = await watchedPage(browser);
    await page.goto(dashboard.address);
    const base = `http://127.0.0.1:${dashboard.port}/`;
    await page.goto(`${base}#/tenants/acme`);
    await page.getByRole("button", { name: "24 h" }).click();
    await page.locator("canvas").first().waitFor();
    const asked = `fetch("/api/tenants/acme/charts?hours=24").then((answer) => answer.json())`;
    await eventually(patience, async () => {
      const { value } = (await page.evaluate(asked)) as { value: Charts | null };
      expect(value?.source).toBe("monitoring");
      for (const name of seriesNames)
        expect(Math.max(...(value?.series[name] ?? []).map(Number)), name).toBeGreaterThan(0);
    });
    await page.goto(`${base}#/host`);
    await page.locator("dl.tiles").getByText("of clients, at the proxy").waitFor({ timeout: 90_000 });
    await eventually(patience, async () =>
      expect(await page.locator("dl.tiles").textContent()).toMatch(/Open connections *[1-9]/),
    );
    expect(wrong).toEqual([]);
  } finally {
    await Promise.all([dashboard.end(), browser.close(), client.end()]);
  }
});

test("a server that is down raises one alert, by command and webhook, and none for its consequences", async () => {
  await docker("kill", checkout.name("globex"));
  await fires("PgsTenantDown globex critical");
  const { code, stdout } = await checkout.pgs(["alerts"]);
  expect(code).toBe(1);
  expect(stdout).toMatch(/critical +globex +\d+s +The server is down +docs\/alerts\.md#pgstenantdown/);
  await eventually(patience, async () => expect(told("/alerts", "globex")).toEqual(["PgsTenantDown firing"]));
  expect(received[0]?.authorization).toBe("Bearer sesame-4711");
  await docker("start", checkout.name("globex"));
  await silence();
  await eventually(patience, async () =>
    expect(told("/alerts", "globex")).toEqual(["PgsTenantDown firing", "PgsTenantDown resolved"]),
  );
});

test("a watcher that is gone raises an alert, and is never taken for silence", async () => {
  await docker("kill", nameOf("exporter"));
  await fires("PgsExporterDown critical");
  await docker("kill", nameOf("relay"));
  await until("pgs_relay_up", 0);
  await docker("start", nameOf("exporter"));
  await until('up{job="exporter"}', 1);
  await fires("PgsExporterDown critical");
  await docker("start", nameOf("relay"));
  await silence();
  await checkout.query("acme", "ALTER ROLE pgs_monitor NOLOGIN");
  await fires("PgsExporterBlind acme critical");
  await checkout.query("acme", "ALTER ROLE pgs_monitor LOGIN");
  await silence();
  await docker("kill", checkout.name("proxy"));
  await fires("PgsProxyDown critical");
  await docker("start", checkout.name("proxy"));
  await silence();
  await docker("kill", nameOf("collector"));
  await fires("PgsCollectorDown critical");
  await docker("start", nameOf("collector"));
  await silence();
  await docker("kill", nameOf("prometheus"));
  const { code, output } = await checkout.pgs(["alerts"]);
  expect(code).toBe(2);
  expect(output).toContain("no Prometheus of this stack runs");
  await docker("start", nameOf("prometheus"));
  await allWatched();
}, 900_000);

describe("real faults", () => {
  /** All that fired since it began. */
  const fired = new Set<string>();
  let over = false;
  let begun: number;

  /** Each of these fires, at the same time or one after the other. */
  async function fire(...alerts: string[]): Promise<void> {
    await eventually(400, async () => expect([...fired]).toEqual(expect.arrayContaining(alerts)));
    console.log(`${alerts.join(", ")}: ${((performance.now() - begun) / 1000).toFixed(0)} s`);
  }

  async function watch(): Promise<void> {
    // On a busy machine it may give no answer in time.
    while (!over) for (const one of await firing().catch(() => [])) if (!unanswered(one)) fired.add(one);
  }

  const sessions = [
    "PgsConnections acme warning",
    "PgsDeadlocks acme warning",
    "PgsIdleInTransaction acme warning",
    "PgsLockWaits acme warning",
    "PgsLongTransaction acme warning",
  ];
  const allTaken = "PgsConnections acme critical";

  /** Sessions that are in each other's way. */
  async function disturb(): Promise<void> {
    const clients: Client[] = [];
    const connect = async () => {
      const client = await checkout.client("acme");
      clients.push(client);
      return client;
    };
    const holder = await connect();
    await holder.query("CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t VALUES (1), (2)");
    // A session's figures count at the latest when it ends.
    const [first, second] = [await checkout.client("acme"), await checkout.client("acme")];
    for (let round = 0; round < 7; round++) await deadlock(first, second);
    await Promise.all([first.end(), second.end()]);
    const [one, other] = [await connect(), await connect()];
    await holder.query("BEGIN; LOCK TABLE t");
    const waits = one.query("SELECT * FROM t").catch(() => {});
    const sleeps = other.query("SELECT pg_sleep(300)").catch(() => {});
    // Of the 67 that are not kept for superusers, the exporter needs two.
    while (clients.length < 55) await connect();
    await fire(...sessions);
    while (clients.length < 64) await connect();
    await fire(allTaken);
    await checkout.query(
      "acme",
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query IN ('SELECT * FROM t', 'SELECT pg_sleep(300)')",
    );
    await Promise.all([waits, sleeps]);
    await Promise.all(clients.map((client) => client.end()));
  }

  const walAndIds = ["PgsWalHeldBySlot acme warning", "PgsTransactionIdAge acme warning"];
  const oldest = "PgsTransactionIdAge acme critical";

  /** A slot without a reader, and enough transactions for the alerts of their age at this haste: 1/900 of those in earnest. */
  async function fallBehind(): Promise<void> {
    const client = await checkout.client("acme");
    await client.query("SELECT pg_create_physical_replication_slot('forgotten', true)");
    await client.query("SET wal_init_zero = off");
    await client.query(
      "SELECT pg_logical_emit_message(false, 'one', 'more'), pg_switch_wal() FROM generate_series(1, 66)",
    );
    await client.query("SET synchronous_commit = off");
    const begin = (count: number) =>
      client.query(
        `DO $$ BEGIN FOR i IN 1..${count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$`,
      );
    await begin(340_000);
    await fire(...walAndIds);
    await client.query("SELECT pg_drop_replication_slot('forgotten')");
    await begin(1_340_000);
    await fire(oldest);
    await client.end();
  }

  const disks = [
    "PgsDiskFullSoon hooli warning",
    "PgsDisk hooli warning",
    "PgsDisk hooli critical",
    "PgsDiskReadOnly hooli critical",
    "PgsHostDiskFullSoon warning",
    "PgsHostDisk warning",
    "PgsHostDisk critical",
  ];

  /** A tenant's budget and the disk of the proxy's volume, in steps. */
  async function fillUp(): Promise<void> {
    await checkout.query("hooli", "CREATE UNLOGGED TABLE filler (x text STORAGE EXTERNAL)");
    const used =
      "(SELECT sum(pg_database_size(oid)) FROM pg_database) + (SELECT sum(size) FROM pg_ls_waldir())";
    const fill = (part: number) =>
      Promise.all([
        checkout.query(
          "hooli",
          // Row by row: a long transaction is another alert.
          `DO $$ BEGIN
             PERFORM set_config('synchronous_commit', 'off', false);
             FOR i IN 1..((${part} * 2 ^ 29 - (${used})) / 1.05e6)::int LOOP
               INSERT INTO filler VALUES (repeat('x', 1000000));
               COMMIT;
             END LOOP;
           END $$`,
        ),
        onHostDisk(`dd if=/dev/zero of=ballast bs=1k count=${Math.round(part * (16 << 10))} conv=notrunc`),
      ]);
    const soon = disks.filter((one) => /FullSoon/.test(one));
    const seen = () => soon.every((one) => fired.has(one));
    while (!seen()) {
      // It grows until both are seen, or well below the next limit; and again where that was too fast for this machine.
      await checkout.query("hooli", "TRUNCATE filler");
      await onHostDisk("rm -f ballast");
      await fill(0.42);
      const started = performance.now();
      for (let part = 0.42; part < 0.77 && !seen(); await fill(part)) {
        part = Math.min(0.77, 0.42 + (0.006 * (performance.now() - started)) / 1000);
      }
    }
    await fire(...soon);
    await fill(0.85);
    await fire(...disks.filter((one) => /Disk .*warning/.test(one)));
    await fill(0.92);
    await fire(...disks.filter((one) => /Disk .*critical/.test(one)));
    // It may be cut off before it ends.
    await fill(0.97).catch(() => {});
    await fire(...disks);
    await onHostDisk("rm ballast");
    const client = await checkout.client("hooli");
    await client.query("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE");
    await client.query("DROP TABLE filler");
    await client.end();
  }

  const onHostDisk = (script: string) =>
    docker("exec", checkout.name("proxy"), "sh", "-c", `cd /etc/traefik/dynamic && ${script}`);

  const backups = [
    "PgsOffsiteBehind wayne warning",
    "PgsTriedRestore wayne warning",
    "PgsBackupExposure wayne critical",
    "PgsBaseBackupTooOld wayne warning",
  ];

  /**
   * S3 is away, the last tried restore was long ago, the base backup has lost a file, WAL is no longer received, and no
   * other base backup is made.
   */
  async function endBackups(): Promise<void> {
    s3.away = true;
    await checkout.query("wayne", "CREATE TABLE kept AS SELECT 1 AS n; SELECT pg_switch_wal()");
    await eventually(240, async () => expect(await tryRestore()).toBe(0));
    await until("pgs_trial_success", 1);
    await letTrialAge(9 * 86_400);
    await fire("PgsTriedRestore wayne warning", "PgsOffsiteBehind wayne warning");
    await until("pgs_trial_success", 1);
    await inBackups("find /var/lib/barman/tenant-wayne/base -name PG_VERSION -delete");
    expect(await tryRestore()).toBe(1);
    await inBackups("kill -STOP $(grep -l pg_receivewal /proc/[0-9]*/comm | cut -d / -f 3)");
    await checkout.query("wayne", "CREATE TABLE lost AS SELECT 1 AS n");
    await fire(...backups);
    // It fires still, and the failure is the only reason since the last evaluations.
    const failed = "(pgs_trial_success offset 20s == 0 and time() - pgs_trial_timestamp_seconds < 700)";
    await until(
      `count(ALERTS{alertname="PgsTriedRestore",alertstate="firing"} and on (tenant) ${failed})`,
      1,
    );
    s3.away = false;
    await inBackups("kill -CONT $(grep -l pg_receivewal /proc/[0-9]*/comm | cut -d / -f 3)");
  }

  async function tryRestore(): Promise<number> {
    const { code } = await checkout.pgs(["try-restores", "wayne"]);
    return code;
  }

  /** The note of the tried restore says that it was so many seconds earlier. */
  async function letTrialAge(seconds: number): Promise<void> {
    const { Image } = await inspect(nameOf("collector"));
    const script = `import json; f = open("/trials/wayne.json", "r+"); d = json.load(f); d["at"] -= ${seconds}; f.seek(0); json.dump(d, f); f.truncate()`;
    await docker(
      ...["run", "--rm", "--network", "none", "--user", "0", "--volume", `${nameOf("trials")}:/trials`],
      ...["--entrypoint", "python3", Image, "-c", script],
    );
  }

  const inBackups = (script: string) => docker("exec", checkout.name("wayne--backup"), "bash", "-c", script);

  test("of sessions, disks, backups, WAL and transaction IDs have an alert each, until they are mended", async () => {
    begun = performance.now();
    const watching = watch();
    try {
      await Promise.all([disturb(), fallBehind(), fillUp(), endBackups()]);
      // What is still visible to an open transaction is not frozen: now there is none.
      await docker("exec", checkout.name("acme"), "vacuumdb", "--username", "postgres", "--all", "--freeze");
    } finally {
      over = true;
      await watching;
    }
    const expected = [...sessions, allTaken, ...walAndIds, oldest, ...disks, ...backups];
    expect([...fired].sort()).toEqual(expected.sort());
    // The alert of deadlocks covers the last ten minutes, so it fires that long.
    const others = async () => (await firing()).filter((one) => !/ wayne |^PgsDeadlocks acme/.test(one));
    await eventually(patience, async () => expect(await others()).toEqual([]));
  }, 900_000);
});

/** Two transactions that want each other's rows: PostgreSQL ends one of them. */
async function deadlock(one: Client, other: Client): Promise<void> {
  const lock = (client: Client, row: number) => client.query(`UPDATE t SET i = i WHERE i = ${row}`);
  for (const client of [one, other]) await client.query("SET deadlock_timeout = '10ms'; BEGIN");
  await Promise.all([lock(one, 1), lock(other, 2)]);
  await Promise.allSettled([lock(one, 2), lock(other, 1)]);
  for (const client of [one, other]) await client.query("ROLLBACK");
}

test("the secret of the webhook stands in its file alone", async () => {
  const file = await docker(
    "exec",
    nameOf("alertmanager"),
    "stat",
    "--format",
    "%a %u",
    "/alertmanager/webhookToken",
  );
  expect(file.trim()).toBe("600 65534");
  const seen = [
    await docker("inspect", nameOf("alertmanager"), nameOf("prometheus")),
    await docker("exec", nameOf("alertmanager"), "cat", "/pgs/alertmanager.yml"),
    await checkout.pulumi("stack", "export"),
  ];
  for (const text of seen) expect(text).not.toContain("sesame");
});

/** The operator's own certificate ends in so many days: its files are replaced where they are. */
const certify = (days: number) => certificateFiles(checkout.folder, "*.pgs.localhost", "own", days);

test("new receivers get alerts without a restart; a certificate ends soon; a stopped tenant raises no alert", async () => {
  const ofWatchers = async () =>
    (await starts()).split("\n").filter((line) => /--(prometheus|alertmanager) /.test(line));
  const before = await ofWatchers();
  expect(before).toHaveLength(2);
  const ofGlobex = async () => (await firing()).filter((one) => / globex /.test(one));
  const certificate = certify(13);
  const changed = {
    "certificate.chain": certificate.chain,
    "certificate.key": certificate.key,
    "monitoring.alerts.webhook": `${webhook}/another`,
    "monitoring.alerts.slack": "#operations",
    "monitoring.alerts.email.to": "ops@example.com",
    "monitoring.alerts.email.from": "pgs@example.com",
    "monitoring.alerts.email.smarthost": `${own}:${mail.port}`,
    "monitoring.alerts.email.username": "pgs",
  };
  const secrets = { slackUrl: `${webhook}/slack`, smtpPassword: "sesame-4712" };
  const pairs = [
    ...Object.entries(changed).flatMap(([key, value]) => ["--plaintext", `pgs:${key}=${value}`]),
    ...Object.entries(secrets).flatMap(([key, value]) => [
      "--secret",
      `pgs:alertCredentials.${key}=${value}`,
    ]),
  ];
  await checkout.pulumi("config", "set-all", "--path", ...pairs);
  await trust(readFileSync(mail.certificate, "utf8"));
  await checkout.apply(tenants(", state: stopped"));
  expect(await ofWatchers()).toEqual(before);
  await eventually(patience, async () => expect(await firing()).toContain("PgsCertificate warning"));
  expect(await ofGlobex()).toEqual([]);
  await eventually(patience, async () => expect(told("/another")).toContain("PgsCertificate firing"));
  const ofSlack = () =>
    received.filter(({ path, channel }) => path === "/slack" && channel === "#operations");
  await eventually(patience, async () => {
    const attachments = ofSlack().flatMap((message) => message.attachments ?? []);
    const found = attachments.find(({ title }) => title === "PgsCertificate (firing)");
    expect(found?.text).toContain("The proxy's certificate ends soon");
    expect(found?.text).toContain("docs/alerts.md#pgscertificate");
  });
  await eventually(patience, async () => {
    const found = mail.messages.find(({ text }) => /^Subject: .*FIRING.*PgsCertificate/m.test(text));
    expect(found).toMatchObject({ from: "pgs@example.com", to: ["ops@example.com"] });
    expect(found?.login).toEqual({ user: "pgs", password: "sesame-4712" });
    // Quoted-printable: its lines end early.
    expect(found?.text.replaceAll("=\n", "")).toContain("docs/alerts.md#pgscertificate");
  });
  certify(2);
  await checkout.apply(tenants());
  await eventually(patience, async () => expect(await firing()).toContain("PgsCertificate critical"));
  await new Promise((resolve) => setTimeout(resolve, 8000));
  expect(await ofGlobex()).toEqual([]);
}, 900_000);

/** Alertmanager's container takes mail servers' certificates that are signed by this one too, as if it were a public CA's. */
async function trust(certificate: string): Promise<void> {
  const { State } = await inspect(nameOf("alertmanager"));
  const bundle = "/etc/ssl/certs/ca-certificates.crt";
  const script = `mount -o remount,bind,rw / && cat >>${bundle} && mount -o remount,bind,ro /`;
  const enter = ["--target", String(State.Pid), "--mount", "sh", "-c", script];
  await succeed("nsenter", enter, { stdin: certificate });
}

test("a server that is short of memory, and one that restarts again and again, are told of", async () => {
  const { code, output } = await run("docker", [
    ...["exec", checkout.name("globex"), "psql", "--username", "postgres"],
    ...["--command", "SELECT length(repeat('x', 900000000))"],
  ]);
  expect(code, output).not.toBe(0);
  await eventually(patience, async () => expect(await firing()).toContain("PgsOutOfMemory globex critical"));
  for (let count = 1; count <= 3; count++) {
    await eventually(patience, async () => {
      await succeed("docker", ["exec", checkout.name("globex"), "pg_isready"]);
    });
    await inContainer(checkout, "globex", "kill -INT 1");
    await eventually(patience, async () =>
      expect((await inspect(checkout.name("globex"))).RestartCount).toBe(count),
    );
  }
  await eventually(patience, async () => expect(await firing()).toContain("PgsRestartLoop globex critical"));
}, 900_000);

describe("a stack that is watched, and changed", () => {
  test("has no difference when it is applied again; what is changed by hand is seen, and put right", async () => {
    const output = await checkout.up();
    expect(output).not.toMatch(/updated|created|replaced|deleted/);
    await succeed("docker", ["rm", "--force", nameOf("exporter")]);
    const hba = "/var/lib/postgresql/18/docker/pg_hba.conf";
    await succeed("docker", ["exec", checkout.name("globex"), "sed", "-i", "/pgs_monitor/d", hba]);
    const preview = await checkout.pulumi("preview", "--refresh", "--diff");
    expect(preview).toContain("exporter");
    expect(preview).toMatch(/globex/);
    // The next tests' clients verify the certificate.
    await checkout.pulumi("config", "rm", "pgs:certificate");
    await checkout.up("--refresh");
    await succeed("docker", ["exec", checkout.name("globex"), "grep", "-q", "^host all pgs_monitor", hba]);
    await isSeen("globex");
  });

  test("sees a server that is down, and a tenant that comes and goes, and restarts nothing for it", async () => {
    const before = await starts();
    await checkout.apply(`${tenants()}  initech: {}\n`);
    await until('pgs_server_up{tenant="initech"}', 1);
    await eventually(patience, async () =>
      expect(await fetched(`http://${nameOf("prometheus")}:9090/api/v1/targets`)).toContain(
        '"tenant":"initech"',
      ),
    );
    await isSeen("initech");
    const after = await starts();
    for (const line of before.trim().split("\n")) expect(after).toContain(line);
    await succeed("docker", ["stop", checkout.name("initech")]);
    await until('pgs_server_up{tenant="initech"}', 0);
    await checkout.apply(tenants());
    await eventually(patience, async () =>
      expect(await fetched(`http://${nameOf("collector")}:9101/targets`)).not.toContain("initech"),
    );
    expect(await starts()).toBe(before);
  });
});

describe("a tenant", () => {
  test("reaches nothing that watches it, nor the way that it is watched by", async () => {
    const network = checkout.name("-monitoring");
    const addresses = await Promise.all(
      watchers.map((watcher) =>
        succeed("docker", [
          ...["inspect", "--format", `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`],
          nameOf(watcher),
        ]),
      ),
    );
    const ports = [9090, 9187, 9101, 5432];
    const targets = addresses.map((address, index) => `${address.trim()}:${ports[index]}`);
    const shell = (script: string) => bySql(checkout, "acme", script);
    const reached = await connectTo(shell, targets);
    expect(Object.values(reached)).toEqual(watchers.map(() => "closed"));
    const format = `{{(index .NetworkSettings.Networks "${checkout.name("acme")}").IPAddress}}`;
    const proxy = (await succeed("docker", ["inspect", "--format", format, checkout.name("proxy")])).trim();
    // The entry point is there, and answers nobody else.
    const asked = `exec 3<>/dev/tcp/${proxy}/8082; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; timeout 5 head -1 <&3`;
    expect(await shell(asked)).toContain("404");
    for (const host of ["globex", "acme"]) {
      const connection = `host=${host}.pgs.localhost hostaddr=${proxy} port=5433 user=pgs_monitor dbname=${host} sslmode=require`;
      const answer = await shell(`PGPASSWORD=x timeout 10 psql "${connection}" -c 'SELECT 1' 2>&1`);
      expect(answer).toMatch(/SSL|closed|EOF/i);
      expect(answer).not.toMatch(/password authentication/);
    }
    // From outside, that role has no route of its own either.
    const { output } = await run("bash", [
      "-c",
      `PGPASSWORD=x timeout 10 "$PSQL18" "host=globex.pgs.localhost hostaddr=127.0.0.1 port=${checkout.port} user=pgs_monitor dbname=globex sslmode=require" -c 'SELECT 1' 2>&1; true`,
    ]);
    expect(output).not.toMatch(/password authentication/);
  });

  test("that hangs, or lies, holds up no other, and gets no password", async () => {
    const client = await checkout.client("acme");
    // What asks for the password in the clear gets none; and a function of its own in place of PostgreSQL's.
    const hba = "/var/lib/postgresql/18/docker/pg_hba.conf";
    await bySql(
      checkout,
      "acme",
      `sed -i 's/^host all pgs_monitor .*/host all pgs_monitor all password/' ${hba}`,
    );
    await client.query("SELECT pg_reload_conf()");
    expect(await probe("acme")).toMatch(/^pg_up 0$/m);
    await client.end();
    await succeed("docker", ["pause", checkout.name("acme")]);
    try {
      let hangs = true;
      const slow = probe("acme").finally(() => {
        hangs = false;
      });
      await isSeen("globex");
      expect(hangs).toBe(true);
      // It ends by itself.
      expect(await slow).toMatch(/^pg_up 0$/m);
    } finally {
      await succeed("docker", ["unpause", checkout.name("acme")]);
    }
    await checkout.up("--refresh");
    await isSeen("acme");
  });
});

test("no password of monitoring stands where it could be read", async () => {
  const state = await checkout.pulumi("stack", "export", "--show-secrets");
  const passwords = [...state.matchAll(/pgs_monitor\\?": ?\\?"([0-9a-f]{64})/g)].map(
    ([, one]) => one as string,
  );
  const key = (await succeed("docker", ["exec", nameOf("relay"), "cat", "/var/lib/barman/key"])).trim();
  expect(new Set(passwords).size).toBeGreaterThanOrEqual(2);
  expect(key).toHaveLength(40);
  const names = [...watchers.map(nameOf), checkout.name("acme"), checkout.name("proxy")];
  const seen = [
    await succeed("docker", ["inspect", ...names]),
    ...(await Promise.all(names.map(async (name) => (await run("docker", ["logs", name])).output))),
    ...(await Promise.all(
      names.map(async (name) => {
        const script = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; true";
        return (await run("docker", ["exec", "--user", "0", name, "sh", "-c", script])).output;
      }),
    )),
    await fetched(`http://${nameOf("prometheus")}:9090/api/v1/targets`),
    await fetched(`http://${nameOf("prometheus")}:9090/api/v1/status/config`),
    await fetched(`http://${nameOf("collector")}:9101/metrics`),
    await checkout.pulumi("stack", "export"),
    await checkout.pulumi("stack", "output", "--json"),
  ];
  for (const text of seen) {
    for (const secret of [key, ...passwords]) expect(text.includes(secret), text.slice(0, 80)).toBe(false);
  }
});

test("./pgs metrics shows Prometheus's own page on this machine, and ends with Ctrl-C", async () => {
  const command = spawn(join(checkout.folder, "pgs"), ["metrics"], {
    cwd: checkout.folder,
    env: checkout.env,
  });
  const ended = new Promise<number | null>((resolve) => command.on("exit", resolve));
  const url = await new Promise<string>((resolve, reject) => {
    command.stdout.once("data", (data) => resolve(String(data).trim()));
    void ended.then((code) => reject(new Error(`it ended with ${code}`)));
  });
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
  await eventually(patience, async () => {
    const answer = await fetch(`${url}api/v1/query?query=up`);
    expect(await answer.json()).toMatchObject({ status: "success" });
    expect((await fetch(url)).status).toBe(200);
  });
  command.kill("SIGINT");
  expect(await ended).toBe(0);
});

test("drift that the nightly run finds is told of", async () => {
  await docker("rm", "--force", nameOf("cancel"));
  const options = ["--refresh", "--expect-no-changes", "--non-interactive", "--color", "never"];
  const { code, output } = await checkout.pgs(["preview", ...options, "--note-drift"]);
  expect(code, output).not.toBe(0);
  await eventually(patience, async () => expect(await firing()).toContain("PgsDrift warning"));
});
