import type { Dashboard } from "@grafana/grafana-foundation-sdk/dashboard";
import { dashboard, figure, lines, rows } from "./panels";

const stack = '{stack="$stack"}';
const tenant = '{stack="$stack", tenant="$tenant"}';
/** Of one tenant, with one more label. */
const tenantWith = (label: string) => `{stack="$stack", tenant="$tenant", ${label}}`;
const byTenant = (expr: string) => `max by (tenant) (${expr})`;
const sumByTenant = (expr: string) => `sum by (tenant) (${expr})`;
const cpu = (selector: string) =>
  `rate(pgs_server_cpu_seconds_total${selector}[$__rate_interval]) / pgs_server_cpu_limit_cores${selector}`;
const toTenant = `/d/pgs-tenant?var-stack=\${stack}&var-tenant=\${__value.text}`;

const host = dashboard({
  uid: "pgs-host",
  title: "host",
  panels: {
    Host: [
      figure("Tenants that run", "short", `count(pgs_server_up${stack} == 1)`),
      figure("Alerts that fire", "short", `count(ALERTS{stack="$stack", alertstate="firing"}) or vector(0)`),
      figure(
        "Disk used",
        "percentunit",
        `1 - pgs_host_disk_free_bytes${stack} / pgs_host_disk_size_bytes${stack}`,
      ),
      figure("Memory available", "bytes", `pgs_host_memory_available_bytes${stack}`),
      figure("Certificate ends in", "s", `pgs_certificate_not_after_timestamp_seconds${stack} - time()`),
      figure("Drift", "bool_yes_no", `pgs_drift_found${stack}`, { onlyWith: "the nightly check of drift" }),
    ],
    Resources: [
      lines("Disk", "bytes", {
        free: `pgs_host_disk_free_bytes${stack}`,
        size: `pgs_host_disk_size_bytes${stack}`,
      }),
      lines("Memory", "bytes", {
        "promised to tenants": `pgs_host_memory_promised_bytes${stack}`,
        "used by tenants": `sum(pgs_server_memory_bytes${stack})`,
        available: `pgs_host_memory_available_bytes${stack}`,
        size: `pgs_host_memory_bytes${stack}`,
      }),
      lines("CPU of all tenants", "short", {
        cores: `sum(rate(pgs_server_cpu_seconds_total${stack}[$__rate_interval]))`,
      }),
    ],
    Proxy: [
      lines("Open connections", "short", {
        "{{entrypoint}}": `sum by (entrypoint) (traefik_open_connections${stack})`,
      }),
      lines("Reloads of the routes", "short", {
        "in five minutes": `increase(traefik_config_reloads_total${stack}[5m])`,
      }),
      lines("Memory of the proxy", "bytes", {
        resident: 'process_resident_memory_bytes{stack="$stack", job="traefik"}',
      }),
    ],
    "What watches": [
      lines("Answers", "bool", { "{{job}}": `min by (job) (up${stack})` }, { max: 1 }),
      lines("Duration of a scrape", "s", {
        "{{job}}": `max by (job) (scrape_duration_seconds${stack})`,
      }),
    ],
  },
});

const fleet = dashboard({
  uid: "pgs-fleet",
  title: "fleet",
  panels: {
    Tenants: [
      rows("Tenants", { name: "tenant", title: "Tenant", link: toTenant }, [
        { title: "Up", unit: "bool_yes_no", expr: byTenant(`pgs_server_up${stack}`) },
        {
          title: "Alerts",
          unit: "short",
          expr: `count by (tenant) (ALERTS{stack="$stack", alertstate="firing", tenant!=""}) or max by (tenant) (pgs_server_up${stack}) * 0`,
        },
        {
          title: "Memory",
          unit: "percentunit",
          expr: byTenant(`pgs_server_memory_bytes${stack} / pgs_server_memory_limit_bytes${stack}`),
        },
        { title: "CPU", unit: "percentunit", expr: byTenant(cpu(stack).replace("$__rate_interval", "5m")) },
        {
          title: "Connections",
          unit: "percentunit",
          expr: `${sumByTenant(`pg_stat_activity_count${stack}`)} / ${byTenant(`pg_settings_max_connections${stack}`)}`,
        },
        { title: "Data", unit: "bytes", expr: sumByTenant(`pg_database_size_bytes${stack}`) },
        { title: "WAL", unit: "bytes", expr: byTenant(`pg_wal_size_bytes${stack}`) },
        {
          title: "Transactions/s",
          unit: "short",
          expr: sumByTenant(`rate(pg_stat_database_xact_commit${stack}[5m])`),
        },
        {
          title: "Would be lost now",
          unit: "s",
          expr: byTenant(`pgs_backup_exposure_seconds${stack}`),
        },
      ]),
    ],
    "The largest ten": [
      lines("Memory", "bytes", { "{{tenant}}": `topk(10, pgs_server_memory_bytes${stack})` }),
      lines("CPU of limit", "percentunit", { "{{tenant}}": `topk(10, ${cpu(stack)})` }),
      lines("Data", "bytes", { "{{tenant}}": `topk(10, ${sumByTenant(`pg_database_size_bytes${stack}`)})` }),
      lines("Transactions/s", "short", {
        "{{tenant}}": `topk(10, ${sumByTenant(`rate(pg_stat_database_xact_commit${stack}[$__rate_interval])`)})`,
      }),
    ],
  },
});

