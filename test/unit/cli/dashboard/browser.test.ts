import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it, vi } from "vitest";
import { openBrowser } from "../../../../cli/dashboard/browser";

const folder = mkdtempSync(join(tmpdir(), "pgs-browser-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const address = "http://127.0.0.1:8484/?token=secret";
const env = { PATH: `${folder}:${process.env.PATH}`, DISPLAY: ":0" };

it("gives the browser a file of this user's own: arguments can be read by all", async () => {
  const told = join(folder, "arguments");
  writeFileSync(join(folder, "xdg-open"), `#!/bin/sh\nprintf '%s' "$*" >"${told}"\n`, { mode: 0o755 });
  const remove = openBrowser(address, env, "linux");
  const file = await vi.waitFor(
    () => {
      const text = readFileSync(told, "utf8");
      expect(text).not.toBe("");
      return text;
    },
    { timeout: 10_000 },
  );
  expect(file).not.toContain("secret");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readFileSync(file, "utf8")).toContain(address);
  remove();
  expect(existsSync(file)).toBe(false);
});

it("opens none where there is no desktop", () => {
  rmSync(join(folder, "arguments"), { force: true });
  openBrowser(address, { ...env, DISPLAY: undefined }, "linux")();
  expect(existsSync(join(folder, "arguments"))).toBe(false);
});
