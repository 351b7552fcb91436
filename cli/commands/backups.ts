import { resourceNames } from "../../docker/names";
import { judgedBackups } from "../lib/backup-status";
import { Barman } from "../lib/barman";
import { command, exitNote } from "../lib/command";
import { containersOf } from "../lib/containers";
import { requiredOutputs, stackConfig } from "../lib/stack";
import { backupsTable } from "../lib/tenants-table";

export const backups = exitNote(
  command("backups", "backup status and problems per tenant", "./pgs backups")
    .option("--json", "for programs: sizes in bytes, times in seconds since 1970")
    .action(async (options: { json?: boolean }) => {
      const [config, outputs] = await Promise.all([stackConfig(), requiredOutputs()]);
      const { docker, name } = await Barman.find(config);
      const containers = await containersOf(config, outputs);
      const names = resourceNames(config.prefix);
      const judged = await judgedBackups(
        docker.getContainer(name),
        outputs.tenants,
        (id) => containers.get(names.tenant(id))?.Created,
      );
      console.log(options.json ? JSON.stringify(judged, undefined, 2) : backupsTable(judged));
      process.exitCode = judged.every(({ problem }) => problem === null) ? 0 : 1;
    }),
  "when the backups of a tenant have a problem",
);