const oneTenant = dashboard({
  uid: "pgs-tenant",
  title: "tenant",
  tenant: true,
  panels: {
    Now: [
      figure("Up", "bool_yes_no", `pgs_server_up${tenant}`),
      figure("Runs since", "s", `time() - pgs_server_started_timestamp_seconds${tenant}`),
      figure(
        "Connections",
        "percentunit",
        `sum(pg_stat_activity_count${tenant}) / max(pg_settings_max_connections${tenant})`,
      ),
      figure("Would be lost now", "s", `pgs_backup_exposure_seconds${tenant}`),
      figure("Restarts", "short", `pgs_server_restarts_total${tenant}`),
      figure("Out of memory", "short", `pgs_server_oom_kills_total${tenant}`),
    ],
    Server: [
      lines("Memory", "bytes", {
        used: `pgs_server_memory_bytes${tenant}`,
        limit: `pgs_server_memory_limit_bytes${tenant}`,
      }),
      lines("CPU", "short", {
        used: `rate(pgs_server_cpu_seconds_total${tenant}[$__rate_interval])`,
        limit: `pgs_server_cpu_limit_cores${tenant}`,
      }),
      lines("Data and WAL", "bytes", {
        data: `sum(pg_database_size_bytes${tenant})`,
        WAL: `pg_wal_size_bytes${tenant}`,
      }),
      lines(
        "Disk budget",
        "bytes",
        { used: `pgs_disk_used_bytes${tenant}`, limit: `pgs_disk_limit_bytes${tenant}` },
        { onlyWith: "a disk budget" },
      ),
    ],
    Sessions: [
      lines("Sessions", "short", {
        "{{state}}": `sum by (state) (pg_stat_activity_count${tenant})`,
        max_connections: `max(pg_settings_max_connections${tenant})`,
      }),
      lines("Oldest transaction", "s", {
        "{{state}}": `max by (state) (pg_stat_activity_max_tx_duration${tenantWith('state!="idle"')})`,
      }),
      lines(
        "Locks",
        "short",
        { "{{mode}}": `sum by (mode) (pg_locks_count${tenant}) > 0` },
        { onlyWith: "locks" },
      ),
      lines("Waits for locks", "short", {
        "locks waited for": `pg_lock_waits_sessions${tenant}`,
        "seconds of the longest": `pg_lock_waits_longest_seconds${tenant}`,
      }),
    ],
    Work: [
      lines("Transactions/s", "short", {
        commits: `sum(rate(pg_stat_database_xact_commit${tenant}[$__rate_interval]))`,
        rollbacks: `sum(rate(pg_stat_database_xact_rollback${tenant}[$__rate_interval]))`,
      }),
      lines("Rows/s", "short", {
        read: `sum(rate(pg_stat_database_tup_fetched${tenant}[$__rate_interval]))`,
        inserted: `sum(rate(pg_stat_database_tup_inserted${tenant}[$__rate_interval]))`,
        updated: `sum(rate(pg_stat_database_tup_updated${tenant}[$__rate_interval]))`,
        deleted: `sum(rate(pg_stat_database_tup_deleted${tenant}[$__rate_interval]))`,
      }),
      lines(
        "Found in shared_buffers",
        "percentunit",
        {
          blocks: `sum(increase(pg_stat_database_blks_hit${tenant}[30m])) / (sum(increase(pg_stat_database_blks_hit${tenant}[30m])) + sum(increase(pg_stat_database_blks_read${tenant}[30m])))`,
        },
        { max: 1 },
      ),
      lines("Temporary files", "Bps", {
        written: `sum(rate(pg_stat_database_temp_bytes${tenant}[$__rate_interval]))`,
      }),
      lines("Deadlocks", "short", {
        "in ten minutes": `sum(increase(pg_stat_database_deadlocks${tenant}[10m]))`,
      }),
      lines("Age of the oldest transaction ID", "short", {
        transactions: `max(pg_database_wraparound_age_datfrozenxid_seconds${tenant})`,
      }),
      lines(
        "WAL held by slots",
        "bytes",
        { "{{slot_name}}": `pg_replication_slots_pg_wal_lsn_diff${tenant}` },
        { onlyWith: "replication slots" },
      ),
    ],
  },
});

