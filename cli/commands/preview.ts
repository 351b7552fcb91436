import { pulumiCommand } from "../lib/command";
import { ensureStack, runPulumi } from "../lib/pulumi";

export const preview = pulumiCommand(
  "preview",
  "show what up would change",
  "./pgs preview",
  "./pgs preview --diff",
).action(async (args: string[]) => {
  ensureStack();
  await runPulumi(["preview", ...args]);
});
