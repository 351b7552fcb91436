import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { program } from "../../cli/lib/program";
import { Provider } from "../../provider/provider";

const root = join(__dirname, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const { version } = JSON.parse(read("package.json"));

it("the command and the provider have package.json's version", () => {
  expect(execFileSync(join(root, "pgs"), ["--version"], { encoding: "utf8" })).toBe(`${version}\n`);
  expect(program.version()).toBe(version);
  expect(new Provider().version).toBe(version);
});

it("the changelog's newest entry is of that version", () => {
  expect(/^## \[(.+?)\]/m.exec(read("CHANGELOG.md"))?.[1]).toBe(version);
});
