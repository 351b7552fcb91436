import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { inhibitRules, ruleFile, summaries } from "../../../monitoring/rules";

/** Prometheus's own tool; script/test finds it. Without it the rules cannot be tried. */
const promtool = process.env.PROMTOOL;

/** Series in promtool's notation by their names, with labels where they have some beside stack and tenant. */
type Series = Record<string, string>;

interface Case {
  alert: string;
  severity: "critical" | "warning";
  about?: "stack";
  fires: Series;
  silent: Series;
  /** Of the samples, in minutes. */
  interval?: number;
  /** What takes days is tried sooner. */
  haste?: number;
  /** When it is looked at, in samples. */
  at?: number;
}

const gib = 2 ** 30;
const days = (count: number) => count * 86_400;
/** An hour and more are divided by it twice. */
const daysAreMinutes = Math.sqrt(24 * 60);

const cases: Case[] = [
  {
    alert: "PgsCollectorDown",
    severity: "critical",
    about: "stack",
    fires: { 'up{job="pgs"}': "1x20 0x20" },
    // A scrape that fails is no fault yet.
    silent: { 'up{job="pgs"}': "1x28 0 1x20" },
  },
  {
    alert: "PgsProxyDown",
    severity: "critical",
    about: "stack",
    fires: {
      'up{job="traefik"}': "1x20 0x20",
      'up{job="postgres",tenant="acme"}': "1x20 0x20",
      'up{job="postgres",tenant="hooli"}': "1x20 0x20",
      'pg_up{tenant="acme"}': "1x20 0x20",
    },
    silent: { 'up{job="traefik"}': "1x40" },
  },
  {
    alert: "PgsExporterDown",
    severity: "critical",
    about: "stack",
    // All tenants' servers cannot be asked either: that follows from it.
    fires: {
      'up{job="exporter"}': "1x20 0x20",
      'up{job="postgres",tenant="acme"}': "1x20 0x20",
    },
    silent: { 'up{job="exporter"}': "1x28 0 1x20" },
  },
  {
    alert: "PgsExporterDown",
    severity: "critical",
    about: "stack",
    fires: {
      'up{job="exporter"}': "1x40",
      pgs_relay_up: "1x20 0x20",
      'pg_up{tenant="acme"}': "1x20 0x20",
    },
    silent: { 'up{job="exporter"}': "1x40", pgs_relay_up: "1x28 0 1x20" },
  },
  {
    alert: "PgsHostDisk",
    severity: "critical",
    about: "stack",
    fires: { pgs_host_disk_size_bytes: "100x40", pgs_host_disk_free_bytes: "9x40" },
    silent: { pgs_host_disk_size_bytes: "100x40", pgs_host_disk_free_bytes: "21x40" },
  },
  {
    alert: "PgsHostDisk",
    severity: "warning",
    about: "stack",
    fires: { pgs_host_disk_size_bytes: "100x40", pgs_host_disk_free_bytes: "19x40" },
    silent: { pgs_host_disk_size_bytes: "100x40", pgs_host_disk_free_bytes: "21x40" },
  },
  {
    alert: "PgsHostDiskFullSoon",
    severity: "warning",
    about: "stack",
    interval: 5,
    at: 55,
    fires: { pgs_host_disk_size_bytes: "1000x60", pgs_host_disk_free_bytes: "450-2x60" },
    silent: { pgs_host_disk_size_bytes: "1000x60", pgs_host_disk_free_bytes: "450-0.5x60" },
  },
  {
    alert: "PgsCertificate",
    severity: "warning",
    about: "stack",
    fires: { pgs_certificate_not_after_timestamp_seconds: `${days(13)}x40` },
    silent: { pgs_certificate_not_after_timestamp_seconds: `${days(15)}x40` },
  },
  {
    alert: "PgsCertificate",
    severity: "critical",
    about: "stack",
    fires: { pgs_certificate_not_after_timestamp_seconds: `${days(2)}x40` },
    silent: { pgs_certificate_not_after_timestamp_seconds: `${days(15)}x40` },
  },
  {
    alert: "PgsDrift",
    severity: "warning",
    about: "stack",
    fires: { pgs_drift_found: "0x20 1x20" },
    silent: { pgs_drift_found: "1x20 0x20" },
  },
  {
    alert: "PgsOutOfMemory",
    severity: "critical",
    fires: { pgs_server_oom_kills_total: "0x25 1x20" },
    silent: { pgs_server_oom_kills_total: "3x40" },
  },
  {
    alert: "PgsRestartLoop",
    severity: "critical",
    // It comes up and goes down: not also a server that is down.
    fires: {
      pgs_server_restarts_total: "0x20 1x2 2x2 3x2 4x20",
      pgs_server_up: "1x20 0x2 1x2 0x2 0x20",
      pgs_backup_exposure_seconds: "0x20 60+60x20",
    },
    silent: { pgs_server_restarts_total: "0x20 1x20" },
  },
  {
    alert: "PgsTenantDown",
    severity: "critical",
    // What follows from it is silent.
    fires: {
      pgs_server_up: "1x20 0x20",
      pg_up: "1x20 0x20",
      pgs_backup_exposure_seconds: "0x20 60+60x20",
    },
    silent: { pgs_server_up: "1x28 0 1x20" },
  },
  {
    alert: "PgsExporterBlind",
    severity: "critical",
    fires: { pg_up: "1x20 0x20", pgs_server_up: "1x40", 'up{job="exporter"}': "1x40" },
    silent: { pg_up: "1x27 0x2 1x20", pgs_server_up: "1x40" },
  },
  {
    alert: "PgsExporterBlind",
    severity: "critical",
    // Of one tenant alone: whether there are others makes no difference.
    fires: { 'up{job="postgres"}': "1x20 0x20", 'up{job="exporter"}': "1x40" },
    silent: { 'up{job="postgres"}': "1x27 0x2 1x20", 'up{job="exporter"}': "1x40" },
  },
  {
    alert: "PgsConnections",
    severity: "critical",
    fires: {
      'pg_stat_activity_count{state="idle"}': "90x40",
      'pg_stat_activity_count{state="active"}': "6x40",
      pg_settings_max_connections: "100x40",
    },
    silent: { pg_stat_activity_count: "77x40", pg_settings_max_connections: "100x40" },
  },
  {
    alert: "PgsConnections",
    severity: "warning",
    fires: { pg_stat_activity_count: "81x40", pg_settings_max_connections: "100x40" },
    silent: { pg_stat_activity_count: "99x3 50x40", pg_settings_max_connections: "100x40" },
  },
  {
    alert: "PgsTransactionIdAge",
    severity: "critical",
    fires: { pg_database_wraparound_age_datfrozenxid_seconds: "1600000000x40" },
    silent: { pg_database_wraparound_age_datfrozenxid_seconds: "200000000x40" },
  },
  {
    alert: "PgsTransactionIdAge",
    severity: "warning",
    fires: { pg_database_wraparound_age_datfrozenxid_seconds: "301000000x40" },
    silent: { pg_database_wraparound_age_datfrozenxid_seconds: "200000000x40" },
  },
  {
    alert: "PgsIdleInTransaction",
    severity: "warning",
    fires: { 'pg_stat_activity_max_tx_duration{state="idle in transaction"}': "0x20 60+60x20" },
    silent: { 'pg_stat_activity_max_tx_duration{state="idle in transaction"}': "240x40" },
  },
  {
    alert: "PgsLongTransaction",
    severity: "warning",
    fires: { 'pg_stat_activity_max_tx_duration{state="active"}': "0x20 60+60x20" },
    silent: { 'pg_stat_activity_max_tx_duration{state="active"}': "240x40" },
  },
  {
    alert: "PgsLockWaits",
    severity: "warning",
    fires: { pg_lock_waits_longest_seconds: "0x20 60+60x20" },
    silent: { pg_lock_waits_longest_seconds: "280x40" },
  },
  {
    alert: "PgsDeadlocks",
    severity: "warning",
    fires: { pg_stat_database_deadlocks: "0x20 1+1x20" },
    silent: { pg_stat_database_deadlocks: "7x25 8x20" },
  },
  {
    alert: "PgsDiskReadOnly",
    severity: "critical",
    fires: {
      pgs_disk_read_only: "0x20 1x20",
      pgs_disk_used_bytes: "96x40",
      pgs_disk_limit_bytes: "100x40",
    },
    silent: { pgs_disk_read_only: "1x20 0x20" },
  },
  {
    alert: "PgsDisk",
    severity: "critical",
    fires: { pgs_disk_used_bytes: "91x40", pgs_disk_limit_bytes: "100x40" },
    silent: { pgs_disk_used_bytes: "79x40", pgs_disk_limit_bytes: "100x40" },
  },
  {
    alert: "PgsDisk",
    severity: "warning",
    fires: { pgs_disk_used_bytes: "81x40", pgs_disk_limit_bytes: "100x40" },
    silent: { pgs_disk_used_bytes: "79x40", pgs_disk_limit_bytes: "100x40" },
  },
  {
    alert: "PgsDiskFullSoon",
    severity: "warning",
    interval: 5,
    at: 55,
    fires: { pgs_disk_used_bytes: "550+2x60", pgs_disk_limit_bytes: "1000x60" },
    silent: { pgs_disk_used_bytes: "550+0.5x60", pgs_disk_limit_bytes: "1000x60" },
  },
  {
    alert: "PgsWalHeldBySlot",
    severity: "warning",
    fires: { 'pg_replication_slots_pg_wal_lsn_diff{slot_name="lost"}': `${1.1 * gib}x40` },
    silent: { 'pg_replication_slots_pg_wal_lsn_diff{slot_name="lost"}': `${0.9 * gib}x40` },
  },
  {
    alert: "PgsBackupExposure",
    severity: "critical",
    fires: { pgs_backup_exposure_seconds: "0x20 60+60x20" },
    silent: {
      pgs_backup_exposure_seconds: "290x40",
      pgs_backup_checked_timestamp_seconds: "0x20 1200x20",
    },
  },
  {
    alert: "PgsBackupExposure",
    severity: "critical",
    at: 35,
    // The backup container answers no more.
    fires: { pgs_backup_exposure_seconds: "0x40", pgs_backup_checked_timestamp_seconds: "60x40" },
    silent: { pgs_backup_exposure_seconds: "0x40", pgs_backup_checked_timestamp_seconds: "1200x40" },
  },
  {
    alert: "PgsBaseBackupTooOld",
    severity: "warning",
    haste: Math.sqrt(72),
    at: 35,
    fires: { pgs_backup_base_timestamp_seconds: "0x40" },
    silent: { pgs_backup_base_timestamp_seconds: "0x20 1200x20" },
  },
  {
    alert: "PgsTriedRestore",
    severity: "warning",
    fires: { pgs_trial_success: "0x40", pgs_trial_timestamp_seconds: "60x40" },
    silent: { pgs_trial_success: "1x40", pgs_trial_timestamp_seconds: "60x40" },
  },
  {
    alert: "PgsTriedRestore",
    severity: "warning",
    haste: daysAreMinutes,
    at: 15,
    fires: { pgs_trial_success: "1x40", pgs_trial_timestamp_seconds: "60x40" },
    silent: { pgs_trial_success: "1x40", pgs_trial_timestamp_seconds: "60x8 480x30" },
  },
  {
    alert: "PgsOffsiteBehind",
    severity: "warning",
    fires: { pgs_offsite_lag_seconds: "0x20 1000x20" },
    silent: { pgs_offsite_lag_seconds: "800x40" },
  },
];

