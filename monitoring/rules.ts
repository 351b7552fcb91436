import { stringify } from "yaml";

/** The most severe first. */
export const severityOrder: readonly string[] = ["critical", "warning"] satisfies Severity[];

type Severity = "critical" | "warning";

/** What an operator is told about. In docs/alerts.md each has a section with its name. */
export interface Alert {
  name: string;
  severity: Severity;
  /** Those of a tenant are only about one that has been meant to run for a while (`watched`). */
  about: "tenant" | "stack";
  /** PromQL: one series for each tenant, or for the stack, that has the problem. */
  expr: string;
  /** Seconds that the problem has to last. */
  for: number;
  /** Without a figure, as it is the same however long the alert fires. */
  summary: string;
  /** The figure, and what follows from it. After the tenant's name or the stack's. */
  description: string;
  /** Alerts that are its cause: while one of them is pending or fires, this one is silent. */
  causes?: string[];
}

export interface RuleOptions {
  /**
   * All durations are divided by it, those of an hour and more twice, as are counts of transactions: the same rules fire
   * sooner. For tests, which cannot wait for five minutes, or eight days.
   */
  haste?: number;
}

const minute = 60;
const hour = 60 * minute;
const day = 24 * hour;

/** Where the figures come from: docs/alerts.md, "Thresholds". */
export const thresholds = {
  /** A tenant that is younger, or was stopped or restored until then, alarms nobody. */
  settling: 5 * minute,
  connections: { warning: 0.8, critical: 0.95 },
  /** Connections that PostgreSQL keeps for superusers (superuser_reserved_connections), of max_connections. */
  reserved: 3,
  disk: { warning: 0.8, critical: 0.9 },
  /** What was seen for a shorter time says nothing of tomorrow. */
  history: 3 * hour,
  transactionIdAge: { warning: 300e6, critical: 1.5e9 },
  transaction: 5 * minute,
  idleInTransaction: 5 * minute,
  lockWait: 5 * minute,
  /** In ten minutes. */
  deadlocks: 5,
  /** In fifteen minutes. */
  restarts: 3,
  slotBytes: 1 << 30,
  backupExposure: 5 * minute,
  /** Without an answer about the backups, what would be lost is unknown. */
  backupSilence: 30 * minute,
  /** One and a half times the time between two. */
  baseBackupAge: 36 * hour,
  triedRestoreAge: 8 * day,
  offsiteLag: 15 * minute,
  certificate: { warning: 14 * day, critical: 3 * day },
};

/** The recording rule of the tenants that alerts are about. */
const watched = "pgs:tenant_watched";

/** The recording rule by which a reader knows that the rules are evaluated, and that silence means something. */
const evaluated = "pgs:rules_evaluated_timestamp_seconds";

/** A rule in two severities: the critical one silences the other. */
function both(
  base: Omit<Alert, "severity" | "expr">,
  limits: Record<Severity, number>,
  expr: (limit: number) => string,
): Alert[] {
  return (["critical", "warning"] as const).map((severity) => ({
    ...base,
    severity,
    expr: expr(limits[severity]),
  }));
}

