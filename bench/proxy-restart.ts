import { cpus, totalmem } from "node:os";
import { Network } from "../provider/network";
import { Checkout } from "../test/e2e/support/checkout";
import { eventually, succeed } from "../test/e2e/support/command";
import { inspect } from "../test/e2e/support/inside";

const counts = process.argv.length > 2 ? process.argv.slice(2).map(Number) : [50, 100, 200];
const tries = 3;

async function main(): Promise<void> {
  const checkout = await Checkout.create("tenants: { t0: { memory: 128Mi } }\n");
  const rows: string[][] = [["tenants", "isolation", `restart of the proxy, median of ${tries}`]];
  try {
    await checkout.up();
    let made = 1;
    for (const count of counts) {
      for (; made < count; made++) await createNetwork(checkout, `t${made}`);
      rows.push([String(count), "network", `${(await restart(checkout)).toFixed(1)} s`]);
    }
    for (let index = 1; index < made; index++) await removeNetwork(checkout, `t${index}`);
    await checkout.pulumi("config", "set", "isolation", "shared");
    await checkout.up();
    rows.push(["any", "shared", `${(await restart(checkout)).toFixed(1)} s`]);
  } finally {
    const version = await succeed("docker", ["version", "--format", "{{.Server.Version}}"]);
    console.log(
      `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Docker ${version.trim()}\n`,
    );
    for (const [count = "", isolation = "", time = ""] of rows) {
      console.log(`${count.padStart(7)}   ${isolation.padEnd(9)}   ${time}`);
    }
    await checkout.remove();
  }
}

/** A tenant's network as the stack makes it, without the tenant: a hundred servers would measure something else. */
async function createNetwork(checkout: Checkout, id: string): Promise<void> {
  await Network.create({
    name: checkout.name(id),
    internal: true,
    pool: "10.213.0.0/16",
    prefixLength: 29,
    proxy: (await inspect(checkout.name("proxy"))).Id,
  });
}

async function removeNetwork(checkout: Checkout, id: string): Promise<void> {
  const proxy = (await inspect(checkout.name("proxy"))).Id;
  await Network.delete("", { name: checkout.name(id), internal: true, proxy });
}

/** Seconds from the command until a new connection works again. */
async function restart(checkout: Checkout): Promise<number> {
  const times: number[] = [];
  for (let index = 0; index < tries; index++) {
    const started = performance.now();
    await succeed("docker", ["restart", checkout.name("proxy")]);
    await eventually(120, () => checkout.query("t0", "SELECT 1").then(() => {}));
    times.push((performance.now() - started) / 1000);
  }
  return times.sort((a, b) => a - b)[Math.floor(tries / 2)] ?? 0;
}

void main();
