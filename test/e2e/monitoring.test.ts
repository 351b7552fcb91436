import { spawn } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Metrics } from "../../cli/lib/metrics";
import { Checkout, withBackups } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { bySql, connectTo } from "./support/inside";

// One stack that is watched: alerts, disks and the dashboard are tried on it too.
const two = "tenants: { acme: { disk: 10Gi }, globex: { access: false } }\n";
const three = "tenants: { acme: { disk: 10Gi }, globex: { access: false }, hooli: {} }\n";
const watchers = ["prometheus", "exporter", "collector", "relay"];

let checkout: Checkout;
let metrics: Metrics;

beforeAll(async () => {
  checkout = await Checkout.create(two, { ...withBackups, "monitoring.enabled": "true" });
  await checkout.up();
  const stack = (await checkout.pulumi("stack", "output", "stack")).trim();
  metrics = (await Metrics.of({ dockerHost: undefined }, { stack })) as Metrics;
});
afterAll(() => checkout?.remove());

const nameOf = (watcher: string) => checkout.name(`-${watcher}`);

/** The value of one series; undefined while it is not there. */
async function valueNow(expression: string): Promise<number | undefined> {
  return (await metrics.query(expression))[0]?.value;
}

const until = (seconds: number, expression: string, value: number) =>
  eventually(seconds, async () => expect(await valueNow(expression), expression).toBe(value));

/** When each container of the stack was started. */
async function starts(): Promise<string> {
  const names = (await succeed("docker", ["ps", "--format", "{{.Names}}"])).split("\n");
  const ours = names.filter((name) => name.startsWith(`${checkout.prefix}-`)).sort();
  return succeed("docker", ["inspect", "--format", "{{.Name}} {{.Id}} {{.State.StartedAt}}", ...ours]);
}

/** Asked of the monitoring network itself. */
async function fetched(url: string): Promise<string> {
  const script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).read().decode())";
  return succeed("docker", ["exec", nameOf("collector"), "python3", "-c", script, url]);
}

/** What the exporter says of a tenant now: Prometheus asks it once a minute. */
function probe(id: string): Promise<string> {
  const target = `postgresql://pgs_monitor@${nameOf("relay")}:5432/${id}?sslmode=disable`;
  return fetched(`http://${nameOf("exporter")}:9187/probe?target=${target}`);
}

describe("a stack that is watched", () => {
  test("has series of each tenant, also of one that no client may come to", async () => {
    const client = await checkout.client("acme");
    for (let one = 0; one < 8; one++) await client.query(`CREATE DATABASE "db ${one}"`);
    for (let one = 0; one < 20; one++)
      await client.query(`CREATE ROLE "role ${one}"; SELECT ${one} AS "${one}"`);
    await client.end();
    for (const tenant of ["acme", "globex"]) await until(100, `pg_up{tenant="${tenant}"}`, 1);
    await until(100, "pgs_server_up{tenant='acme'}", 1);
    await until(10, 'pgs_tenant_info{tenant="globex",access="false",state="running",version="18"}', 1);
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
      expect(await valueNow(`count(count by (tenant) (${name}{stack="dev"}))`), name).toBe(2);
    }
    await until(10, "pgs_disk_limit_bytes", 10 * 2 ** 30);
    await until(10, "pgs_disk_read_only", 0);
    for (const name of [
      "pgs_host_disk_free_bytes",
      "pgs_host_memory_promised_bytes",
      "pgs_certificate_not_after_timestamp_seconds",
      "sum(traefik_open_connections)",
    ]) {
      expect(await valueNow(name), name).toBeGreaterThanOrEqual(0);
    }
  });

  test("knows what of the backups can be restored", async () => {
    await eventually(120, async () => {
      const base = "pgs_backup_base_timestamp_seconds{tenant='acme'}";
      expect(await valueNow(`time() - ${base} < bool 600`)).toBe(1);
      expect(await valueNow("pgs_backup_exposure_seconds{tenant='acme'} < bool 300")).toBe(1);
      const first = "pgs_backup_first_recoverable_timestamp_seconds{tenant='acme'}";
      expect(await valueNow(`${first} >= bool ${base}`)).toBe(1);
    });
  });

  test("has at most 150 series a tenant, however many databases, roles and statements that has", async () => {
    const counts = await metrics.query('count by (tenant) ({tenant!="",__name__!~"ALERTS.*|pgs_alert.*"})');
    expect(counts.length).toBe(2);
    for (const { value } of counts) expect(value).toBeLessThanOrEqual(150);
    expect(await metrics.query('{tenant="acme",datname!="",datname!="acme"}')).toEqual([]);
  });

  test("and is applied again has no difference; what is changed by hand is seen, and put right", async () => {
    const output = await checkout.up();
    expect(output).not.toMatch(/updated|created|replaced|deleted/);
    await succeed("docker", ["rm", "--force", nameOf("exporter")]);
    const hba = "/var/lib/postgresql/18/docker/pg_hba.conf";
    await succeed("docker", ["exec", checkout.name("globex"), "sed", "-i", "/pgs_monitor/d", hba]);
    const preview = await checkout.pulumi("preview", "--refresh", "--diff");
    expect(preview).toContain("exporter");
    expect(preview).toMatch(/globex/);
    await checkout.up("--refresh");
    await succeed("docker", ["exec", checkout.name("globex"), "grep", "-q", "^host all pgs_monitor", hba]);
    expect(await probe("globex")).toMatch(/^pg_up 1$/m);
  });

  test("sees a server that is down, and a tenant that comes and goes, and restarts nothing for it", async () => {
    const before = await starts();
    await checkout.apply(three);
    await until(30, 'pgs_server_up{tenant="hooli"}', 1);
    expect(await fetched(`http://${nameOf("prometheus")}:9090/api/v1/targets`)).toContain('"tenant":"hooli"');
    expect(await probe("hooli")).toMatch(/^pg_up 1$/m);
    const after = await starts();
    for (const line of before.trim().split("\n")) expect(after).toContain(line);
    await succeed("docker", ["stop", checkout.name("hooli")]);
    await until(40, 'pgs_server_up{tenant="hooli"}', 0);
    await checkout.apply(two);
    await eventually(30, async () =>
      expect(await fetched(`http://${nameOf("collector")}:9101/targets`)).not.toContain("hooli"),
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
      const slow = probe("acme").catch(() => "");
      const begun = performance.now();
      expect(await probe("globex")).toMatch(/^pg_up 1$/m);
      expect(performance.now() - begun).toBeLessThan(5000);
      expect(await slow).not.toMatch(/^pg_up 1$/m);
      expect(performance.now() - begun).toBeLessThan(25_000);
    } finally {
      await succeed("docker", ["unpause", checkout.name("acme")]);
    }
    await checkout.up("--refresh");
    expect(await probe("acme")).toMatch(/^pg_up 1$/m);
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
  const answer = await fetch(`${url}api/v1/query?query=up`);
  expect(await answer.json()).toMatchObject({ status: "success" });
  expect((await fetch(url)).status).toBe(200);
  command.kill("SIGINT");
  expect(await ended).toBe(0);
});
