import { proxyHost } from "../lib/address";
import { command } from "../lib/command";
import { loginHint } from "../lib/login-hint";
import { requireDocker, requiredOutputs, stackConfig } from "../lib/stack";
import { tenantStatuses } from "../lib/tenant-status";
import { tenantsTable, usageTable } from "../lib/tenants-table";
import { terminalWidth } from "../lib/terminal";

export const list = command(
  "list",
  "tenants and their state; --usage adds memory, CPU, size on disk, connections, uptime",
  "./pgs list",
  "./pgs list --usage",
  "./pgs list --json | jq '.[] | select(.state != \"running\")'",
)
  .option("-u, --usage", "ask each server and container for its figures, which takes seconds")
  .option("--json", "for programs: sizes in bytes, times in seconds")
  .action(async (options: { usage?: boolean; json?: boolean }) => {
    const [outputs, config] = await Promise.all([requiredOutputs({ states: true }), stackConfig("any")]);
    if (options.usage) requireDocker(config, "list --usage");
    const statuses = await tenantStatuses(outputs, config, options);
    if (options.json) {
      console.log(JSON.stringify(statuses, undefined, 2));
      return;
    }
    console.log((options.usage ? usageTable : tenantsTable)(statuses, terminalWidth()));
    console.log(`\n${await loginHint(outputs.tenants, await proxyHost(config))}`);
  });
