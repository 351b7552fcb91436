import { createServer, type Server } from "node:http";
import { networkInterfaces } from "node:os";
import type { Panel } from "@grafana/grafana-foundation-sdk/dashboard";
import type { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { firingAlerts } from "../../cli/lib/alerts";
import { Metrics } from "../../cli/lib/metrics";
import { dashboards } from "../../monitoring/dashboards";
import { Checkout, withBackups } from "./support/checkout";
import { eventually, succeed } from "./support/command";

// Real faults on one stack, with the rules in haste: five minutes are ten seconds.
const env = { PGS_MONITORING_HASTE: "30" };
const tenants = `tenants:
  acme: { maxConnectionsPerClient: 30, settings: { max_connections: 30 } }
  globex: { memory: 256Mi }
`;

let checkout: Checkout;
let metrics: Metrics;
let receiver: Server;
/** What the webhook got: its authorization, and the alerts. */
const received: { authorization?: string; alerts: { status: string; labels: Record<string, string> }[] }[] =
  [];

beforeAll(async () => {
  receiver = createServer((request, response) => {
    let body = "";
    request.on("data", (data) => {
      body += data;
    });
    request.on("end", () => {
      received.push({ authorization: request.headers.authorization, alerts: JSON.parse(body).alerts });
      response.end();
    });
  });
  await new Promise<void>((resolve) => receiver.listen(0, resolve));
  const { port } = receiver.address() as { port: number };
  const addresses = Object.values(networkInterfaces()).flat();
  const own = addresses.find((one) => one?.family === "IPv4" && !one.internal)?.address;
  checkout = await Checkout.create(
    tenants,
    {
      ...withBackups,
      "monitoring.enabled": "true",
      "monitoring.alerts.webhook": `http://${own}:${port}/alerts`,
    },
    env,
  );
  await checkout.pulumi(
    "config",
    "set",
    "--secret",
    "--path",
    "pgs:alertCredentials.webhookToken",
    "sesame-4711",
  );
  await checkout.up();
  const stack = (await checkout.pulumi("stack", "output", "stack")).trim();
  metrics = (await Metrics.of({ dockerHost: undefined }, { stack })) as Metrics;
});
afterAll(async () => {
  receiver?.close();
  await checkout?.remove();
});

const nameOf = (watcher: string) => checkout.name(`-${watcher}`);
const docker = (...args: string[]) => succeed("docker", args);

/** What fires, by name, tenant and severity, as `./pgs alerts` asks for it. */
async function firing(): Promise<string[]> {
  const found = await firingAlerts((expression) => metrics.query(expression));
  return found.map(({ alert, tenant, severity }) => [alert, tenant, severity].filter(Boolean).join(" "));
}

/** These alerts fire in time, and no other. */
async function fires(seconds: number, ...alerts: string[]): Promise<void> {
  const begun = performance.now();
  await eventually(seconds, async () => expect((await firing()).sort()).toEqual(alerts.sort()));
  console.log(`${alerts.join(", ") || "silence"}: ${((performance.now() - begun) / 1000).toFixed(0)} s`);
}

const silence = (seconds: number) => fires(seconds);

test("a stack is silent when it is new, and when all is well", async () => {
  expect((await checkout.pgs(["alerts"])).stdout).toBe("No alert fires.\n");
  await eventually(60, async () => expect(await metrics.query("pgs:tenant_watched")).toHaveLength(2));
  await eventually(60, async () => expect(await metrics.query("pg_up == 1")).toHaveLength(2));
  expect(await checkout.pgs(["alerts", "--json"])).toMatchObject({ code: 0, stdout: "[]\n" });
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
        .replaceAll("$tenant", "acme")
        .replaceAll("$__rate_interval", "1m");
      return `label_replace(count(${asked}), "panel", "${index}", "", "")`;
    })
    .join(" or ");
  await checkout.query("acme", "SELECT count(*) FROM pg_class");
  await eventually(60, async () => {
    const found = (await metrics.query(question)).map(({ labels }) => Number(labels.panel));
    const empty = panels.filter(
      ({ description }, index) => !found.includes(index) && !description.startsWith("Only with"),
    );
    expect(empty).toEqual([]);
    expect(found.length).toBeGreaterThan(50);
  });
});

