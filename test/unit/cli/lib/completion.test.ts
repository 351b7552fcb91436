import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { completionScript } from "../../../../cli/lib/completion";

let folder: string;
const program = new Command();
program.command("stop").argument("[tenants...]").option("-y, --yes").description("it's a test: stops");
program.command("start").argument("<tenant>");
program.command("create").argument("<new-tenant>").option("--memory <size>");

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "pgs completion-"));
  writeFileSync(join(folder, "tenants.yaml"), "tenants:\n  acme: {}\n  a-b: {}\n  globex:\n    cpus: 2\n");
});
afterAll(() => rmSync(folder, { recursive: true }));

const script = (shell: string) => completionScript(shell, program.commands, join(folder, "tenants.yaml"));

describe("completion in bash", () => {
  const complete = (...words: string[]) =>
    execFileSync(
      "bash",
      [
        "-c",
        `eval "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pgs; echo "\${COMPREPLY[@]}"`,
        "-",
        script("bash"),
        "./pgs",
        ...words,
      ],
      {
        encoding: "utf8",
      },
    ).trim();

  it.each([
    [["st"], "stop start"],
    [["c"], "create"],
    [["stop", "a"], "acme a-b"],
    [["stop", "acme", "g"], "globex"],
    [["stop", "--"], "--yes --help"],
    [["create", ""], ""],
    [["create", "--m"], "--memory"],
  ])("of %s is %s", (words, expected) => {
    expect(complete(...words)).toBe(expected);
  });
});

it.each(["bash", "zsh", "fish"])("%s takes the script", (shell) => {
  const checked = spawnSync(shell, ["-n", "-c", script(shell)], { encoding: "utf8" });
  // Not every machine has all three.
  if (checked.error) return;
  expect(checked.stderr).toBe("");
});

it("of a file that is wrong, or gone, completes no tenant", () => {
  const gone = completionScript("bash", program.commands, join(folder, "nowhere.yaml"));
  const command = `eval "$1"; COMP_WORDS=(pgs stop ""); COMP_CWORD=2; _pgs; echo "\${COMPREPLY[@]}"`;
  expect(execFileSync("bash", ["-c", command, "-", gone], { encoding: "utf8" })).toBe("\n");
});
