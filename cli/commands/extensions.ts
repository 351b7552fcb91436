import { dockerClient } from "../../docker/client";
import { resourceNames } from "../../docker/names";
import { command } from "../lib/command";
import { containersOf } from "../lib/containers";
import { CommandError } from "../lib/pulumi";
import { requiredOutputs, stackConfig, tenantOf } from "../lib/stack";
import { tenantExtensions } from "../lib/tenant-extensions";
import { extensionsTable } from "../lib/tenants-table";
import { terminalWidth } from "../lib/terminal";

export const extensions = command(
  "extensions",
  "extensions of a tenant's database: installed, outdated, available",
  "./pgs extensions acme",
  "./pgs extensions acme --json | jq '.[] | select(.state == \"outdated\")'",
)
  .argument("<tenant>")
  .option("--json", "for programs")
  .action(async (id: string, options: { json?: boolean }) => {
    const [config, outputs] = await Promise.all([stackConfig(), requiredOutputs()]);
    const tenant = tenantOf(outputs.tenants, id);
    const info = (await containersOf(config, outputs)).get(resourceNames(config.prefix).tenant(id));
    if (info?.State !== "running") throw new CommandError(`the server of ${id} does not run: ./pgs list`);
    const container = dockerClient(config.dockerHost).getContainer(info.Id);
    const found = await tenantExtensions(container, tenant);
    console.log(options.json ? JSON.stringify(found, undefined, 2) : extensionsTable(found, terminalWidth()));
  });
