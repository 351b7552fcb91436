import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Checkout, removeLeftovers, runPrefix } from "../../test/e2e/support/checkout";
import { machine, seconds } from "../support";
import { backups } from "./backups";
import { oneMore } from "./compose";
import { fifty, floor, hundreds } from "./everyday";
import { idleMemory } from "./memory";
import { routeLatency } from "./route";
import { type Row, table } from "./row";
import { throughput } from "./throughput";

async function main(): Promise<void> {
  const rows: Row[] = [];
  const checkout = await Checkout.create("tenants: { warm: { memory: 128Mi } }\n");
  const step = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    let result: T | undefined;
    const took = await seconds(async () => {
      result = await work();
    });
    console.error(`${what}: ${took.toFixed(0)} s`);
    return result as T;
  };
  const took = await seconds(async () => {
    try {
      // Images in place and every plugin started once: what is measured is the work, not the disk's cache.
      await step("warm up", async () => {
        await checkout.up();
        await checkout.pulumi("destroy", "--yes", "--skip-preview");
      });
      const compared = await step("docker run and an empty program", () => floor(checkout));
      const whileFifty = async () => [
        ...(await step("memory", () => idleMemory(checkout))),
        ...(await step("routes", () => routeLatency(checkout))),
        ...(await step("throughput", () => throughput(checkout))),
        ...(await step("one more, and docker-compose", () => oneMore(checkout))),
      ];
      rows.push(...(await step("50 tenants", () => fifty(checkout, compared, whileFifty))));
      rows.push(...(await step("200 tenants", () => hundreds(checkout))));
      await step("clean up", () => checkout.remove());
      rows.push(...(await step("backups", () => backups())));
    } finally {
      await checkout.remove();
      await removeLeftovers(runPrefix);
    }
  });
  const text = `${await machine()}; the whole run took ${(took / 60).toFixed(0)} minutes.\n\n${table(rows)}\n`;
  writeFileSync(
    join(__dirname, "..", "results.md"),
    `# Results of script/bench\n\nEach figure and what it is compared with come from this one run.\n\n${text}`,
  );
  console.log(`\n${text}`);
  process.exitCode = rows.some(({ met }) => met === false) ? 1 : 0;
}

void main();
