/** One line of the table. */
export interface Row {
  figure: string;
  /** What was measured, with its unit. */
  measured: string;
  /** What it was compared with in the same run. */
  against: string;
  /** The first divided by the second, where it is compared. */
  ratio?: number;
  aim: string;
  /** Undefined where the aim is no number. */
  met?: boolean;
}

/** Two times of the same kind: how often the second goes into the first. */
export function ratioOf(
  figure: string,
  measured: number,
  other: { what: string; measured: number },
  aim: { atMost: number; also?: { text: string; met: boolean } },
): Row {
  const ratio = measured / other.measured;
  return {
    figure,
    measured: `${measured.toFixed(2)} s`,
    against: `${other.what}: ${other.measured.toFixed(2)} s`,
    ratio,
    aim: `≤ ${aim.atMost}${aim.also ? `, ${aim.also.text}` : ""}`,
    met: ratio <= aim.atMost && (aim.also?.met ?? true),
  };
}

/** A GitHub-flavoured table, aligned for a terminal as well. */
export function table(rows: Row[]): string {
  const cells = rows.map((row) => [
    row.figure,
    row.measured,
    row.against,
    row.ratio?.toFixed(2) ?? "–",
    row.aim,
    row.met === undefined ? "–" : row.met ? "yes" : "**no**",
  ]);
  const all = [["figure", "measured", "against", "ratio", "aim", "met"], ...cells];
  const widths = all[0]?.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0))) ?? [];
  const line = (row: string[]) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  return [
    line(all[0] ?? []),
    `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`,
    ...cells.map(line),
  ].join("\n");
}
