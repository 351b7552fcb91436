import { dockerClient } from "../../docker/client";
import { resourceNames } from "../../docker/names";
import { command } from "../lib/command";
import { requiredOutputs, stackConfig } from "../lib/stack";
import { tenantExtensions } from "../lib/tenant-extensions";
import { requireServer, runningTenant } from "../lib/tenant-login";
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
    const [config, outputs] = await Promise.all([stackConfig(), requiredOutputs({ states: true })]);
    const tenant = runningTenant(outputs, id, config);
    await requireServer(id, config, outputs);
    const server = dockerClient(config.dockerHost).getContainer(resourceNames(config.prefix).tenant(id));
    const found = await tenantExtensions(server, tenant);
    console.log(options.json ? printableJson(found) : extensionsTable(found, terminalWidth()));
  });
