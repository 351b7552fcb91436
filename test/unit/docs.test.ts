import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { pages } from "./support/docs";

const root = join(__dirname, "..", "..");
const textOf = (page: string) => readFileSync(join(root, page), "utf8");

describe.each(pages)("%s", (page) => {
  const text = textOf(page);

  it("links to pages and headings that are there", () => {
    const links = [...text.matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)];
    const broken = links.filter(([, path = "", anchor]) => {
      const target = path ? join(root, dirname(page), path) : join(root, page);
      if (!existsSync(target)) return true;
      return anchor !== undefined && !anchors(readFileSync(target, "utf8")).includes(anchor);
    });
    expect(broken.map(([link]) => link)).toEqual([]);
  });

  it("names commands of pgs and keys of the configuration that are there", () => {
    const commands = [...textOf("cli/help.txt").matchAll(/^ {2}([a-z-]+)(?: |$)/gm)].map(
      ([, name = ""]) => name,
    );
    const named = [...text.matchAll(/\.\/pgs ([a-z][a-z-]*)/g)].map(([, name = ""]) => name);
    expect(named.filter((name) => !commands.includes(name))).toEqual([]);
    const declared = [...Object.keys(parse(textOf("Pulumi.yaml")).config), ...undeclared];
    const keys = [...text.matchAll(/\bpgs:(?!index:)([a-z][A-Za-z0-9]+)/g)].map(([, key = ""]) => key);
    expect(keys.filter((key) => !declared.includes(key))).toEqual([]);
  });
});

/** Without a default, Pulumi would insist on a declared key in each stack's configuration. */
const undeclared = [
  "acme",
  "acmeCredentials",
  "alertCredentials",
  "allow",
  "backupCredentials",
  "certificate",
  "ipv6Subnet",
  "kubernetes",
  "passwords",
];

/** As GitHub makes them. */
function anchors(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .trim()
      .replaceAll(" ", "-"),
  );
}
