import { pulumiCommand } from "../lib/command";
import { ensureStack, runPulumi } from "../lib/pulumi";
import { plan } from "../lib/run";
import { planText } from "../lib/run-text";

export const preview = pulumiCommand(
  "preview",
  "show what up would change, and what it means for each tenant",
  "./pgs preview",
  "./pgs preview --verbose",
)
  .option("--verbose", "Pulumi's own full output, as with any option of Pulumi's")
  .action(async (args: string[], options: { verbose?: boolean }) => {
    ensureStack();
    if (options.verbose || args.some((arg) => arg.startsWith("-") && !/^(-s|--stack(=.*)?)$/.test(arg)))
      await runPulumi(["preview", ...args]);
    else console.log(planText(await plan({ args })));
  });
