import { proxyHost } from "../lib/address";
import { pulumiCommand } from "../lib/command";
import { confirmConsequences } from "../lib/edited-stack";
import { requireCluster } from "../lib/kubernetes";
import { namingTenants } from "../lib/limited-up";
import { loginHint } from "../lib/login-hint";
import { isAttended } from "../lib/prompt";
import { ensureStack } from "../lib/pulumi";
import { apply } from "../lib/run";
import { refreshing, requiredOutputs, stackConfig } from "../lib/stack";
import { inTurn } from "../lib/turn";

/** Options of Pulumi's that ask for more than the outcome. */
const asksForMore = /^(--diff|--json|-j|-d|--debug|--show-.*|--help|-h|--tracing)$/;

export const up = pulumiCommand(
  "up",
  "apply tenants.yaml and the configuration",
  "./pgs up",
  "./pgs up --stack prod",
)
  .option("-y, --yes", "do not ask where something is removed, stopped or restarted")
  .option("--verbose", "Pulumi's own full output")
  .action(async (args: string[], options: { yes?: boolean; verbose?: boolean }) => {
    ensureStack();
    const config = await stackConfig("any");
    if (config.platform === "kubernetes") await requireCluster(config);
    const verbose = options.verbose || args.some((arg) => asksForMore.test(arg));
    const run = { args: [...refreshing(config), ...args] };
    await inTurn(config.tenantsFile, async () => {
      const asks = !options.yes && !verbose && isAttended();
      const changed = asks ? await confirmConsequences(run) : [];
      const report = await apply({ args: [...run.args, ...namingTenants(changed, args)], verbose });
      if (!report?.changes().some(({ effect }) => effect === "new")) return;
      console.log(`\n${await loginHint((await requiredOutputs()).tenants, await proxyHost(config))}`);
    });
  });
