/** How a tenant, or the whole stack, is backed up, as it is written. */
export interface BackupPlan {
  /** Time of day (UTC, HH:MM) of the daily base backup, or `off`. */
  readonly schedule: string;
  /** For how many days back there can be a restore to any second, such as `7d`. */
  readonly retention: string;
}

export const schedulePattern = /^(off|([01]\d|2[0-3]):[0-5]\d)$/;
export const retentionPattern = /^[1-9]\d{0,3}d$/;

/** What holds for a tenant: what it says itself or `defaults` says, over the stack's. A stack whose backups are off has none. */
export function backupPlan(tenant: { readonly backup: Partial<BackupPlan> }, stack: BackupPlan): BackupPlan {
  const { schedule = stack.schedule, retention = stack.retention } = tenant.backup;
  return { schedule: stack.schedule === "off" ? "off" : schedule, retention };
}

export function retentionDays({ retention }: BackupPlan): number {
  return Number.parseInt(retention, 10);
}
