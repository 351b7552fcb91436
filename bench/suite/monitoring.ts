import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { firingAlerts } from "../../cli/lib/alerts";
import { Metrics } from "../../cli/lib/metrics";
import { Checkout } from "../../test/e2e/support/checkout";
import { eventually, succeed } from "../../test/e2e/support/command";
import { ids, median, seconds, tenantsFile } from "../support";
import { processorSeconds, pss } from "./memory";
import { type Row, ratioOf } from "./row";

/** Tenants; PGS_BENCH_TENANTS=1,3 for a try. */
const sizes = (process.env.PGS_BENCH_TENANTS ?? "1,50,200").split(",").map(Number);

/** Seconds in which processor time is counted. */
const counted = 120;

/** Pairs of runs of pgbench, watched and not, and seconds of each run. */
const pairs = 10;
const duration = 12;

const watchers = ["prometheus", "exporter", "relay", "collector"];

/**
 * What it costs to watch a stack: its tenants' throughput, processor, memory, series, the time of a scrape, of an `up`
 * and of a preview, and the time from a fault to its alert.
 */
export async function monitoring(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const size of sizes) rows.push(...(await watched(size)));
  return rows;
}

async function watched(size: number): Promise<Row[]> {
  const tenants = `${size} tenant${size === 1 ? "" : "s"}`;
  const checkout = await Checkout.create(tenantsFile(ids(size)));
  try {
    await checkout.up();
    await pgbench(checkout, "--initialize", "--scale", "10");
    const runsWithout = await unchanged(checkout);
    await checkout.pulumi("config", "set", "--path", "pgs:monitoring.enabled", "true");
    await checkout.up();
    const stack = (await checkout.pulumi("stack", "output", "stack")).trim();
    const metrics = await Metrics.of({ dockerHost: undefined }, { stack });
    if (!metrics) throw new Error("there is no Prometheus");
    const value = async (expression: string) => (await metrics.query(expression))[0]?.value ?? Number.NaN;
    await eventually(300, async () => {
      const up = await value("sum(pg_up)");
      if (up !== size) throw new Error(`${up} of ${size} are seen`);
    });
    const runsWithIt = await unchanged(checkout);
    const names = watchers.map((watcher) => checkout.name(`-${watcher}`));
    const queries = await throughput(checkout, names);
    const spent = async () =>
      (await Promise.all(names.map((name) => processorSeconds(name, /./)))).reduce(sum);
    const [cpu, slept] = [await spent(), performance.now()];
    await delay(counted * 1000);
    const share = (((await spent()) - cpu) / ((performance.now() - slept) / 1000)) * 100;
    const memory = (await Promise.all(names.map((name) => pss(name)))).reduce(sum);
    const series = await value('max(count by (tenant) ({tenant!=""}))');
    const scrapes = await value('sum(scrape_duration_seconds{job="postgres"})');
    const longest = await value('max(scrape_duration_seconds{job="postgres"})');
    const atOnce = await scrapeAtOnce(checkout, ids(size));
    // No alert is about a tenant in its first five minutes.
    await eventually(400, async () => {
      const settled = await value("count(pgs:tenant_watched)");
      if (settled !== size) throw new Error(`alerts are about ${settled} of ${size}`);
    });
    const toldAfter = await fault(checkout, metrics);
    return [
      {
        figure: `pgbench -S -M prepared, 4 clients, of a tenant that is watched, of ${tenants}`,
        measured: `${queries.watched.toFixed(0)} queries/s`,
        against: `while what watches is paused: ${queries.paused.toFixed(0)}`,
        ratio: queries.watched / queries.paused,
        aim: "≥ 0.99",
        met: queries.watched / queries.paused >= 0.99,
      },
      row(
        `processor of what watches ${tenants}`,
        `${share.toFixed(1)} % of a core`,
        "≤ 3 % at 50",
        share <= 3,
      ),
      row(
        `memory of what watches ${tenants} (PSS)`,
        `${memory.toFixed(0)} MiB`,
        "≤ 150 MiB at 50",
        memory <= 150,
      ),
      row(`series of a tenant, of ${tenants} (most)`, String(series), "≤ 150", series <= 150),
      row(
        `one scrape of all, of ${tenants}`,
        `${atOnce.toFixed(2)} s at once; as Prometheus does it, over a minute, ${scrapes.toFixed(2)} s in all, the longest ${longest.toFixed(2)} s`,
        "≤ 5 s at 200",
        atOnce <= 5,
      ),
      ...(["up", "preview"] as const).map((run) =>
        ratioOf(
          `${run} without a change of ${tenants}, watched`,
          runsWithIt[run],
          { what: "not watched", measured: runsWithout[run] },
          { atMost: 1.25 },
        ),
      ),
      row(
        `from a server's end to its alert, of ${tenants}`,
        `${toldAfter.toFixed(0)} s`,
        "≤ 120 s",
        toldAfter <= 120,
      ),
    ];
  } finally {
    await checkout.remove();
  }
}

