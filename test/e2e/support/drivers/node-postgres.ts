import { readFileSync } from "node:fs";
import { Client } from "pg";

/** What test/e2e/support/drivers.ts asks of a driver, by node-postgres. */
async function main(): Promise<void> {
  const [host = "", port, user, database, ca = "", negotiation, query = ""] = process.argv.slice(2);
  const connect = async () => {
    const client = new Client({
      ...{ host: "127.0.0.1", port: Number(port), user, database },
      ssl: { servername: host, ca: readFileSync(ca, "utf8") },
      ...(negotiation === "direct" && { sslnegotiation: "direct" }),
    });
    await client.connect();
    return client;
  };
  const text = "SELECT pg_backend_pid() AS pid, $1::int";
  const ask = async (client: Client, number: number): Promise<number> =>
    (await client.query({ name: "asked", text, values: [number] })).rows[0].pid;

  const [first, other] = [await connect(), await connect()];
  const pids: number[] = [];
  for (const isFirst of [true, false]) {
    await first.query("BEGIN");
    for (const number of [0, 1, 2]) pids.push(await ask(first, number));
    await first.query("COMMIT");
    if (isFirst) await other.query("BEGIN");
    await ask(other, 0);
  }
  await other.end();

  const answer = first.query(query).then(
    () => "",
    (error: Error) => error.message,
  );
  await new Promise((resolve) => process.stdin.once("data", resolve));
  const started = performance.now();
  // It has no types, and no TLS: https://github.com/brianc/node-postgres/blob/master/packages/pg/lib/client.js
  const canceller = new Client({ host: "127.0.0.1", port: Number(port) }) as Client & {
    cancel(client: Client, query: unknown): void;
  };
  canceller.cancel(first, (first as Client & { activeQuery: unknown }).activeQuery);
  const message = await answer;
  const seconds = (performance.now() - started) / 1000;
  console.log(JSON.stringify({ pids, message, seconds, goesOn: (await ask(first, 0)) > 0 }));
  process.exit();
}

void main();
