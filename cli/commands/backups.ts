import { printable } from "../../docker/exec";
import { type JudgedBackups, judgedBackups } from "../lib/backup-status";
import { clusterBackups } from "../lib/cluster-backups";
import { command, exitNote } from "../lib/command";
import { containersOf } from "../lib/containers";
import { confirm, isAttended } from "../lib/prompt";
import { CommandError } from "../lib/pulumi";
import { requireDocker, requiredOutputs, stackConfig } from "../lib/stack";
import { TenantBackups } from "../lib/tenant-backups";
import { backupsTable, clusterBackupsTable } from "../lib/tenants-table";
import { bytes } from "../lib/units";

export const backups = exitNote(
  command("backups", "backup status and problems per tenant", "./pgs backups")
    .option("--json", "for programs: sizes in bytes, times in seconds since 1970")
    .option("--delete-expired", "delete the backups of removed tenants whose retention has ended")
    .option("-y, --yes", "do not ask")
    .action(async (options: { json?: boolean; deleteExpired?: boolean; yes?: boolean }) => {
      const [config, outputs] = await Promise.all([stackConfig("any"), requiredOutputs()]);
      if (config.platform === "kubernetes") {
        if (options.deleteExpired) requireDocker(config, "backups --delete-expired");
        const found = await clusterBackups(outputs, config);
        console.log(options.json ? JSON.stringify(found, undefined, 2) : clusterBackupsTable(found));
        process.exitCode = found.every(({ problem }) => problem === null) ? 0 : 1;
        return;
      }
      const tenantBackups = new TenantBackups(config, outputs.stack);
      const containers = await containersOf(config, outputs);
      const judged = await judgedBackups(
        tenantBackups,
        outputs.tenants,
        config,
        (id) => containers.get(tenantBackups.names.tenant(id))?.Created,
      );
      if (options.deleteExpired) return deleteExpired(tenantBackups, judged, options.yes);
      console.log(options.json ? JSON.stringify(judged, undefined, 2) : backupsTable(judged));
      process.exitCode = judged.every(({ problem }) => problem === null) ? 0 : 1;
    }),
  "when the backups of a tenant have a problem",
);

/** Deletes what is past its retention: all of a removed tenant, or the backups of data that a tenant had before. */
async function deleteExpired(backups: TenantBackups, judged: JudgedBackups[], yes?: boolean): Promise<void> {
  const expired = judged.filter(({ state, left }) => state === "removed" && left === 0);
  if (expired.length === 0) {
    console.log("No backups are past their retention.");
    return;
  }
  const names = expired.map(({ tenant, size }) => `${tenant} (${bytes(size)})`).join(", ");
  if (!yes) {
    if (!isAttended()) throw new CommandError(`--delete-expired without a terminal needs --yes: ${names}`, 2);
    await confirm(`Delete these backups for good: ${names}?`);
  }
  const failed: string[] = [];
  for (const { tenant, owner } of expired) {
    try {
      if (tenant === owner) await backups.remove(tenant);
      else await backups.ask(owner, (client) => client.deleteExpired());
      console.log(`${tenant}: deleted`);
    } catch (error) {
      failed.push(`${tenant}: ${printable((error as Error).message, 300)}`);
    }
  }
  if (failed.length > 0) throw new CommandError(failed.join("\n"));
}
