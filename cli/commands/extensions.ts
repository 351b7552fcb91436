import { command } from "../lib/command";
import { tenantExtensions } from "../lib/tenant-extensions";
import { runningServer } from "../lib/tenant-login";
import { extensionsTable } from "../lib/tenants-table";
import { printableJson, terminalWidth } from "../lib/terminal";

export const extensions = command(
  "extensions",
  "extensions of a tenant's database: installed, outdated, available",
  "./pgs extensions acme",
  "./pgs extensions acme --json | jq '.[] | select(.state == \"outdated\")'",
)
  .argument("<tenant>")
  .option("--json", "for programs")
  .action(async (id: string, options: { json?: boolean }) => {
    const { tenant, ask } = await runningServer(id);
    const found = await tenantExtensions(ask, tenant);
    console.log(options.json ? printableJson(found) : extensionsTable(found, terminalWidth()));
  });
