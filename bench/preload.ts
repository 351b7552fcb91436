import { readdirSync } from "node:fs";
import { join } from "node:path";
import { Checkout } from "../test/e2e/support/checkout";
import { succeed } from "../test/e2e/support/command";
import { ids, machine, median } from "./support";

const [pairs = 15, tenants = 50] = process.argv.slice(2, 4).map(Number);
const all = readdirSync(join(__dirname, "..", "toolchain", "preload"))
  .map((file) => file.replace(/\.cjs$/, ""))
  .filter((name) => name !== "patch");
const patches = process.argv.length > 4 ? process.argv.slice(4) : all;

interface Cost {
  /** Seconds of both, user and system. */
  processor: number;
  wall: number;
}

async function main(): Promise<void> {
  // Stopped, they cost the host nothing; a preview looks at the same resources.
  const entries = ids(tenants).map((id) => `  ${id}: { state: stopped }\n`);
  const checkout = await Checkout.create(`tenants:\n${entries.join("")}`);
  try {
    await checkout.up();
    await preview(checkout);
    console.log(`${await machine()}; preview without changes, ${tenants} tenants, ${pairs} pairs\n`);
    for (const patch of patches) {
      const withAll: Cost[] = [];
      const without: Cost[] = [];
      for (let pair = 0; pair < pairs; pair++) {
        // Each goes first every other time: the machine may be getting slower or faster.
        const order = pair % 2 === 0 ? [withAll, without] : [without, withAll];
        for (const costs of order) costs.push(await preview(checkout, costs === without ? patch : ""));
      }
      const saved = (of: keyof Cost) => {
        const shares = withAll.map((cost, pair) => 1 - cost[of] / (without[pair]?.[of] ?? Number.NaN));
        return `${(100 * median(shares)).toFixed(1)} %`;
      };
      const seconds = median(without.map(({ processor }) => processor)).toFixed(2);
      console.log(
        `${patch.padEnd(22)} saves ${saved("processor").padStart(6)} of ${seconds} s processor time, ${saved("wall").padStart(6)} of the time`,
      );
    }
  } finally {
    await checkout.remove();
  }
}

async function preview(checkout: Checkout, without = ""): Promise<Cost> {
  const command = "pulumi preview --expect-no-changes --non-interactive >preview.log 2>&1";
  const script = `TIMEFORMAT='%U %S %R'; { time ${command}; } 2>&1`;
  const output = await succeed("bash", ["-c", script], {
    ...checkout.options(),
    env: { ...checkout.env, PGS_WITHOUT_PATCHES: without },
  });
  const [user = 0, system = 0, wall = 0] = output.trim().split("\n").at(-1)?.split(" ").map(Number) ?? [];
  return { processor: user + system, wall };
}

void main();