/** All alerts, a cause before its consequences. */
function alerts({ seconds, transactions }: Pace): Alert[] {
  const { transaction, idleInTransaction, lockWait, backupExposure, backupSilence, baseBackupAge } =
    thresholds;
  const { triedRestoreAge, offsiteLag, history } = thresholds;
  const byTenant = "by (stack, tenant)";
  /** What a series will be in a day, by its last six hours. */
  const tomorrow = (series: string) => `predict_linear(${series}[${seconds(6 * hour)}s], ${seconds(day)})`;
  return [
    {
      name: "PgsCollectorDown",
      severity: "critical",
      about: "stack",
      expr: '(max by (stack) (up{job="pgs"}) == 0 or max by (stack) (pgs_collector_engine_up) == 0)',
      for: 2 * minute,
      summary: "The collector does not answer, or the engine does not answer it",
      description:
        "nothing is known of servers, disks and backups, and no alert about a tenant fires until it answers again.",
    },
    {
      name: "PgsProxyDown",
      severity: "critical",
      about: "stack",
      expr: 'max by (stack) (up{job="traefik"}) == 0',
      for: minute,
      summary: "The proxy does not answer",
      description: "no client reaches any tenant.",
    },
    {
      name: "PgsExporterDown",
      severity: "critical",
      about: "stack",
      expr: '(max by (stack) (up{job="exporter"}) == 0 or max by (stack) (pgs_relay_up) == 0)',
      for: 2 * minute,
      summary: "postgres_exporter does not answer, or the relay is down that it logs in by",
      description: "nothing is known of what happens inside any tenant's server.",
    },
    ...both(
      {
        name: "PgsHostDisk",
        about: "stack",
        for: 5 * minute,
        summary: "The Docker host's disk is nearly full",
        description:
          "{{ $value | humanizePercentage }} are used; on a full disk every server of the host stops.",
      },
      thresholds.disk,
      (limit) => `1 - max by (stack) (pgs_host_disk_free_bytes / pgs_host_disk_size_bytes) > ${limit}`,
    ),
    {
      name: "PgsHostDiskFullSoon",
      severity: "warning",
      about: "stack",
      expr: `max by (stack) (${tomorrow("pgs_host_disk_free_bytes")}) < 0 and on (stack) max by (stack) (pgs_host_disk_free_bytes / pgs_host_disk_size_bytes) < 0.5 and on (stack) pgs_host_disk_free_bytes offset ${seconds(history)}s`,
      for: hour,
      summary: "The Docker host's disk will be full in less than 24 hours",
      description: "at the rate of the last six hours no room is left tomorrow.",
      causes: ["PgsHostDisk"],
    },
    ...both(
      {
        name: "PgsCertificate",
        about: "stack",
        for: 10 * minute,
        summary: "The proxy's certificate ends soon",
        description:
          "it ends in {{ $value | humanizeDuration }}; after that, clients that verify it do not connect.",
      },
      thresholds.certificate,
      (limit) => `min by (stack) (pgs_certificate_not_after_timestamp_seconds) - time() < ${limit}`,
    ),
    {
      name: "PgsDrift",
      severity: "warning",
      about: "stack",
      expr: "max by (stack) (pgs_drift_found) == 1",
      for: 0,
      summary: "The Docker host is not as tenants.yaml says",
      description: "the last nightly run found a difference.",
    },
    {
      name: "PgsOutOfMemory",
      severity: "critical",
      about: "tenant",
      expr: `sum ${byTenant} (increase(pgs_server_oom_kills_total[10m])) > 0`,
      for: 0,
      summary: "A process of the server was killed for lack of memory",
      description: "PostgreSQL ends all sessions and recovers when one of its processes is killed.",
    },
    {
      name: "PgsRestartLoop",
      severity: "critical",
      about: "tenant",
      // Between two samples one restart may hide; more than two and a half are three.
      expr: `sum ${byTenant} (increase(pgs_server_restarts_total[15m])) > ${thresholds.restarts - 0.5}`,
      for: 0,
      summary: "The server restarts again and again",
      description: "the engine has restarted it {{ $value | humanize }} times in 15 minutes.",
    },
    {
      name: "PgsTenantDown",
      severity: "critical",
      about: "tenant",
      expr: `max ${byTenant} (pgs_server_up) == 0`,
      for: minute,
      summary: "The server is down",
      description: "tenants.yaml wants it to run, and no client can connect.",
      causes: ["PgsRestartLoop"],
    },
    {
      name: "PgsExporterBlind",
      severity: "critical",
      about: "tenant",
      expr: `(min ${byTenant} (up{job="postgres"}) == 0 or max ${byTenant} (pg_up) == 0)`,
      for: 5 * minute,
      summary: "The exporter cannot log in",
      description:
        "the server runs, but nothing is known of what happens inside; it comes in by the same door as clients.",
      causes: ["PgsProxyDown", "PgsExporterDown", "PgsTenantDown", "PgsRestartLoop"],
    },
    ...both(
      {
        name: "PgsConnections",
        about: "tenant",
        for: 5 * minute,
        summary: "Most connections are taken",
        description:
          "{{ $value | humanizePercentage }} of what is not kept for superusers is taken; new clients are refused when all is.",
      },
      thresholds.connections,
      (limit) =>
        `sum ${byTenant} (pg_stat_activity_count) / on (stack, tenant) (max ${byTenant} (pg_settings_max_connections) - ${thresholds.reserved}) > ${limit}`,
    ),
    ...both(
      {
        name: "PgsTransactionIdAge",
        about: "tenant",
        for: 5 * minute,
        summary: "The oldest transaction ID is too old",
        description:
          "its age is {{ $value | humanize }} transactions, autovacuum does not freeze; at 2.1 billion the server takes no more writes.",
      },
      thresholds.transactionIdAge,
      (limit) => `max ${byTenant} (pg_database_wraparound_age_datfrozenxid_seconds) > ${transactions(limit)}`,
    ),
    {
      name: "PgsIdleInTransaction",
      severity: "warning",
      about: "tenant",
      expr: `max ${byTenant} (pg_stat_activity_max_tx_duration{state=~"idle in transaction.*"}) > ${seconds(idleInTransaction)}`,
      for: minute,
      summary: "A session is idle in a transaction",
      description:
        "for {{ $value | humanizeDuration }}; it holds its locks and keeps VACUUM from removing dead rows.",
    },
    {
      name: "PgsLongTransaction",
      severity: "warning",
      about: "tenant",
      expr: `max ${byTenant} (pg_stat_activity_max_tx_duration{state!~"idle in transaction.*"}) > ${seconds(transaction)}`,
      for: minute,
      summary: "A transaction has been running for long",
      description: "for {{ $value | humanizeDuration }}; it keeps VACUUM from removing dead rows.",
    },
    {
      name: "PgsLockWaits",
      severity: "warning",
      about: "tenant",
      expr: `max ${byTenant} (pg_lock_waits_longest_seconds) > ${seconds(lockWait)}`,
      for: 0,
      summary: "A session waits long for a lock",
      description: "for {{ $value | humanizeDuration }}; another session holds it.",
    },
    {
      name: "PgsDeadlocks",
      severity: "warning",
      about: "tenant",
      expr: `sum ${byTenant} (increase(pg_stat_database_deadlocks[10m])) > ${thresholds.deadlocks}`,
      for: 0,
      summary: "Many deadlocks",
      description:
        "{{ $value | humanize }} in ten minutes; PostgreSQL ends one of the transactions of each with an error.",
    },
    {
      name: "PgsDiskReadOnly",
      severity: "critical",
      about: "tenant",
      expr: `max ${byTenant} (pgs_disk_read_only) == 1`,
      for: 0,
      summary: "The disk budget is used up: the tenant is read-only",
      description: "its roles can delete and VACUUM; it takes writes again by itself when there is room.",
    },
    ...both(
      {
        name: "PgsDisk",
        about: "tenant",
        for: 5 * minute,
        summary: "The disk budget is nearly used up",
        description: "{{ $value | humanizePercentage }} are used; at 95 % the tenant becomes read-only.",
        causes: ["PgsDiskReadOnly"],
      },
      thresholds.disk,
      (limit) => `max ${byTenant} (pgs_disk_used_bytes / pgs_disk_limit_bytes) > ${limit}`,
    ),
    {
      name: "PgsDiskFullSoon",
      severity: "warning",
      about: "tenant",
      expr: `max ${byTenant} (${tomorrow("pgs_disk_used_bytes")} - pgs_disk_limit_bytes) > 0 and on (stack, tenant) max ${byTenant} (pgs_disk_used_bytes / pgs_disk_limit_bytes) > 0.5 and on (stack, tenant) pgs_disk_used_bytes offset ${seconds(history)}s`,
      for: hour,
      summary: "The disk budget will be used up in less than 24 hours",
      description: "at the rate of the last six hours no room is left tomorrow.",
      causes: ["PgsDisk", "PgsDiskReadOnly"],
    },
    {
      name: "PgsWalHeldBySlot",
      severity: "warning",
      about: "tenant",
      expr: `max ${byTenant} (pg_replication_slots_pg_wal_lsn_diff) > ${thresholds.slotBytes}`,
      for: 5 * minute,
      summary: "A replication slot holds WAL back",
      description:
        "{{ $value | humanize1024 }}B, as its consumer does not read; the WAL fills the disk, or the slot is lost.",
    },
    {
      name: "PgsBackupExposure",
      severity: "critical",
      about: "tenant",
      expr: `(max ${byTenant} (pgs_backup_exposure_seconds) > ${seconds(backupExposure)} or time() - max ${byTenant} (pgs_backup_checked_timestamp_seconds) > ${seconds(backupSilence)})`,
      for: minute,
      summary: "The latest changes are in no backup",
      description:
        "those of the last {{ $value | humanizeDuration }} would be lost with the data volume, or nothing was heard of the backups for so long.",
      causes: ["PgsTenantDown", "PgsRestartLoop"],
    },
    {
      name: "PgsBaseBackupTooOld",
      severity: "warning",
      about: "tenant",
      expr: `time() - max ${byTenant} (pgs_backup_base_timestamp_seconds) > ${seconds(baseBackupAge)}`,
      for: hour,
      summary: "The newest base backup is too old",
      description: "a restore has more WAL to replay each day, and the range that can be restored ends.",
    },
    {
      name: "PgsTriedRestore",
      severity: "warning",
      about: "tenant",
      expr: `(max ${byTenant} (pgs_trial_success) == 0 or time() - max ${byTenant} (pgs_trial_timestamp_seconds) > ${seconds(triedRestoreAge)} or ${watched} offset ${seconds(triedRestoreAge)}s unless on (stack, tenant) pgs_trial_timestamp_seconds > 0 and on (stack, tenant) pgs_backup_base_timestamp_seconds)`,
      for: 10 * minute,
      summary: "No restore of the backups was tried with success in the last 8 days",
      description: "it failed, or the nightly run of ./pgs try-restores did not come to it.",
    },
    {
      name: "PgsOffsiteBehind",
      severity: "warning",
      about: "tenant",
      expr: `max ${byTenant} (pgs_offsite_lag_seconds) > ${seconds(offsiteLag)}`,
      for: 5 * minute,
      summary: "The copy at S3 is behind",
      description: "by {{ $value | humanizeDuration }}; what is not there is lost with the Docker host.",
    },
  ];
}