const backups = dashboard({
  uid: "pgs-backups",
  title: "backups",
  panels: {
    Now: [
      figure("Would be lost now, at most", "s", `max(pgs_backup_exposure_seconds${stack})`, { span: 6 }),
      figure("Oldest base backup", "s", `time() - min(pgs_backup_base_timestamp_seconds${stack} > 0)`, {
        span: 6,
      }),
      figure("Restores that failed", "short", `count(pgs_trial_success${stack} == 0) or vector(0)`, {
        span: 6,
      }),
      figure("Size of all backups", "bytes", `sum(pgs_backup_size_bytes${stack})`, { span: 6 }),
    ],
    Tenants: [
      rows("Recoverability", { name: "tenant", title: "Tenant", link: toTenant }, [
        { title: "Would be lost now", unit: "s", expr: byTenant(`pgs_backup_exposure_seconds${stack}`) },
        {
          title: "Base backup",
          unit: "dateTimeFromNow",
          expr: byTenant(`(pgs_backup_base_timestamp_seconds${stack} > 0) * 1000`),
        },
        {
          title: "Restorable from",
          unit: "dateTimeAsIso",
          expr: byTenant(`pgs_backup_first_recoverable_timestamp_seconds${stack} * 1000`),
        },
        { title: "Size", unit: "bytes", expr: byTenant(`pgs_backup_size_bytes${stack}`) },
      ]),
      rows(
        "Tried restores",
        { name: "tenant", title: "Tenant", link: toTenant },
        [
          {
            title: "Tried",
            unit: "dateTimeFromNow",
            expr: byTenant(`pgs_trial_timestamp_seconds${stack} * 1000`),
          },
          { title: "Worked", unit: "bool_yes_no", expr: byTenant(`pgs_trial_success${stack}`) },
          { title: "Took", unit: "s", expr: byTenant(`pgs_trial_duration_seconds${stack}`) },
        ],
        { onlyWith: "restores that were tried" },
      ),
    ],
    "Over time": [
      lines("Would be lost", "s", { "{{tenant}}": `topk(10, pgs_backup_exposure_seconds${stack})` }),
      lines(
        "Behind at S3",
        "s",
        { "{{tenant}}": `topk(10, pgs_offsite_lag_seconds${stack})` },
        { onlyWith: "copies at S3" },
      ),
      lines("Size", "bytes", { "{{tenant}}": `topk(10, pgs_backup_size_bytes${stack})` }),
    ],
  },
});

const statement = "queryid";
const perStatement = (metric: string) => `sum by (${statement}) (rate(${metric}${tenant}[$__rate_interval]))`;

const queries = dashboard({
  uid: "pgs-queries",
  title: "queries",
  tenant: true,
  panels: {
    "The five statements with the most time (./pgs top shows their text)": [
      lines("Time", "percentunit", { "{{queryid}}": perStatement("pg_stat_statements_seconds_total") }),
      lines("Calls/s", "short", { "{{queryid}}": perStatement("pg_stat_statements_calls_total") }),
      lines("Rows/s", "short", { "{{queryid}}": perStatement("pg_stat_statements_rows_total") }),
      lines("Mean time", "s", {
        "{{queryid}}": `sum by (queryid) (increase(pg_stat_statements_seconds_total${tenant}[30m])) / sum by (queryid) (increase(pg_stat_statements_calls_total${tenant}[30m]) > 0)`,
      }),
      rows("Since the counters began", { name: statement, title: "Statement" }, [
        { title: "Time", unit: "s", expr: `sum by (queryid) (pg_stat_statements_seconds_total${tenant})` },
        { title: "Calls", unit: "short", expr: `sum by (queryid) (pg_stat_statements_calls_total${tenant})` },
        { title: "Rows", unit: "short", expr: `sum by (queryid) (pg_stat_statements_rows_total${tenant})` },
      ]),
    ],
  },
});

/** By the names of their files. */
export const dashboards: Record<string, Dashboard> = { host, fleet, tenant: oneTenant, backups, queries };

/** The text of a dashboard's file. */
export function dashboardText(one: Dashboard): string {
  return `${JSON.stringify(one, undefined, 1)}\n`;
}
