import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(__dirname, "..", "..", "..");

/** A fenced block of a page of the documentation. */
export interface Block {
  /** Path of the page and line of the block, as editors understand it. */
  at: string;
  language: string;
  text: string;
  /** Why the block cannot be tried, as the page says in a comment before it. */
  untried?: string;
}

export const pages = ["README.md", ...readdirSync(join(root, "docs")).map((name) => `docs/${name}`)].filter(
  (name) => name.endsWith(".md"),
);

export function blocksOf(page: string): Block[] {
  const lines = readFileSync(join(root, page), "utf8").split("\n");
  const blocks: Block[] = [];
  for (let index = 0; index < lines.length; index++) {
    const language = /^ *```(\w*)$/.exec(lines[index] ?? "")?.[1];
    if (language === undefined) continue;
    const end = lines.findIndex((line, at) => at > index && /^ *```$/.test(line));
    const before = lines.slice(0, index).findLast((line) => line.trim() !== "") ?? "";
    blocks.push({
      at: `${page}:${index + 1}`,
      language,
      text: lines.slice(index + 1, end).join("\n"),
      untried: /^ *<!-- untried: (.+) -->$/.exec(before)?.[1],
    });
    index = end;
  }
  return blocks;
}

/** The commands of a block: the whole of a script, or what follows the prompts of a session. */
export function commandsOf({ language, text }: Block): string {
  if (language === "sh") return text;
  if (language !== "console") return "";
  return text
    .split("\n")
    .flatMap((line) => /^\$ (.*)$/.exec(line)?.[1] ?? [])
    .join("\n");
}