const sum = (one: number, other: number) => one + other;

function row(figure: string, measured: string, aim: string, met: boolean): Row {
  return { figure, measured, against: "nothing", aim, met };
}

/** Seconds of an `up` and of a preview that have nothing to do. */
async function unchanged(checkout: Checkout): Promise<{ up: number; preview: number }> {
  return {
    up: await seconds(() => checkout.up("--expect-no-changes")),
    preview: await seconds(() => checkout.pulumi("preview", "--expect-no-changes")),
  };
}

/** Asks the exporter for all tenants, eight at a time. @returns seconds */
async function scrapeAtOnce(checkout: Checkout, tenants: string[]): Promise<number> {
  const script = `
import concurrent.futures, sys, time, urllib.request
exporter, relay, *tenants = sys.argv[1:]
def probe(tenant):
    url = f"http://{exporter}:9187/probe?target=postgresql://pgs_monitor@{relay}:5432/{tenant}?sslmode=disable"
    with urllib.request.urlopen(url, timeout=12) as answer:
        assert b"\\npg_up 1" in answer.read(), tenant
begun = time.monotonic()
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(probe, tenants))
print(time.monotonic() - begun)`;
  const [collector, exporter, relay] = ["collector", "exporter", "relay"].map((name) =>
    checkout.name(`-${name}`),
  ) as [string, string, string];
  const args = ["exec", collector, "python3", "-c", script, exporter, relay, ...tenants];
  return Number(await succeed("docker", args));
}

/** Kills a server. @returns seconds until its alert fires */
async function fault(checkout: Checkout, metrics: Metrics): Promise<number> {
  return seconds(async () => {
    await succeed("docker", ["kill", checkout.name("t0")]);
    await eventually(300, async () => {
      const found = await firingAlerts((expression) => metrics.query(expression));
      if (!found.some(({ alert }) => alert === "PgsTenantDown")) throw new Error("nothing fires");
    });
  });
}

/** Queries a second that keep all processors busy; by turns, since machines have better and worse minutes. */
async function throughput(
  checkout: Checkout,
  names: readonly string[],
): Promise<{ watched: number; paused: number }> {
  const found: { watched: number[]; paused: number[] } = { watched: [], paused: [] };
  const load = ["--select-only", "--protocol", "prepared", "--client", "4", "--time", String(duration)];
  const run = async () => Number(/^tps = ([\d.]+)/m.exec(await pgbench(checkout, ...load))?.[1]);
  const watched = async () => found.watched.push(await run());
  const paused = async () => {
    await succeed("docker", ["pause", ...names]);
    try {
      found.paused.push(await run());
    } finally {
      await succeed("docker", ["unpause", ...names]);
    }
  };
  for (let pair = 0; pair < pairs; pair++) {
    // Neither is always the second, which finds more in the caches.
    for (const one of pair % 2 ? [watched, paused] : [paused, watched]) await one();
  }
  return { watched: median(found.watched), paused: median(found.paused) };
}

/** Of PostgreSQL 18, by the public port. */
async function pgbench(checkout: Checkout, ...args: string[]): Promise<string> {
  const program = join(dirname(process.env.PSQL18 ?? ""), "pgbench");
  const url = new URL(await checkout.connectionString("t0"));
  const connection = `host=${url.hostname} hostaddr=127.0.0.1 port=${url.port} dbname=t0 user=postgres sslmode=require`;
  const env = { ...process.env, PGPASSWORD: await checkout.password("t0") };
  return succeed(program, [...args, connection], { env, timeout: 120 });
}
