import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { wayBack } from "../../../../cli/lib/restore-in-place";
import { inTurn } from "../../../../cli/lib/turn";

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pgs-turn-"));
  file = join(folder, "tenants.yaml");
});
afterEach(() => rmSync(folder, { recursive: true }));
const lock = () => join(folder, ".tenants.yaml.lock");

it("commands take turns, and whoever waits is told for whom", async () => {
  const order: string[] = [];
  const said: string[] = [];
  const work =
    (name: string) =>
    async ({ waited }: { waited: boolean }) => {
      order.push(`${name} begins${waited ? " after another" : ""}`);
      await delay(150);
      order.push(`${name} ends`);
    };
  const first = inTurn(file, work("first"));
  const second = inTurn(file, work("second"), (line) => said.push(line));
  await Promise.all([first, second]);
  expect(order).toEqual(["first begins", "first ends", "second begins after another", "second ends"]);
  expect(said).toEqual([expect.stringContaining(`process ${process.pid} on ${hostname()}`)]);
  expect(readdirSync(folder)).toEqual([]);
});

it("work that fails gives its turn back", async () => {
  await expect(inTurn(file, () => Promise.reject(new Error("no")))).rejects.toThrow("no");
  expect(existsSync(lock())).toBe(false);
});

it("takes the turn of a process that is gone, also where its number is another's by now", async () => {
  const { pid } = spawnSync("true");
  for (const [holder, started] of [
    [pid, "1"],
    [process.pid, "1"],
  ]) {
    writeFileSync(lock(), JSON.stringify({ pid: holder, host: hostname(), started, command: "./pgs up" }));
    expect(
      await inTurn(
        file,
        async ({ waited }) => waited,
        () => {},
      ),
    ).toBe(false);
  }
});

it("the turn names whoever has it", async () => {
  await inTurn(file, async () => {
    expect(JSON.parse(readFileSync(lock(), "utf8"))).toMatchObject({ pid: process.pid, host: hostname() });
  });
});

it("while a restore stopped a tenant, nobody is told to start it", async () => {
  const config = { tenantsFile: file };
  expect(wayBack("acme", config)).toBe("./pgs start acme");
  const { argv } = process;
  try {
    for (const [command, args] of [
      [/being restored by process \d+/, ["restore", "acme", "--yes"]],
      [/being restored by process \d+/, ["restore", "--yes", "acme"]],
      [/^\.\/pgs start acme$/, ["restore", "globex", "--yes"]],
      [/^\.\/pgs start acme$/, ["set", "acme", "memory"]],
    ] as const) {
      process.argv = ["node", "main.ts", ...args];
      await inTurn(file, async () => expect(wayBack("acme", config)).toMatch(command));
    }
  } finally {
    process.argv = argv;
  }
  expect(wayBack("acme", config)).toBe("./pgs start acme");
});
