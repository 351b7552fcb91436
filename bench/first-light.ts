import { cpus, totalmem } from "node:os";
import { Checkout, removeLeftovers, runPrefix } from "../test/e2e/support/checkout";
import { eventually, run, succeed } from "../test/e2e/support/command";

const count = Number(process.argv[2] ?? 10);
const ids = Array.from({ length: count }, (_, index) => `t${index}`);
const tenantsFile = (some: string[]) =>
  `defaults: { memory: 256Mi }\ntenants:\n${some.map((id) => `  ${id}: {}\n`).join("")}`;

async function main(): Promise<void> {
  const checkout = await Checkout.create(tenantsFile(ids.slice(0, 1)));
  try {
    // Images in place and every plugin started once: what is measured is the work, not the disk's cache.
    await checkout.up();
    const previewOfOne = await median(5, () => checkout.pulumi("preview", "--expect-no-changes"));
    await checkout.pulumi("destroy", "--yes", "--skip-preview");
    await removeLeftovers(checkout.prefix);

    const containers = await seconds(dockerRunAll);
    await removeLeftovers(runPrefix);

    checkout.write("tenants.yaml", tenantsFile(ids));
    const tenants = await seconds(async () => {
      await checkout.up();
      await Promise.all(ids.map((id) => checkout.query(id, "SELECT 1")));
    });
    const previewOfAll = await median(5, () => checkout.pulumi("preview", "--expect-no-changes"));

    const row = (what: string, value: string) => console.log(`${what.padEnd(62)}${value.padStart(10)}`);
    console.log(
      `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}\n`,
    );
    row(`${count} tenants from nothing to every login`, `${tenants.toFixed(1)} s`);
    row(`the same ${count} containers by docker run, 8 at a time, until ready`, `${containers.toFixed(1)} s`);
    row("ratio (aim: at most 1.5)", (tenants / containers).toFixed(2));
    row("preview without changes, 1 tenant (median of 5)", `${previewOfOne.toFixed(2)} s`);
    row(`preview without changes, ${count} tenants (median of 5)`, `${previewOfAll.toFixed(2)} s`);
  } finally {
    await checkout.remove();
    await removeLeftovers(runPrefix);
  }
}

/** Containers like the tenants', 8 at a time, each waited for until it takes connections over TCP. */
async function dockerRunAll(): Promise<void> {
  const waiting = [...ids];
  const worker = async () => {
    for (let id = waiting.shift(); id; id = waiting.shift()) await dockerRun(`${runPrefix}-plain-${id}`);
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

async function dockerRun(name: string): Promise<void> {
  const image = (await succeed("docker", ["images", "--quiet", "postgres:18.6-bookworm"])).trim();
  await succeed("docker", [
    ...["run", "--detach", "--name", name, "--volume", `${name}:/var/lib/postgresql`],
    ...["--env", "POSTGRES_PASSWORD_FILE=/proc/sys/kernel/random/uuid", "--user", "999:999", "--read-only"],
    ...["--tmpfs", "/tmp", "--tmpfs", "/var/run/postgresql:mode=1777", "--cap-drop", "ALL"],
    ...["--memory", "256m", "--memory-swap", "256m", "--cpus", "1", "--restart", "unless-stopped"],
    image,
  ]);
  await eventually(120, async () => {
    const ready = await run("docker", ["exec", name, "pg_isready", "-q", "-h", "127.0.0.1"]);
    if (ready.code !== 0) throw new Error(`${name} is not ready`);
  });
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

async function median(runs: number, work: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let index = 0; index < runs; index++) times.push(await seconds(work));
  return times.sort((a, b) => a - b)[Math.floor(runs / 2)] ?? 0;
}

void main();
