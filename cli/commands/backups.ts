import { judgedBackups } from "../lib/backup-status";
import { command, exitNote } from "../lib/command";
import { containersOf } from "../lib/containers";
import { CommandError } from "../lib/pulumi";
import { requiredOutputs, type StackConfig, stackConfig, type TenantSummaries } from "../lib/stack";
import { TenantBackups } from "../lib/tenant-backups";
import { backupsTable } from "../lib/tenants-table";

export const backups = exitNote(
  command("backups", "backup status and problems per tenant", "./pgs backups")
    .option("--json", "for programs: sizes in bytes, times in seconds since 1970")
    .option("--delete-expired", "delete the backups of removed tenants whose retention has ended")
    .action(async (options: { json?: boolean; deleteExpired?: boolean }) => {
      const [config, outputs] = await Promise.all([stackConfig(), requiredOutputs()]);
      const tenantBackups = new TenantBackups(config, outputs.stack);
      if (options.deleteExpired) return deleteExpired(tenantBackups, outputs.tenants, config);
      const containers = await containersOf(config, outputs);
      const judged = await judgedBackups(
        tenantBackups,
        outputs.tenants,
        config,
        (id) => containers.get(tenantBackups.names.tenant(id))?.Created,
      );
      console.log(options.json ? JSON.stringify(judged, undefined, 2) : backupsTable(judged));
      process.exitCode = judged.every(({ problem }) => problem === null) ? 0 : 1;
    }),
  "when the backups of a tenant have a problem",
);

/** Only of what was removed: the last backups of a tenant that has some still count. */
async function deleteExpired(
  backups: TenantBackups,
  tenants: TenantSummaries,
  config: StackConfig,
): Promise<void> {
  const failed: string[] = [];
  for (const { tenant, state, left } of await judgedBackups(backups, tenants, config, () => undefined)) {
    try {
      if (state === "removed" && left === 0) {
        await backups.remove(tenant);
        console.log(`${tenant}: deleted`);
      } else if (state !== "removed") {
        for (const name of await backups.ask(tenant, (client) => client.deleteExpired())) {
          console.log(`${name}: deleted`);
        }
      }
    } catch (error) {
      failed.push(`${tenant}: ${(error as Error).message}`);
    }
  }
  if (failed.length > 0) throw new CommandError(failed.join("\n"));
}
