import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Checkout, withBackups } from "./support/checkout";
import { inspect } from "./support/inside";
import { interrupt, psql } from "./support/psql";

/** The commit of the oldest version whose stacks are carried on, or another one. */
const commit = (
  process.env.PGS_UPGRADE_FROM ?? readFileSync(join(__dirname, "../upgrade-from"), "utf8")
).trim();
const known = spawnSync("git", ["cat-file", "-e", `${commit}^{commit}`], { cwd: __dirname }).status === 0;
if (!known) {
  console.log(`upgrade: left out, since this clone's history does not have ${commit}: git fetch --unshallow`);
}

const tenants = `defaults: { memory: 256Mi }
tenants:
  acme: { settings: { work_mem: 8MB } }
  globex: { access: false }
  initech: { state: stopped }
  umbrella: { backup: { schedule: "off" }, hostname: rain, settings: { lock_timeout: 1ms, default_transaction_read_only: true } }
`;
const running = ["acme", "globex", "umbrella"];

describe.skipIf(!known)(`a stack of ${commit}`, () => {
  let checkout: Checkout;
  let session: Client;
  let before: Record<string, string>;
  let passwords: string[];
  let plan: string;

  /** When each container started; another container has another time. */
  const starts = async () =>
    Object.fromEntries(
      await Promise.all(
        ["proxy", ...running].map(async (id) => [id, (await inspect(checkout.name(id))).State.StartedAt]),
      ),
    );
  const allPasswords = () => Promise.all(["acme", "umbrella"].map((id) => checkout.password(id)));

  beforeAll(async () => {
    checkout = await Checkout.create(tenants, withBackups);
    await checkout.useCode(commit);
    await checkout.up();
    await checkout.query("acme", "CREATE TABLE kept AS SELECT 42 AS answer");
    passwords = await allPasswords();
    session = await checkout.client("acme");
    before = await starts();
    await checkout.useCode();
    plan = await checkout.pulumi("preview");
    await checkout.up();
  }, 900_000);
  afterAll(async () => {
    await session?.end().catch(() => {});
    await checkout?.remove();
  });

  test("restarts only what the preview of today's code announced", async () => {
    const after = await starts();
    const restarted = Object.keys(after).filter((id) => after[id] !== before[id]);
    const announced = Object.keys(after).filter((id) =>
      id === "proxy"
        ? /^ *(~|\+|-|\+-) .*\bproxy\b/m.test(plan)
        : plan.includes(`${checkout.name(id)} is restarted once`),
    );
    console.log(
      `restarted: ${restarted.join(", ") || "nothing"}; announced: ${announced.join(", ") || "nothing"}`,
    );
    expect(announced).toEqual(expect.arrayContaining(restarted));
    if (restarted.includes("acme") || restarted.includes("proxy")) return;
    expect((await session.query("SELECT answer FROM kept")).rows).toEqual([{ answer: 42 }]);
  });

  test("keeps data, passwords, and what is closed or stopped", async () => {
    expect(await allPasswords()).toEqual(passwords);
    expect(await checkout.query("acme", "SELECT answer FROM kept")).toEqual([{ answer: 42 }]);
    expect(await checkout.query("acme", "SHOW work_mem")).toEqual([{ work_mem: "8MB" }]);
    expect(await checkout.query("umbrella", "SELECT 1 AS one")).toEqual([{ one: 1 }]);
    await expect(checkout.query("globex", "SELECT 1")).rejects.toThrow();
    await expect(inspect(checkout.name("initech"))).rejects.toThrow(/No such container/);
  });

  test("ends queries by Ctrl-C", async () => {
    expect((await interrupt(checkout, psql[18], "acme")).output).toContain("canceling statement");
  });

  test("needs nothing more, and is removed like one of today", async () => {
    await checkout.pulumi("preview", "--expect-no-changes");
    await checkout.pulumi("destroy", "--yes", "--skip-preview");
    await expect(inspect(checkout.name("acme"))).rejects.toThrow(/No such container/);
  });
});
