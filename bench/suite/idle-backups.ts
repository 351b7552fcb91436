import { setTimeout as delay } from "node:timers/promises";
import { BackupClient } from "../../backups/client";
import { dockerClient } from "../../docker/client";
import { Checkout, withBackups } from "../../test/e2e/support/checkout";
import { eventually } from "../../test/e2e/support/command";
import { atATime, ids, logIn, median, processorTime, seconds, tenantsFile } from "../support";
import { pss } from "./memory";
import type { Row } from "./row";

/** Empty tenants that are backed up. */
const count = 20;

/** Seconds in which nothing happens but what an idle tenant's backups do by themselves. */
const idle = 180;

/** What backups of tenants cost that do nothing, and how soon new tenants have their first base backup. */
export async function idleBackups(): Promise<Row[]> {
  const checkout = await Checkout.create(tenantsFile(ids(count)), withBackups);
  const container = (id: string) => dockerClient(undefined).getContainer(checkout.name(`${id}--backup`));
  try {
    await checkout.up();
    const backedUp = await seconds(() =>
      atATime(count, ids(count), (id) =>
        eventually(900, async () => {
          const { base } = await new BackupClient(container(id), id).status();
          if (base === 0) throw new Error(`${id} has no base backup`);
        }),
      ),
    );
    await logIn(checkout, ids(count));
    // What the first base backups leave to be done.
    await delay(30_000);

    const before = await Promise.all(ids(count).map((id) => processorTime(container(id))));
    const took = await seconds(() => delay(idle * 1000));
    const after = await Promise.all(ids(count).map((id) => processorTime(container(id))));
    const shares = after.map((time, index) => ((time - (before[index] ?? 0)) / took) * 100);
    const sizes: number[] = [];
    for (const id of ids(count)) sizes.push(await pss(checkout.name(`${id}--backup`)));
    const mean = shares.reduce((sum, one) => sum + one, 0) / count;
    return [
      {
        figure: `share of a core that an idle tenant's backups take (mean of ${count}, ${idle} s)`,
        measured: `${mean.toFixed(3)} %`,
        against: `the one that takes most: ${Math.max(...shares).toFixed(3)} %`,
        aim: "≤ 0.05 %",
        met: mean <= 0.05,
      },
      {
        figure: `memory of an idle tenant's backups (PSS, median of ${count})`,
        measured: `${median(sizes).toFixed(1)} MiB`,
        against: `the largest: ${Math.max(...sizes).toFixed(1)} MiB`,
        aim: "≤ 20 MiB",
        met: median(sizes) <= 20,
      },
      {
        figure: `first base backup of ${count} empty tenants, after their up`,
        measured: `${backedUp.toFixed(1)} s`,
        against: "–",
        aim: "≤ 60 s",
        met: backedUp <= 60,
      },
    ];
  } finally {
    await checkout.remove();
  }
}
