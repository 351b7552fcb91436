import { pulumiCommand } from "../lib/command";
import { loginHint } from "../lib/login-hint";
import { ensureStack, runPulumi } from "../lib/pulumi";
import { requiredOutputs, stackConfig } from "../lib/stack";
import { outcomeTable } from "../lib/tenants-table";
import { terminalWidth } from "../lib/terminal";

export const up = pulumiCommand(
  "up",
  "apply tenants.yaml and the configuration, then list the tenants",
  "./pgs up",
  "./pgs up --stack prod",
).action(async (args: string[]) => {
  ensureStack();
  await runPulumi(["up", "--yes", "--skip-preview", ...args]);
  const [{ tenants }, { dockerHost }] = await Promise.all([requiredOutputs(), stackConfig()]);
  console.log(`\n${outcomeTable(tenants, terminalWidth())}\n\n${await loginHint(tenants, dockerHost)}`);
});
