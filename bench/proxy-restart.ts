import { attachProxy, ensureNetwork, type NetworkOwner, releaseNetwork } from "../provider/networks";
import { Checkout } from "../test/e2e/support/checkout";
import { eventually, succeed } from "../test/e2e/support/command";
import { inspect } from "../test/e2e/support/inside";
import { machine, medianSeconds } from "./support";

const counts = process.argv.length > 2 ? process.argv.slice(2).map(Number) : [50, 100, 200];
const tries = 3;

async function main(): Promise<void> {
  const checkout = await Checkout.create("tenants: { t0: { memory: 128Mi } }\n");
  const rows: string[][] = [["tenants", "isolation", `restart of the proxy, median of ${tries}`]];
  try {
    await checkout.up();
    const owner = { stack: (await checkout.pulumi("stack", "output", "stack")).trim() };
    const networks: string[] = [];
    for (const count of counts) {
      while (networks.length < count - 1) {
        networks.push(await createNetwork(checkout, owner, `t${networks.length + 1}`));
      }
      rows.push([String(count), "network", `${(await restart(checkout)).toFixed(1)} s`]);
    }
    const { Id: proxy } = await inspect(checkout.name("proxy"));
    for (const network of networks) await releaseNetwork(owner, network, proxy);
    await checkout.pulumi("config", "set", "isolation", "shared");
    await checkout.up();
    rows.push(["any", "shared", `${(await restart(checkout)).toFixed(1)} s`]);
  } finally {
    console.log(`${await machine()}\n`);
    for (const [count = "", isolation = "", time = ""] of rows) {
      console.log(`${count.padStart(7)}   ${isolation.padEnd(9)}   ${time}`);
    }
    await checkout.remove();
  }
}

/** A tenant's network as the stack makes it, without the tenant: a hundred servers would measure something else. */
async function createNetwork(checkout: Checkout, owner: NetworkOwner, id: string): Promise<string> {
  const spec = { name: checkout.name(id), internal: true, pool: "10.213.0.0/16", prefixLength: 29 };
  const network = await ensureNetwork(owner, spec);
  await attachProxy(owner.host, network, (await inspect(checkout.name("proxy"))).Id);
  return network;
}

/** Seconds from the command until a new connection works again. */
function restart(checkout: Checkout): Promise<number> {
  return medianSeconds(tries, async () => {
    await succeed("docker", ["restart", checkout.name("proxy")]);
    await eventually(120, () => checkout.query("t0", "SELECT 1").then(() => {}));
  });
}

void main();
