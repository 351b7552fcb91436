import { forEach } from "../../docker/client";
import { printable } from "../../docker/exec";
import type { Cluster } from "../../kubernetes/clusters";
import { askServer } from "../../kubernetes/exec";
import { objectNames } from "../../kubernetes/names";
import { firstBase, type JudgedBackups, oldestBase, oldestWal } from "./backup-status";
import { clientOf, stackClusters } from "./kubernetes";
import type { StackConfig, StackOutputs, TenantSummary } from "./stack";

/** The state of a tenant's backups in the bucket, as its Cluster and its server tell it. */
export type ClusterBackups = Pick<
  JudgedBackups,
  "tenant" | "state" | "base" | "wal" | "behind" | "exposed" | "problem" | "pending" | "left"
>;

/** A reason of a Cluster's conditions: a base backup is being made. */
const backupBegun = "BackupStarted";

/** How many servers are asked at once. */
const atOnce = 8;

/** Of all tenants of the stack that are to have backups. */
export async function clusterBackups(
  { tenants }: StackOutputs,
  config: StackConfig,
): Promise<ClusterBackups[]> {
  const [client, clusterOf] = await Promise.all([clientOf(config), stackClusters(config)]);
  const names = objectNames(config.prefix);
  const wanted = Object.entries(tenants).filter(([, { backup }]) => backup && backup.schedule !== "off");
  return forEach(wanted, atOnce, async ([id, tenant]) => {
    const namespace = names.tenant(id);
    const found = clusterOf(id);
    const primary = found?.status?.currentPrimary;
    const asked =
      tenant.state === "running" && primary !== undefined
        ? await askServer(
            client,
            { namespace, name: primary },
            { version: tenant.version, kind: "read", sql: archiver },
          )
            .then(({ stdout }) => archived(stdout))
            .catch((error: Error) => ({ failure: printable(error.message, 300) }))
        : {};
    return judged(id, tenant, found, asked);
  });
}

interface Archived {
  /** When the last segment was there, in seconds since 1970; 0 when none ever was. */
  wal: number;
  /** Bytes of WAL that are not there. */
  behind: number;
  /** Seconds after which a segment goes that is not full. */
  timeout: number;
}

/**
 * An idle server writes a few records of its own, for which PostgreSQL archives no segment. So all is in the bucket once no
 * segment waits and the archive timeout is over.
 */
const archiver = `SELECT
  coalesce(pg_catalog.extract('epoch', last_archived_time)::bigint, 0),
  CASE WHEN last_archived_wal !~ '^[0-9A-F]{24}$' THEN 0 ELSE greatest(0, pg_catalog.pg_current_wal_lsn() - '0/0'::pg_catalog.pg_lsn
    - (('x' || pg_catalog.substr(last_archived_wal, 9, 8))::bit(32)::bigint * 4294967296
      + (('x' || pg_catalog.substr(last_archived_wal, 17, 8))::bit(32)::bigint + 1) * 16777216)) END,
  (SELECT pg_catalog.count(*) FROM pg_catalog.pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),
  (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'archive_timeout'),
  pg_catalog.extract('epoch', pg_catalog.now())::bigint
  FROM pg_catalog.pg_stat_archiver`;

function archived(answer: string): Archived {
  const [wal = 0, bytes = 0, waiting = 0, timeout = 0, now = 0] = answer.trim().split("|").map(Number);
  const settled = waiting === 0 && now - wal > timeout + 60;
  return { wal, behind: settled ? 0 : bytes, timeout };
}

function judged(
  id: string,
  { state }: TenantSummary,
  cluster: Cluster | undefined,
  { wal = 0, behind, timeout = 0, failure }: Partial<Archived> & { failure?: string },
): ClusterBackups {
  const now = Date.now() / 1000;
  const { lastSuccessfulBackup, conditions = [] } = cluster?.status ?? {};
  const base = seconds(lastSuccessfulBackup);
  const exposed = behind === undefined ? null : behind === 0 ? 0 : Math.max(0, Math.round(now - wal));
  const isNew = base === 0 && now - seconds(cluster?.metadata.creationTimestamp) < firstBase;
  const broken = conditions.filter(
    ({ type, status, reason }) =>
      status === "False" &&
      (type === "ContinuousArchiving" || (type === "LastBackupSucceeded" && reason !== backupBegun)),
  );
  const problems =
    state === "stopped"
      ? []
      : [
          ...(failure === undefined ? [] : [failure]),
          ...(base === 0 && !isNew ? ["no base backup yet"] : []),
          ...(base > 0 && now - base > oldestBase ? ["the base backup is old"] : []),
          // A segment that is not full goes after the timeout.
          ...(exposed !== null && wal > 0 && exposed > timeout + oldestWal ? ["its WAL is behind"] : []),
          ...broken.map(({ type, message }) => printable(`${type}: ${message}`, 300)),
        ];
  return {
    tenant: id,
    state: state === "stopped" ? "stopped" : "running",
    base,
    wal,
    behind: behind ?? null,
    exposed,
    left: null,
    problem: problems.join("; ") || null,
    pending: problems.length === 0 && isNew ? "the first base backup is being made" : null,
  };
}

function seconds(time: string | undefined): number {
  return time === undefined ? 0 : Math.floor(Date.parse(time) / 1000);
}
