/** Barman's own name for a tenant: `barman` and `all`, which it keeps for itself, may be tenants' ids. */
export function barmanName(tenant: string): string {
  return `tenant-${tenant}`;
}

/**
 * Whose database it was: backups that were set aside have the system's identifier behind the tenant's id, and a number
 * where that was taken.
 */
export function databaseOf(tenant: string): string {
  return tenant.replace(/-\d{15,20}(-\d+)?$/, "");
}
