import { Checkout, removeLeftovers, runPrefix } from "../test/e2e/support/checkout";
import { atATime, dockerRun, ids, logIn, machine, medianSeconds, seconds, tenantsFile } from "./support";

const count = Number(process.argv[2] ?? 10);

async function main(): Promise<void> {
  const checkout = await Checkout.create(tenantsFile(ids(1)));
  const preview = () => checkout.pulumi("preview", "--expect-no-changes");
  try {
    // Images in place and every plugin started once: what is measured is the work, not the disk's cache.
    await checkout.up();
    const previewOfOne = await medianSeconds(5, preview);
    await checkout.pulumi("destroy", "--yes", "--skip-preview");
    await removeLeftovers(checkout.prefix);

    const containers = await seconds(() =>
      atATime(8, ids(count), (id) => dockerRun(`${runPrefix}-plain-${id}`)),
    );
    await removeLeftovers(runPrefix);

    checkout.write("tenants.yaml", tenantsFile(ids(count)));
    const tenants = await seconds(async () => {
      await checkout.up();
      await logIn(checkout, ids(count));
    });
    const previewOfAll = await medianSeconds(5, preview);

    const row = (what: string, value: string) => console.log(`${what.padEnd(62)}${value.padStart(10)}`);
    console.log(`${await machine()}\n`);
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

void main();