test("a server that is down is told of by command and webhook, and nothing that follows from it", async () => {
  await docker("kill", checkout.name("globex"));
  await fires(60, "PgsTenantDown globex critical");
  const { code, stdout } = await checkout.pgs(["alerts"]);
  expect(code).toBe(1);
  expect(stdout).toMatch(/critical +globex +\d+s +The server is down +docs\/alerts\.md#pgstenantdown/);
  await eventually(60, async () => expect(told()).toEqual(["PgsTenantDown firing"]));
  expect(received[0]?.authorization).toBe("Bearer sesame-4711");
  await docker("start", checkout.name("globex"));
  await silence(60);
  await eventually(60, async () =>
    expect(told()).toEqual(["PgsTenantDown firing", "PgsTenantDown resolved"]),
  );
});

/** What the webhook was told. */
function told(): string[] {
  const all = received.flatMap(({ alerts }) =>
    alerts.map(({ status, labels }) => `${labels.alertname} ${status}`),
  );
  return [...new Set(all)];
}

test("what no longer watches is told of, and never taken for silence", async () => {
  await docker("kill", nameOf("exporter"));
  await fires(60, "PgsExporterDown critical");
  await docker("start", nameOf("exporter"));
  await silence(60);
  await checkout.query("acme", "ALTER ROLE pgs_monitor NOLOGIN");
  await fires(60, "PgsExporterBlind acme critical");
  await checkout.query("acme", "ALTER ROLE pgs_monitor LOGIN");
  await silence(60);
  await docker("kill", checkout.name("proxy"));
  await fires(60, "PgsProxyDown critical");
  await docker("start", checkout.name("proxy"));
  await silence(60);
  await docker("kill", nameOf("collector"));
  await fires(60, "PgsCollectorDown critical");
  await docker("start", nameOf("collector"));
  await silence(60);
  await docker("kill", nameOf("prometheus"));
  const { code, output } = await checkout.pgs(["alerts"]);
  expect(code).toBe(2);
  expect(output).toContain("no Prometheus of this stack runs");
  await docker("start", nameOf("prometheus"));
  await eventually(60, async () => expect(await metrics.query("pgs:tenant_watched")).toHaveLength(2));
});

test("a tenant that is stopped alarms nobody, nor when it comes back", async () => {
  const stopped = tenants.replace("256Mi }", "256Mi, state: stopped }");
  await checkout.apply(stopped);
  await new Promise((resolve) => setTimeout(resolve, 8000));
  expect(await firing()).toEqual([]);
  await checkout.apply(tenants);
  await new Promise((resolve) => setTimeout(resolve, 8000));
  expect(await firing()).toEqual([]);
});

test("sessions that are in each other's way are told of, and deadlocks", async () => {
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
  while (clients.length < 24) await connect();
  await fires(
    90,
    "PgsConnections acme warning",
    "PgsDeadlocks acme warning",
    "PgsIdleInTransaction acme warning",
    "PgsLockWaits acme warning",
    "PgsLongTransaction acme warning",
  );
  await checkout.query(
    "acme",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
  );
  await Promise.all([waits, sleeps]);
  // Those of the last ten minutes are told of as long.
  await fires(60, "PgsDeadlocks acme warning");
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

test("drift that the nightly run finds is told of", async () => {
  await docker("rm", "--force", nameOf("cancel"));
  const options = ["--refresh", "--expect-no-changes", "--non-interactive", "--color", "never"];
  const { code, output } = await checkout.pgs(["preview", ...options, "--note-drift"]);
  expect(code, output).not.toBe(0);
  await eventually(60, async () => expect(await firing()).toContain("PgsDrift warning"));
});
