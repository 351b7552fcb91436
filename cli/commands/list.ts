import { command } from "../lib/command";
import { loginHint } from "../lib/login-hint";
import { requiredOutputs, stackConfig } from "../lib/stack";
import { tenantStatuses } from "../lib/tenant-status";
import { tenantsTable } from "../lib/tenants-table";
import { terminalWidth } from "../lib/terminal";

export const list = command(
  "list",
  "tenants, live: state, memory, CPU, size on disk, connections, uptime",
  "./pgs list",
  "./pgs list --json | jq '.[] | select(.state != \"running\")'",
)
  .option("--json", "for programs: sizes in bytes, times in seconds")
  .action(async (options: { json?: boolean }) => {
    const [{ tenants }, config] = await Promise.all([requiredOutputs(), stackConfig()]);
    const statuses = await tenantStatuses(tenants, config);
    if (options.json) {
      console.log(JSON.stringify(statuses, undefined, 2));
      return;
    }
    console.log(tenantsTable(statuses, terminalWidth()));
    console.log(`\n${await loginHint(tenants, config.dockerHost)}`);
  });
