import type { Checkout } from "./checkout";
import { type Result, run } from "./command";

/** Paths of the two versions of psql that script/test provides. */
export const psql = { 15: required("PSQL15"), 18: required("PSQL18") };

function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests by script/test, which provides the clients`);
  return value;
}

/** Logs in by libpq and runs one query; `parameters` are libpq's own keywords. */
export async function login(
  checkout: Checkout,
  binary: string,
  id: string,
  parameters: Record<string, string> = {},
  password?: string,
): Promise<Result> {
  const all = {
    host: `${id}.pgs.localhost`,
    hostaddr: "127.0.0.1",
    port: String(checkout.port),
    dbname: id,
    user: "postgres",
    sslmode: "require",
    ...parameters,
  };
  const conninfo = Object.entries(all)
    .map(([key, value]) => `${key}=${value}`)
    .join(" ");
  return run(binary, [conninfo, "--no-psqlrc", "-Atc", "SELECT current_database()"], {
    env: { ...process.env, PGPASSWORD: password ?? (await checkout.password(id)) },
    timeout: 20,
  });
}
