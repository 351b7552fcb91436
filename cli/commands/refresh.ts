import { pulumiCommand } from "../lib/command";
import { ensureStack, requiredStack, runPulumi } from "../lib/pulumi";

export const refresh = pulumiCommand(
  "refresh",
  "record in the state what was changed by hand on the Docker host",
  "./pgs refresh",
).action(async (args: string[]) => {
  ensureStack();
  await requiredStack();
  await runPulumi(["refresh", "--yes", "--skip-preview", ...args]);
});
