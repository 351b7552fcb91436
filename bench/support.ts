import { cpus, totalmem } from "node:os";
import type Docker from "dockerode";
import type { Checkout } from "../test/e2e/support/checkout";
import { eventually, run, succeed } from "../test/e2e/support/command";

/** Seconds that the work took. */
export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** Median of the seconds that `runs` runs took, one after another. */
export async function medianSeconds(
  runs: number,
  work: (index: number) => Promise<unknown>,
): Promise<number> {
  const times: number[] = [];
  for (let index = 0; index < runs; index++) times.push(await seconds(() => work(index)));
  return median(times);
}

export function median(numbers: number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
}

/** Does the work for each item, so many at a time. */
export async function atATime<T>(
  limit: number,
  items: T[],
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const waiting = [...items];
  const worker = async () => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: limit }, worker));
}

/** What the figures were measured on. */
export async function machine(): Promise<string> {
  const engine = (await succeed("docker", ["version", "--format", "{{.Server.Version}}"])).trim();
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${cpus().length} × ${cpus()[0]?.model.trim()}, ${memory} GiB, Docker ${engine}, Node ${process.version}`;
}

export const image = "postgres:18.6-bookworm";

/** t0, t1, … */
export const ids = (count: number, from = 0) =>
  Array.from({ length: count }, (_, index) => `t${from + index}`);

export function tenantsFile(some: string[], fields: Record<string, string> = {}): string {
  const entries = some.map((id) => `  ${id}: {${fields[id] ?? ""}}\n`).join("");
  return `defaults: { memory: 256Mi }\ntenants:${some.length > 0 ? `\n${entries}` : " {}\n"}`;
}

/** One login of each, and a query. */
export async function logIn(checkout: Checkout, some: string[]): Promise<void> {
  await atATime(16, some, (id) => checkout.query(id, "SELECT 1"));
}

/** A container like a tenant's by `docker run`, waited for until it takes connections over TCP. */
export async function dockerRun(name: string, ...options: string[]): Promise<void> {
  await succeed("docker", [
    ...["run", "--detach", "--name", name, "--volume", `${name}:/var/lib/postgresql`],
    ...["--env", "POSTGRES_PASSWORD_FILE=/proc/sys/kernel/random/uuid", "--user", "999:999", "--read-only"],
    ...["--tmpfs", "/tmp", "--tmpfs", "/var/run/postgresql:mode=1777", "--cap-drop", "ALL"],
    ...["--memory", "256m", "--memory-swap", "256m", "--cpus", "1", "--restart", "unless-stopped"],
    ...options,
    image,
  ]);
  await untilReady(name);
}

export async function untilReady(name: string): Promise<void> {
  await eventually(120, async () => {
    const ready = await run("docker", ["exec", name, "pg_isready", "-q", "-h", "127.0.0.1"]);
    if (ready.code !== 0) throw new Error(`${name} is not ready`);
  });
}

/** Processor seconds of all processes that a container has had: also of those that have ended. */
export async function processorTime(container: Docker.Container): Promise<number> {
  const { cpu_stats } = await container.stats({ stream: false, "one-shot": true });
  return cpu_stats.cpu_usage.total_usage / 1e9;
}
