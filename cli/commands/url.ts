import { command } from "../lib/command";
import { requiredOutputs, tenantOf } from "../lib/stack";

export const url = command("url", "connection string of one tenant, with its password", "./pgs url acme")
  .argument("<tenant>")
  .action(async (id: string) => {
    console.log(tenantOf((await requiredOutputs({ secrets: true })).connectionStrings, id));
  });