/** How much sooner than in earnest. */
interface Pace {
  seconds: (duration: number) => number;
  transactions: (count: number) => number;
}

function paceOf(haste: number): Pace {
  return {
    seconds: (duration) => Math.max(1, Math.round(duration / (duration < hour ? haste : haste ** 2))),
    transactions: (count) => Math.round(count / haste ** 2),
  };
}

interface Rule {
  record?: string;
  alert?: string;
  expr: string;
  for?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}

/** The rules as data. One group: its rules are evaluated one after the other, so that a cause is known first. */
function rules({ haste = 1 }: RuleOptions): Rule[] {
  const pace = paceOf(haste);
  const { seconds } = pace;
  // The server of one that is incomplete should run, and does not.
  const running = 'max by (stack, tenant) (pgs_tenant_info{state=~"running|incomplete"}';
  return [
    { record: evaluated, expr: "vector(time())" },
    {
      record: watched,
      expr: `${running}) and ${running} offset ${seconds(thresholds.settling)}s)`,
    },
    ...alerts(pace).map((alert) => ({
      alert: alert.name,
      expr: withoutConsequences(alert),
      ...(alert.for > 0 && { for: `${seconds(alert.for)}s` }),
      labels: { severity: alert.severity },
      annotations: {
        summary: `${subject(alert)}: ${alert.summary}`,
        description: `${subject(alert)}: ${alert.description}`,
        runbook_url: runbookOf(alert.name),
      },
    })),
  ];
}

