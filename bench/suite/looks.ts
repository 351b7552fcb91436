import { join } from "node:path";
import type { Checkout } from "../../test/e2e/support/checkout";
import { succeed } from "../../test/e2e/support/command";
import { ids, median, medianSeconds, seconds } from "../support";
import { type Row, ratioOf } from "./row";

const runs = 3;

/** With 50 tenants there: what it costs to list them. */
export async function listed(checkout: Checkout): Promise<Row[]> {
  const list = () => succeed(join(checkout.folder, "pgs"), ["list"], checkout.options());
  const shown = await list();
  const missing = ids(50).filter((id) => !new RegExp(`\\b${id}\\b`).test(shown));
  if (missing.length > 0) throw new Error(`pgs list does not show ${missing.join(", ")}:\n${shown}`);
  const took = await medianSeconds(runs, list);
  return [
    {
      figure: `pgs list, 50 tenants (median of ${runs})`,
      measured: `${took.toFixed(2)} s`,
      against: "–",
      aim: "≤ 1.5 s",
      met: took <= 1.5,
    },
  ];
}

/** With 50 tenants there: what a tenant changes in its own server by SQL is seen by a preview, and taken back by an up. */
export async function changedInside(checkout: Checkout): Promise<Row[]> {
  const unchanged = await medianSeconds(runs, () => checkout.pulumi("preview", "--expect-no-changes"));
  const seen: number[] = [];
  const restored: number[] = [];
  for (const id of ids(runs)) {
    await checkout.query(id, "ALTER SYSTEM SET effective_cache_size = '3GB'");
    await checkout.query(id, "SELECT pg_reload_conf()");
    let output = "";
    seen.push(
      await seconds(async () => {
        output = await checkout.pulumi("preview");
      }),
    );
    if (!new RegExp(`PostgresServer +${id} +update`).test(output)) {
      throw new Error(`preview does not plan an update of ${id}:\n${output}`);
    }
    restored.push(await seconds(() => checkout.up()));
  }
  await checkout.pulumi("preview", "--expect-no-changes");
  const comparison = { what: "preview without changes", measured: unchanged };
  return [
    ratioOf(
      "preview that sees a setting changed inside one of 50 servers (median of 3)",
      median(seen),
      comparison,
      { atMost: 1.1 },
    ),
    ratioOf("up that takes it back (median of 3)", median(restored), comparison, { atMost: 1.5 }),
  ];
}
