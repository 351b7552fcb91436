import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Checkout, removeLeftovers, runPrefix } from "../../test/e2e/support/checkout";
import { ids, machine, seconds, tenantsFile } from "../support";
import { backups } from "./backups";
import { cancels } from "./cancel";
import { oneMore } from "./compose";
import { fifty, floor, hundreds } from "./everyday";
import { idleBackups } from "./idle-backups";
import { kubernetes } from "./kubernetes";
import { changedInside, listed } from "./looks";
import { idleMemory } from "./memory";
import { monitoring } from "./monitoring";
import { pooled } from "./pooler";
import { routeLatency } from "./route";
import { type Row, table } from "./row";
import { throughput } from "./throughput";

/** Measured while the fifty tenants are there. */
const withFifty: Record<string, (checkout: Checkout) => Promise<Row[]>> = {
  memory: idleMemory,
  route: routeLatency,
  throughput,
  list: listed,
  inside: changedInside,
  create: oneMore,
};

/** Each with a stack of its own. */
const alone: Record<string, () => Promise<Row[]>> = {
  backups,
  "idle-backups": idleBackups,
  cancel: cancels,
  pooler: pooled,
  monitoring,
};

/** On a cluster, which takes a quarter of an hour to build once: measured when it is named. */
const whenNamed: Record<string, () => Promise<Row[]>> = { kubernetes };

const groups = ["fifty", ...Object.keys(withFifty), "hundreds", ...Object.keys({ ...alone, ...whenNamed })];

async function main(asked: string[]): Promise<void> {
  const unknown = asked.filter((one) => !groups.includes(one));
  if (unknown.length > 0) {
    console.error(`there is no group ${unknown.join(", ")}; expected some of: ${groups.join(", ")}`);
    process.exitCode = 2;
    return;
  }
  const rows: Row[] = [];
  const wanted = (group: string) => asked.length === 0 || asked.includes(group);
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
      await everyday(wanted, step, rows);
      for (const [group, measure] of Object.entries(alone)) {
        if (wanted(group)) rows.push(...(await step(group, measure)));
      }
      for (const [group, measure] of Object.entries(whenNamed)) {
        if (asked.includes(group)) rows.push(...(await step(group, measure)));
      }
    } finally {
      await removeLeftovers(runPrefix);
    }
  });
  const text = `${await machine()}; the whole run took ${(took / 60).toFixed(0)} minutes.\n\n${table(rows)}\n`;
  if (asked.length === 0) {
    writeFileSync(
      join(__dirname, "..", "results.md"),
      `# Results of script/bench\n\nEach figure and what it is compared with come from this one run.\n\n${text}`,
    );
  }
  console.log(`\n${text}`);
  process.exitCode = rows.some(({ met }) => met === false) ? 1 : 0;
}

/** The groups that share one stack. */
async function everyday(
  wanted: (group: string) => boolean,
  step: <T>(what: string, work: () => Promise<T>) => Promise<T>,
  rows: Row[],
): Promise<void> {
  const there = Object.entries(withFifty).filter(([group]) => wanted(group));
  if (there.length === 0 && !wanted("fifty") && !wanted("hundreds")) return;
  const checkout = await Checkout.create("tenants: { warm: { memory: 128Mi } }\n");
  const whileFifty = async () => {
    const measured: Row[] = [];
    for (const [group, measure] of there) measured.push(...(await step(group, () => measure(checkout))));
    return measured;
  };
  try {
    // Images in place and every plugin started once: what is measured is the work, not the disk's cache.
    await step("warm up", async () => {
      await checkout.up();
      await checkout.pulumi("destroy", "--yes", "--skip-preview");
    });
    if (wanted("fifty")) {
      const compared = await step("docker run and an empty program", () => floor(checkout));
      rows.push(...(await step("fifty", () => fifty(checkout, compared, whileFifty))));
    } else if (there.length > 0) {
      await step("50 tenants", () => checkout.apply(tenantsFile(ids(50))));
      rows.push(...(await whileFifty()));
      await checkout.apply(tenantsFile([]));
    }
    if (wanted("hundreds")) rows.push(...(await step("hundreds", () => hundreds(checkout))));
  } finally {
    await step("clean up", () => checkout.remove());
  }
}

void main(process.argv.slice(2));