function subject({ about }: Alert): string {
  return about === "tenant" ? "{{ $labels.tenant }}" : "{{ $labels.stack }}";
}

/** The same silence as Alertmanager's inhibition, so that what reads Prometheus alone has it too. */
function withoutConsequences({ name, severity, about, expr, causes }: Alert): string {
  const labels = about === "tenant" ? "stack, tenant" : "stack";
  const stackWide = causes?.filter((cause) => isStackWide(cause)) ?? [];
  const own = causes?.filter((cause) => !isStackWide(cause)) ?? [];
  return [
    expr,
    ...(about === "tenant" ? [`and on (stack, tenant) ${watched}`] : []),
    ...(stackWide.length > 0 ? [`unless on (stack) ALERTS{alertname=~"${stackWide.join("|")}"}`] : []),
    ...(own.length > 0 ? [`unless on (${labels}) ALERTS{alertname=~"${own.join("|")}"}`] : []),
    ...(severity === "warning" && hasBoth(name)
      ? [`unless on (${labels}) ALERTS{alertname="${name}", severity="critical", alertstate="firing"}`]
      : []),
  ].join(" ");
}

const all = alerts(paceOf(1));
const isStackWide = (name: string) => all.some((alert) => alert.name === name && alert.about === "stack");
const hasBoth = (name: string) => all.filter((alert) => alert.name === name).length === 2;

/** What a reader without Alertmanager asks Prometheus. */
export const firingQuery = `(ALERTS_FOR_STATE and ignoring (alertstate) ALERTS{alertstate="firing"}) or ${evaluated}`;

/** What an alert says, by its name. */
export const summaries = new Map(all.map(({ name, summary }) => [name, summary]));

export function runbookOf(name: string): string {
  return `docs/alerts.md#${name.toLowerCase()}`;
}

/** The text of Prometheus's rule file. */
export function ruleFile(options: RuleOptions = {}): string {
  return stringify({ groups: [{ name: "pgs", rules: rules(options) }] }, { lineWidth: 0 });
}

export interface InhibitRule {
  source_matchers: string[];
  target_matchers: string[];
  equal: string[];
}

/** Alertmanager's: also where a cause begins to fire only after its consequence. */
export function inhibitRules(): InhibitRule[] {
  const consequences = all
    .filter(({ severity, name }) => severity === "warning" || !hasBoth(name))
    .flatMap(({ name, causes = [] }) =>
      causes.map((cause) => ({
        source_matchers: [`alertname="${cause}"`],
        target_matchers: [`alertname="${name}"`],
        equal: isStackWide(cause) ? ["stack"] : ["stack", "tenant"],
      })),
    );
  const severities = {
    source_matchers: ['severity="critical"'],
    target_matchers: ['severity="warning"'],
    equal: ["alertname", "stack", "tenant"],
  };
  return [severities, ...consequences];
}
