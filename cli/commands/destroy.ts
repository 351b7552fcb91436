import { pulumiCommand } from "../lib/command";
import { ensureStack, runPulumi } from "../lib/pulumi";

export const destroy = pulumiCommand(
  "destroy",
  "remove everything except data volumes",
  "./pgs destroy",
).action(async (args: string[]) => {
  ensureStack();
  // The Docker provider fails where it is to delete a container that was removed by hand.
  await runPulumi(["destroy", "--refresh", ...args]);
});
