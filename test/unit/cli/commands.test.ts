import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { groups } from "../../../cli/commands";
import { helpText } from "../../../cli/lib/program";

const cli = join(__dirname, "../../../cli");
const commands = Object.values(groups).flat();

describe("the table of commands", () => {
  it("has every file of commands/", () => {
    const files = readdirSync(join(cli, "commands")).map((file) => file.replace(/\.ts$/, ""));
    const own = files.filter((file) => file !== "index" && file !== "shell");
    expect(
      commands
        .map((command) => command.name())
        .filter((name) => name !== "setup" && name !== "env")
        .sort(),
    ).toEqual(own.sort());
  });

  it("is what cli/help.txt lists, which ./pgs prints", () => {
    expect(readFileSync(join(cli, "help.txt"), "utf8")).toBe(helpText());
  });

  it("has a summary for each that fits into a line of the help", () => {
    for (const line of helpText().split("\n")) expect(line.length, line).toBeLessThan(110);
    for (const command of commands) expect(command.description()).toMatch(/^[^\s].*[^.]$/);
  });
});
