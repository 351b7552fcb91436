import type { Series } from "../lib/metrics";
import { type Charts, type SeriesName, seriesNames } from "./api";

type Labels = Record<string, string>;

/** Of one tenant by its label, or of all. */
export function cpuQuery(labels: Labels): string {
  return `sum by (tenant) (rate(pgs_server_cpu_seconds_total${selector(labels)}[5m]))`;
}

/** All that a tenant's charts show in one question, told apart by the label `series`. */
export function chartsQuery(labels: Labels): string {
  const by = selector(labels);
  const queries: Record<SeriesName, string> = {
    cpu: cpuQuery(labels),
    memory: `sum by (tenant) (pgs_server_memory_bytes${by})`,
    connections: `sum by (tenant) (pg_stat_database_numbackends${by})`,
    size: `sum by (tenant) (pg_database_size_bytes${by}) + sum by (tenant) (pg_wal_size_bytes${by})`,
  };
  const named = seriesNames.map((name) => `label_replace(${queries[name]}, "series", "${name}", "", "")`);
  return named.join(" or ");
}

/** The answer to `chartsQuery`: all series at the same times, with null where one has no value. */
export function measuredCharts(found: Series[]): Charts {
  const times = [...new Set(found.flatMap(({ points }) => points.map(([time]) => time)))].sort(
    (one, other) => one - other,
  );
  const valuesOf = (name: SeriesName) => {
    const values = new Map(found.find(({ labels }) => labels.series === name)?.points);
    return times.map((time) => {
      const value = values.get(time);
      return value === undefined || !Number.isFinite(value) ? null : value;
    });
  };
  const series = Object.fromEntries(seriesNames.map((name) => [name, valuesOf(name)]));
  return { source: "monitoring", times, series: series as Charts["series"] };
}

/** Labels of the stack's own: neither a stack nor a tenant has a quote in its name. */
function selector(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${value}"`);
  return `{${pairs.join(",")}}`;
}
