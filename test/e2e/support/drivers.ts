import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { expect } from "vitest";
import type { Checkout } from "./checkout";
import { eventually } from "./command";
import { expectRunning, required } from "./psql";

/**
 * Clients of several languages. Each opens two connections by verify-full. On the first it runs a prepared statement three
 * times in a transaction and, while the second one has a transaction open, three times in another; then a query that takes
 * long, which it cancels when a line comes on its standard input.
 */
interface Driver {
  name: string;
  /** Its program, and what cancels there; HOST PORT USER DATABASE CA NEGOTIATION QUERY come behind it. */
  command: string[];
  env?: NodeJS.ProcessEnv;
  /** What it says when its query was cancelled. */
  message: RegExp;
  /** Whether its session goes on after that. */
  goesOn: boolean;
  /** Whether it opens TLS without asking for it first, where it is told to. */
  direct: boolean;
}

const folder = join(__dirname, "drivers");
const byServer = { message: /canceling statement due to user request/, goesOn: true, direct: true };
const python = (module: string, way: string): Driver => ({
  name: `${module}, ${way}()`,
  command: ["python3", join(folder, "python.py"), module, way],
  env: { PYTHONPATH: required("PSYCOPG") },
  ...byServer,
});

const all: Driver[] = [
  python("psycopg2", "cancel"),
  python("psycopg", "cancel"),
  python("psycopg", "cancel_safe"),
  { name: "pgx, CancelRequest", command: [required("PGX"), "request"], ...byServer },
  {
    name: "pgx, a context that ends",
    command: [required("PGX"), "context"],
    message: /context canceled/,
    goesOn: false,
    direct: true,
  },
  { name: "pgJDBC, cancel()", command: ["java", "-cp", required("PGJDBC")], ...byServer },
  {
    name: "node-postgres, cancel() without TLS",
    command: ["node", "--require", "tsx/cjs", join(folder, "node-postgres.ts")],
    ...byServer,
  },
];

/** By name, for a table of tests. */
export const drivers = all.map((driver) => [driver.name, driver] as const);

/** What one of them found. */
interface Found {
  /** Processes of the server that answered the prepared statement. */
  pids: number[];
  message: string;
  /** From its cancel to the end of its query. */
  seconds: number;
  goesOn: boolean;
}

/** Runs one, which cancels as soon as the server is at its query. @throws Error while the server goes on with that */
export async function drive(
  checkout: Checkout,
  id: string,
  driver: Driver,
  { host = `${id}.pgs.localhost`, negotiation = "postgres" } = {},
): Promise<Found> {
  const { user, password } = await checkout.clientConfig(id);
  const query = `SELECT pg_sleep(60), '${randomUUID()}'`;
  const ca = await checkout.caFile();
  const own = driver.command[0] === "java" ? javaOptions(checkout, host) : [];
  const [program = "", ...options] = [...driver.command, ...own];
  const args = [host, String(checkout.port), user ?? "", id, ca, negotiation, query];
  const child = spawn(program, [...options, ...args], {
    env: { ...process.env, ...driver.env, PGPASSWORD: String(password) },
    timeout: 90_000,
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise((resolve) => child.on("close", resolve));
  await Promise.race([eventually(80, () => expectRunning(checkout, id, query)), ended]);
  child.stdin.on("error", () => {});
  child.stdin.write("\n");
  await ended;
  const runs = () => expectRunning(checkout, id, query);
  await eventually(30, () => expect(runs()).rejects.toThrow());
  if (!stdout) throw new Error(`${driver.name}: ${stderr}`);
  return JSON.parse(stdout);
}

/** Java has no setting for the address of a host; it reads names from a file. */
function javaOptions(checkout: Checkout, host: string): string[] {
  checkout.write("hosts", `127.0.0.1 ${host}\n`);
  return [`-Djdk.net.hosts.file=${join(checkout.folder, "hosts")}`, join(folder, "PgJdbc.java")];
}
