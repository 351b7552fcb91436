import { escapeSteering } from "../../docker/exec";

/** Colours, where standard output is a terminal that has them: NO_COLOR and FORCE_COLOR are honoured. */
const colours = process.stdout.isTTY === true && process.stdout.hasColors();

const style = (code: number) => (text: string) => (colours && text ? `\x1b[${code}m${text}\x1b[0m` : text);

export function isTerminal(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY === true;
}

/** Shows the progress of long work at a terminal; undefined without one. */
export function progressReporter(subject: string): ((progress: string) => void) | undefined {
  if (!isTerminal(process.stderr)) return undefined;
  return (progress) => console.error(`  ${subject}: ${progress}`);
}

export const coloured = {
  good: style(32),
  warning: style(33),
  bad: style(31),
  faint: style(2),
  heading: style(1),

  diff: (text: string) =>
    text.replace(/^([-+@]).*$/gm, (line, sign) =>
      sign === "+" ? coloured.good(line) : sign === "-" ? coloured.bad(line) : coloured.faint(line),
    ),
};

/** The first eight, and how many more there are. */
export function firstOf(items: string[]): string {
  const more = items.length > 8 ? ` and ${items.length - 8} more` : "";
  return items.slice(0, 8).join(", ") + more;
}

/** For programs. What steers a terminal is escaped: a server's own text may be in it. */
export function printableJson(value: unknown): string {
  return JSON.stringify(value, undefined, 2).split("\n").map(escapeSteering).join("\n");
}

/** Characters in a line of the terminal; undefined where standard output is none. */
export function terminalWidth(): number | undefined {
  return process.stdout.isTTY ? process.stdout.columns : undefined;
}
