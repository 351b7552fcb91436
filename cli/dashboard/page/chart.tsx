import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { clock } from "./text";

export interface ChartData {
  title: string;
  times: number[];
  values: (number | null)[];
  /** How a value reads. */
  unit: (value: number | null) => string;
  /** What there is at most, for the heading. */
  limit: number | null;
  /** Seconds that the axis is long, up to the last value. */
  span: number;
  /** Steps of the axis, and the least that it goes up to. */
  steps: number[];
  least: number;
}

const height = 130;
const tens = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000];
export const steps = {
  whole: tens,
  parts: [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, ...tens],
  bytes: Array.from({ length: 42 }, (_, power) => 2 ** (power + 10)),
};

/** One series over time; its last value, or the one under the pointer, is in its heading. */
export function Chart({ title, times, values, unit, limit, span, steps, least }: ChartData) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const [scheme, setScheme] = useState(0);

  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setScheme((count) => count + 1);
    dark.addEventListener("change", changed);
    return () => dark.removeEventListener("change", changed);
  }, []);

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const colour = (name: string) => getComputedStyle(element).getPropertyValue(`--${name}`).trim();
    const axis: uPlot.Axis = {
      stroke: colour("faint"),
      grid: { stroke: colour("line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    const made = new uPlot(
      {
        width: Math.max(200, element.clientWidth),
        height,
        legend: { show: false },
        cursor: { y: false, points: { size: 6 } },
        scales: {
          x: { time: true, range: (_, __, last) => [last - span, last] },
          y: { range: (_, __, most) => [0, Math.max(most * 1.15, least)] },
        },
        axes: [
          { ...axis, size: 24, space: 70, values: "{HH}:{mm}" },
          {
            ...axis,
            size: 52,
            space: 32,
            incrs: steps,
            values: (_, splits) => splits.map((split) => unit(split)),
          },
        ],
        series: [
          {},
          { stroke: colour("accent"), fill: colour("accent-soft"), width: 1.5, points: { show: false } },
        ],
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        hooks: { setCursor: [(self) => setPointed(self.cursor.idx ?? null)] },
      },
      [times, values],
      element,
    );
    plot.current = made;
    const resized = new ResizeObserver(() =>
      made.setSize({ width: Math.max(200, element.clientWidth), height }),
    );
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [scheme, span]);

  useEffect(() => plot.current?.setData([times, values]), [times, values]);

  const known = values.filter((value) => value !== null);
  const last = known.at(-1) ?? null;
  const isPointed = pointed !== null && pointed < times.length;
  const value = isPointed ? (values[pointed] ?? null) : last;
  const most = known.length > 0 ? Math.max(...known) : null;
  const at = isPointed ? ` at ${clock((times[pointed] ?? 0) * 1000)}` : "";
  return (
    <figure class="chart">
      <figcaption>
        <span>{title}</span>{" "}
        <span>
          <strong>{unit(value)}</strong>
          <span class="faint">{at || (limit === null ? "" : ` of ${unit(limit)}`)}</span>
        </span>
      </figcaption>
      <div
        ref={place}
        role="img"
        aria-label={`${title}: now ${unit(last)}${limit === null ? "" : ` of ${unit(limit)}`}, at most ${unit(most)} in the time shown`}
      />
    </figure>
  );
}
