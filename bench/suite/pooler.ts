import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { Checkout } from "../../test/e2e/support/checkout";
import { succeed } from "../../test/e2e/support/command";
import { median } from "../support";
import { pss } from "./memory";
import type { Row } from "./row";

/** Seconds of each run of pgbench, and how often straight and pooled take turns. */
const duration = 3;
const rounds = 3;

/** Idle clients of the pooler; straight to the server fewer fit. */
const pooledClients = 1000;
const straightClients = 90;

const tenants =
  "tenants:\n  t0: { memory: 1Gi, cpus: 2, maxConnectionsPerClient: 0, pooler: { mode: transaction, size: 20 } }\n";

/** A tenant through its pooler against straight to its server, both by the proxy with TLS. */
export async function pooled(): Promise<Row[]> {
  const checkout = await Checkout.create(tenants);
  try {
    await checkout.up();
    await pgbench(checkout, "t0", "--initialize", "--scale", "10");
    return [
      await compared(
        checkout,
        "queries through the pooler, 8 clients",
        "queries/s",
        "--protocol",
        "prepared",
      ),
      await compared(checkout, "new connections through the pooler, 8 clients", "logins/s", "--connect"),
      await memory(checkout),
    ];
  } finally {
    await checkout.remove();
  }
}

async function compared(
  checkout: Checkout,
  figure: string,
  unit: string,
  ...options: string[]
): Promise<Row> {
  const select = ["--select-only", "--client", "8", "--jobs", "2", "--time", String(duration), ...options];
  const straight: number[] = [];
  const through: number[] = [];
  for (let round = 0; round < rounds; round++) {
    straight.push(await pgbench(checkout, "t0", ...select));
    through.push(await pgbench(checkout, "t0-pooler", ...select));
  }
  return {
    figure,
    measured: `${median(through).toFixed(0)} ${unit}`,
    against: `straight: ${median(straight).toFixed(0)} ${unit}`,
    ratio: median(through) / median(straight),
    aim: "for comparison",
  };
}

/** What one idle client costs in the pooler's container, and in the server's. */
async function memory(checkout: Checkout): Promise<Row> {
  const perClient = async (host: string, count: number, container: string) => {
    const before = await pss(checkout.name(container));
    const clients = await connected(checkout, host, count);
    const after = await pss(checkout.name(container));
    await Promise.all(clients.map((client) => client.end()));
    await delay(2000);
    return ((after - before) * 1024) / count;
  };
  const through = await perClient("t0-pooler", pooledClients, "t0--pooler");
  const straight = await perClient("t0", straightClients, "t0");
  return {
    figure: `memory of an idle client, ${pooledClients} in the pooler`,
    measured: `${through.toFixed(1)} KiB`,
    against: `${straightClients} in the server: ${straight.toFixed(0)} KiB`,
    ratio: through / straight,
    aim: "for comparison",
  };
}

/** Each has asked once. */
async function connected(checkout: Checkout, host: string, count: number): Promise<Client[]> {
  const clients: Client[] = [];
  const config = await checkout.clientConfig("t0");
  const worker = async () => {
    while (clients.length < count) {
      const client = new Client({
        ...config,
        ssl: { ...(config.ssl as object), servername: `${host}.pgs.localhost` },
      });
      client.on("error", () => {});
      clients.push(client);
      await client.connect();
      await client.query("SELECT 1");
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
  return clients;
}

/** @returns transactions a second; 0 of an initialization */
async function pgbench(checkout: Checkout, host: string, ...options: string[]): Promise<number> {
  const program = join(dirname(process.env.PSQL18 ?? ""), "pgbench");
  const output = await succeed(program, [...options, "t0"], {
    env: {
      ...process.env,
      PGHOST: `${host}.pgs.localhost`,
      PGHOSTADDR: "127.0.0.1",
      PGPORT: String(checkout.port),
      PGUSER: "postgres",
      PGPASSWORD: await checkout.password("t0"),
      PGSSLMODE: "require",
    },
  });
  return Number(/^tps = ([\d.]+)/m.exec(output)?.[1] ?? 0);
}
