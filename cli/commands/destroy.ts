import { pulumiCommand } from "../lib/command";
import { confirm, isAttended } from "../lib/prompt";
import { CommandError, ensureStack } from "../lib/pulumi";
import { apply } from "../lib/run";
import { stackConfig, stackOutputs } from "../lib/stack";
import { inTurn } from "../lib/turn";

export const destroy = pulumiCommand(
  "destroy",
  "remove everything except data volumes",
  "./pgs destroy",
  "./pgs destroy --yes    for scripts",
)
  .option("-y, --yes", "do not ask")
  .option("--verbose", "Pulumi's own full output")
  .action(async (args: string[], options: { yes?: boolean; verbose?: boolean }) => {
    ensureStack();
    const [{ tenantsFile }, outputs] = await Promise.all([stackConfig("any"), stackOutputs()]);
    await inTurn(tenantsFile, async () => {
      if (!options.yes) {
        if (!isAttended()) throw new CommandError("destroy without a terminal needs --yes", 2);
        const count = Object.keys(outputs?.tenants ?? {}).length;
        await confirm(
          `Remove the proxy and ${count === 1 ? "its tenant" : `all ${count} tenants`}? Data volumes stay.`,
        );
      }
      // The Docker provider fails where it is to delete a container that was removed by hand.
      await apply({ args: ["--refresh", ...args], verbose: options.verbose }, "destroy");
    });
  });
