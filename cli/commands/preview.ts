import { noteDrift } from "../../backups/trials";
import { pulumiCommand } from "../lib/command";
import { CommandError, ensureStack, runPulumi } from "../lib/pulumi";
import { plan } from "../lib/run";
import { planText } from "../lib/run-text";
import { refreshing, requireDocker, requiredOutputs, type StackConfig, stackConfig } from "../lib/stack";
import { TenantBackups } from "../lib/tenant-backups";

export const preview = pulumiCommand(
  "preview",
  "show what up would change, and what it means for each tenant",
  "./pgs preview",
  "./pgs preview --verbose",
)
  .option("--verbose", "Pulumi's own full output, as with any option of Pulumi's")
  .option("--note-drift", "with --expect-no-changes: monitoring tells of what it finds")
  .action(async (args: string[], options: { verbose?: boolean; noteDrift?: boolean }) => {
    ensureStack();
    const config = await stackConfig("any");
    const all = [...refreshing(config), ...args];
    if (options.noteDrift) await lookForDrift(config, args);
    else if (options.verbose || args.some((arg) => arg.startsWith("-") && !/^(-s|--stack(=.*)?)$/.test(arg)))
      await runPulumi(["preview", ...all]);
    else console.log(planText(await plan({ args: all })));
  });

/** For the nightly run: one that cannot compare counts as one that found a difference. */
async function lookForDrift(config: StackConfig, args: string[]): Promise<void> {
  requireDocker(config);
  const { stack } = await requiredOutputs();
  const { docker, trials } = new TenantBackups(config, stack);
  const failure = await runPulumi(["preview", ...args]).then(
    () => undefined,
    (error) => {
      if (error instanceof CommandError) return error;
      throw error;
    },
  );
  await noteDrift(docker, trials, failure !== undefined);
  if (failure) throw failure;
}
