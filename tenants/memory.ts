const unitBytes = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 } as const;

/** A whole number and a binary unit, as tenants.yaml writes memory: `512Mi`, `2Gi`. */
export const memoryPattern = /^[1-9][0-9]{0,11}(Ki|Mi|Gi)$/;

/** The bytes of a size such as `512Mi`. The text has to match {@link memoryPattern}. */
export function memoryBytes(text: string): number {
  const unit = text.slice(-2) as keyof typeof unitBytes;
  return Number(text.slice(0, -2)) * unitBytes[unit];
}

/** Bytes in the largest unit that shows them exactly: 1073741824 as `1Gi`. They have to be whole KiB. */
export function formatMemory(bytes: number): string {
  const unit = (["Gi", "Mi"] as const).find((candidate) => bytes % unitBytes[candidate] === 0) ?? "Ki";
  return `${bytes / unitBytes[unit]}${unit}`;
}

/** What somebody who wrote `512MB`, `512m`, `1.5Gi` or `512` probably meant, as tenants.yaml wants it. */
export function memoryMeant(input: unknown): string | undefined {
  if (typeof input !== "string" && typeof input !== "number") return undefined;
  const match = /^\s*(\d{1,15}(?:\.\d{1,3})?)\s*([kmgt]?)i?b?\s*$/i.exec(String(input));
  if (!match) return undefined;
  const number = Number(match[1]);
  const letter = match[2]?.toLowerCase();
  // A bare number is read as bytes when it is large, else as MiB: nobody means 512 bytes.
  const factor = letter ? 1024 ** ("kmgt".indexOf(letter) + 1) : number < 2 ** 20 ? unitBytes.Mi : 1;
  const bytes = number * factor;
  return bytes > 0 && bytes % unitBytes.Ki === 0 && Number.isSafeInteger(bytes)
    ? formatMemory(bytes)
    : undefined;
}

/** The bytes of a disk budget as tenants.yaml has it; undefined for `off`, and where it has none. */
export function diskBudget(text: string | undefined): number | undefined {
  return text === undefined || text === "off" ? undefined : memoryBytes(text);
}
