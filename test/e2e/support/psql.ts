import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import type { Checkout } from "./checkout";
import { eventually, type Result, run } from "./command";

/** Paths of the versions of psql that script/test provides. */
export const psql = {
  15: required("PSQL15"),
  16: required("PSQL16"),
  17: required("PSQL17"),
  18: required("PSQL18"),
};

/** Of the environment. */
export function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests by script/test, which provides the clients`);
  return value;
}

/** Settings of libpq for a tenant; `parameters` are libpq's own keywords, over the usual ones. */
export function conninfo(checkout: Checkout, id: string, parameters: Record<string, string> = {}): string {
  const all = {
    host: `${id}.pgs.localhost`,
    hostaddr: "127.0.0.1",
    port: String(checkout.port),
    dbname: id,
    user: "postgres",
    sslmode: "require",
    ...parameters,
  };
  return Object.entries(all)
    .map(([key, value]) => `${key}=${value}`)
    .join(" ");
}

/** Logs in by libpq and runs one query; `parameters` are libpq's own keywords. */
export async function login(
  checkout: Checkout,
  binary: string,
  id: string,
  parameters: Record<string, string> = {},
  password?: string,
): Promise<Result> {
  const options = [conninfo(checkout, id, parameters), "--no-psqlrc", "-Atc", "SELECT current_database()"];
  return run(binary, options, {
    env: { ...process.env, PGPASSWORD: password ?? (await checkout.password(id)) },
    timeout: 60,
  });
}

/** psql with a query that takes a minute, and Ctrl-C as soon as the server is at it. @returns seconds from then on */
export async function interrupt(
  checkout: Checkout,
  binary: string,
  id: string,
  parameters: Record<string, string> = {},
): Promise<{ output: string; seconds: number }> {
  const query = `SELECT pg_sleep(60), '${randomUUID()}'`;
  const options = [conninfo(checkout, id, parameters), "--no-psqlrc", "-Atc", query];
  const child = spawn(binary, options, {
    env: { ...process.env, PGPASSWORD: await checkout.password(id) },
    timeout: 90_000,
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  const ended = new Promise((resolve) => child.on("close", resolve));
  await eventually(80, () => expectRunning(checkout, id, query));
  const started = performance.now();
  child.kill("SIGINT");
  await ended;
  return { output, seconds: (performance.now() - started) / 1000 };
}

/** @throws while the tenant's server is not at this query */
export async function expectRunning(checkout: Checkout, id: string, query: string): Promise<void> {
  const sql = `SELECT FROM pg_stat_activity WHERE state = 'active' AND query = $_$${query}$_$`;
  if ((await checkout.query(id, sql)).length === 0) throw new Error(`${id} does not run ${query}`);
}
