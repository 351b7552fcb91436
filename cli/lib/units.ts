/** 134217728 -> 128Mi, as tenants.yaml writes it. */
export function bytes(count: number | null): string {
  if (count === null) return "-";
  let value = count;
  let unit = 0;
  const units = ["B", "Ki", "Mi", "Gi", "Ti"];
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value < 10 && !Number.isInteger(value) ? value.toFixed(1) : Math.round(value)}${units[unit]}`;
}

/** The two largest units: 3d4h, 5h12m, 3m20s. */
export function duration(seconds: number | null): string {
  if (seconds === null) return "-";
  const parts: [number, string][] = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "m"],
    [Math.floor(seconds) % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0s";
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join("");
}

/** 0.42 ms, 3.1 s, 4m20s. */
export function milliseconds(count: number): string {
  if (count < 1000) return `${count.toFixed(count < 10 ? 2 : 0)} ms`;
  return count < 60_000 ? `${(count / 1000).toFixed(1)} s` : duration(count / 1000);
}

/** 99.8 %; `-` of nothing. */
export function percentage(part: number, whole: number): string {
  return whole === 0 ? "-" : `${((100 * part) / whole).toFixed(1)} %`;
}