const running = 'pgs_tenant_info{state="running"}';

/** A group of promtool's: whatever fires at that time is exactly what is expected. */
function group(
  name: string,
  { interval = 1, at = 30 }: Pick<Case, "interval" | "at">,
  series: Series,
  firing: string[],
) {
  return {
    name,
    interval: `${interval}m`,
    input_series: Object.entries(series).map(([name, values]) => ({ series: labelled(name), values })),
    promql_expr_test: [
      {
        eval_time: `${interval * at}m`,
        expr: 'ALERTS{alertstate="firing"}',
        exp_samples: firing.map((labels) => ({ labels, value: 1 })),
      },
    ],
  };
}

/** With the labels that every series has. */
function labelled(name: string): string {
  const [metric, labels = ""] = name.split(/[{}]/);
  const ofStack = /host_|certificate|drift|relay|job="(pgs|traefik|exporter)"/.test(name);
  const all = [
    'stack="dev-1"',
    ...(ofStack || /tenant=/.test(labels) ? [] : ['tenant="acme"']),
    ...(labels ? [labels] : []),
  ];
  return `${metric}{${all.join(",")}}`;
}

describe.skipIf(promtool === undefined)("alert rules, by promtool", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "pgs-rules-"));
    writeFileSync(join(folder, "rules.yml"), ruleFile());
    writeFileSync(join(folder, "hasty.yml"), ruleFile({ haste: daysAreMinutes }));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** @throws with what promtool says */
  const test = (haste: number | undefined, groups: ReturnType<typeof group>[]) => {
    const evaluation_interval = groups[0]?.interval;
    writeFileSync(join(folder, "tried.yml"), ruleFile({ haste }));
    writeFileSync(
      join(folder, "tests.yml"),
      stringify({ rule_files: ["tried.yml"], evaluation_interval, tests: groups }),
    );
    return execFileSync(promtool ?? "", ["test", "rules", "tests.yml"], {
      cwd: folder,
      encoding: "utf8",
      timeout: 60_000,
    });
  };

  it("are what Prometheus takes, also for tests with real faults", () => {
    execFileSync(promtool ?? "", ["check", "rules", "--lint-fatal", "rules.yml", "hasty.yml"], {
      cwd: folder,
      encoding: "utf8",
    });
  });

  for (const one of cases) {
    const { alert, severity, about, fires, silent, at = 30 } = one;
    const firing = `ALERTS{alertname="${alert}",alertstate="firing",severity="${severity}",stack="dev-1"${about ? "" : ',tenant="acme"'}}`;
    const always = { [running]: "1x60" };
    const ofTenant = about !== "stack";
    it(`${alert} (${severity}) fires, alone, not without cause${ofTenant ? ", and not for a new, stopped or restoring tenant" : ""}`, () => {
      const young = { [running]: `_x${at - (one.interval || one.haste ? 0 : 3)} 1x9` };
      const inState = (state: string) => ({ [`pgs_tenant_info{state="${state}"}`]: "1x60" });
      test(one.haste, [
        group("fires", one, { ...always, ...fires }, [firing]),
        group("silent", one, { ...always, ...silent }, []),
        ...(ofTenant
          ? [
              group("new", one, { ...young, ...fires }, []),
              ...["stopped", "restoring"].map((state) =>
                group(state, one, { ...inState(state), ...fires }, []),
              ),
            ]
          : []),
      ]);
    });
  }

  it("a tenant whose restore was never tried is named after eight days, and not before", () => {
    const never = { [running]: "1x60", pgs_backup_base_timestamp_seconds: "400x60" };
    const named =
      'ALERTS{alertname="PgsTriedRestore",alertstate="firing",severity="warning",stack="dev-1",tenant="acme"}';
    test(daysAreMinutes, [
      group("before", { at: 7 }, never, []),
      group("after", { at: 11 }, { ...never, pgs_backup_base_timestamp_seconds: "660x60" }, [named]),
    ]);
  });
});

it("every alert is in a test", () => {
  expect([...new Set(cases.map(({ alert }) => alert))].sort()).toEqual([...summaries.keys()].sort());
});

it("every alert has its section in the runbook", () => {
  const runbook = readFileSync(join(__dirname, "..", "..", "..", "docs", "alerts.md"), "utf8");
  for (const name of summaries.keys()) expect(runbook).toContain(`\n### ${name}\n`);
});

it("Alertmanager is told of the same causes", () => {
  expect(inhibitRules()).toContainEqual({
    source_matchers: ['alertname="PgsProxyDown"'],
    target_matchers: ['alertname="PgsExporterBlind"'],
    equal: ["stack"],
  });
});
