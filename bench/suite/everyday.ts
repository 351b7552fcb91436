import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Checkout, removeLeftovers, runPrefix } from "../../test/e2e/support/checkout";
import { succeed } from "../../test/e2e/support/command";
import { atATime, dockerRun, ids, logIn, median, medianSeconds, seconds, tenantsFile } from "../support";
import { type Row, ratioOf } from "./row";

const runs = 3;

/** What `docker run` and Pulumi itself take for the same: the other side of the ratios. */
export interface Floor {
  /** Seconds until 50 plain containers are ready. */
  started: number;
  /** Seconds until they are stopped and gone. */
  removed: number;
  /** Seconds of a preview of an empty TypeScript program. */
  emptyPreview: number;
}

export async function floor(checkout: Checkout): Promise<Floor> {
  const names = ids(50).map((id) => `${runPrefix}-plain-${id}`);
  const started = await seconds(() => atATime(8, names, (name) => dockerRun(name)));
  const removed = await seconds(() =>
    atATime(8, names, async (name) => {
      await succeed("docker", ["stop", "--time", "60", name]);
      await succeed("docker", ["rm", name]);
    }),
  );
  await removeLeftovers(runPrefix);
  return { started, removed, emptyPreview: await emptyPreview(checkout) };
}

/** As `pulumi new typescript` writes it, without a resource. */
async function emptyPreview(checkout: Checkout): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "pgs-empty-"));
  try {
    symlinkSync(join(checkout.folder, "node_modules"), join(folder, "node_modules"));
    writeFileSync(join(folder, "Pulumi.yaml"), "name: empty\nruntime: nodejs\n");
    writeFileSync(join(folder, "package.json"), '{ "name": "empty", "main": "index.ts" }\n');
    writeFileSync(join(folder, "index.ts"), 'import * as pulumi from "@pulumi/pulumi";\nvoid pulumi;\n');
    const options = { cwd: folder, env: checkout.env };
    await succeed("pulumi", ["stack", "init", "dev", "--non-interactive"], options);
    const preview = () => succeed("pulumi", ["preview", "--non-interactive"], options);
    // The first one fills ts-node's and the disk's caches.
    await preview();
    return await medianSeconds(runs, preview);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One tenant, then fifty, then none. */
export async function fifty(
  checkout: Checkout,
  floor: Floor,
  whileThere: () => Promise<Row[]>,
): Promise<Row[]> {
  const preview = () => checkout.pulumi("preview", "--expect-no-changes");
  await checkout.apply(tenantsFile(ids(1)));
  const one = await medianSeconds(runs, preview);
  await checkout.pulumi("destroy", "--yes", "--skip-preview");
  await removeLeftovers(checkout.prefix);

  checkout.write("tenants.yaml", tenantsFile(ids(50)));
  const provisioned = await seconds(async () => {
    await checkout.up();
    await logIn(checkout, ids(50));
  });
  const many = await medianSeconds(runs, preview);
  const refreshed = await seconds(() => checkout.pulumi("preview", "--refresh", "--expect-no-changes"));
  const perTenant = ((many - one) / 49) * 1000;
  const others = await whileThere();

  checkout.write("tenants.yaml", tenantsFile([]));
  const removed = await seconds(() => checkout.up());
  const backedUp = await withBackups(checkout);
  const started = { what: "docker run, 8 at a time, until ready", measured: floor.started };
  return [
    ratioOf("50 tenants from nothing to every first login", provisioned, started, { atMost: 1.2 }),
    ratioOf("the same with their backup containers", backedUp, started, { atMost: 1.2 }),
    ratioOf(
      `preview without changes, 50 tenants (${perTenant.toFixed(0)} ms more for each)`,
      many,
      { what: "1 tenant", measured: one },
      { atMost: 2, also: { text: "≤ 50 ms more per tenant", met: perTenant <= 50 } },
    ),
    ratioOf(
      "preview without changes, 1 tenant",
      one,
      { what: "preview of an empty TypeScript program", measured: floor.emptyPreview },
      { atMost: 1.5 },
    ),
    {
      figure: "preview --refresh without changes, 50 tenants",
      measured: `${refreshed.toFixed(2)} s`,
      against: `without --refresh: ${many.toFixed(2)} s`,
      ratio: refreshed / many,
      aim: "for comparison",
    },
    ratioOf(
      "50 tenants removed, clean shutdowns",
      removed,
      { what: "docker stop + rm, 8 at a time", measured: floor.removed },
      { atMost: 2.5 },
    ),
    ...others,
  ];
}

/** Seconds of fifty new tenants that are backed up, to every first login. */
async function withBackups(checkout: Checkout): Promise<number> {
  // Names of their own: the volumes of the fifty are still there.
  const fifty = ids(50, 500);
  await checkout.pulumi("config", "rm", "--path", "pgs:backups.schedule");
  checkout.write("tenants.yaml", tenantsFile(fifty));
  const provisioned = await seconds(async () => {
    await checkout.up();
    await logIn(checkout, fifty);
  });
  await checkout.pulumi("config", "set", "--path", "pgs:backups.schedule", "off");
  await checkout.apply(tenantsFile([]));
  return provisioned;
}

/** A hundred tenants, then two hundred. */
export async function hundreds(checkout: Checkout): Promise<Row[]> {
  // Names of their own: the volumes of the fifty are still there.
  const hundred = ids(100, 1000);
  checkout.write("tenants.yaml", tenantsFile(hundred));
  const first = await seconds(async () => {
    await checkout.up();
    await logIn(checkout, hundred);
  });
  const nothing: number[] = [];
  const whole: number[] = [];
  const limited: number[] = [];
  for (let index = 0; index < runs; index++) {
    nothing.push(await seconds(() => checkout.up()));
    const closed = ids(index, 1017).concat(ids(index + 1, 1007));
    const fields = Object.fromEntries(closed.map((id) => [id, "access: false"]));
    checkout.write("tenants.yaml", tenantsFile(hundred, fields));
    whole.push(await seconds(() => checkout.up()));
    const disable = ["disable-access", `t${1017 + index}`, "--yes"];
    limited.push(await seconds(() => succeed(join(checkout.folder, "pgs"), disable, checkout.options())));
  }

  const all = ids(200, 1000);
  checkout.write("tenants.yaml", tenantsFile(all));
  const second = await seconds(async () => {
    await checkout.up();
    await logIn(checkout, ids(100, 1100));
  });
  await logIn(checkout, hundred);
  const state = statSync(join(checkout.folder, "state", ".pulumi", "stacks", "pgs", "dev.json")).size / 1024;
  const unchanged = { what: "up without changes", measured: median(nothing) };
  return [
    ratioOf("one tenant's access switched at 100 tenants, whole up", median(whole), unchanged, {
      atMost: 1.15,
    }),
    ratioOf("the same by pgs disable-access", median(limited), unchanged, { atMost: 0.5 }),
    ratioOf(
      "tenants 101–200 added, to every login",
      second,
      { what: "1–100", measured: first },
      { atMost: 1.3 },
    ),
    {
      figure: "state file per tenant, at 200",
      measured: `${(state / 200).toFixed(1)} KB`,
      against: "–",
      aim: "≤ 20 KB",
      met: state / 200 <= 20,
    },
  ];
}
