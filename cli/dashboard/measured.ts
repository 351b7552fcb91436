import type { Series } from "../lib/metrics";
import { type Charts, type SeriesName, seriesNames } from "./api";

/** CPUs used by all tenants, or by one. */
export function cpuQuery(tenant?: string): string {
  return `sum by (tenant) (rate(pgs_server_cpu_seconds_total${of(tenant)}[5m]))`;
}

/** Clients' connections at the proxy (components/docker/proxy.ts has its entry points), of all tenants: Traefik tells no more. */
export const connectionsQuery = 'sum(traefik_open_connections{entrypoint="postgres"})';

/** All that a tenant's charts show in one question, told apart by the label `series`. */
export function chartsQuery(tenant: string): string {
  const one = of(tenant);
  const queries: Record<SeriesName, string> = {
    cpu: cpuQuery(tenant),
    memory: `sum by (tenant) (pgs_server_memory_bytes${one})`,
    connections: `sum by (tenant) (pg_stat_activity_count${one})`,
    size: `sum by (tenant) (pg_database_size_bytes${one}) + sum by (tenant) (pg_wal_size_bytes${one})`,
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

/** A tenant's id has nothing to be quoted. */
function of(tenant: string | undefined): string {
  return tenant === undefined ? "" : `{tenant="${tenant}"}`;
}
