import { alertsTable, firingAlerts } from "../lib/alerts";
import { command, exitNote } from "../lib/command";
import { Metrics } from "../lib/metrics";
import { CommandError } from "../lib/pulumi";
import { requiredOutputs, stackConfig } from "../lib/stack";
import { printableJson } from "../lib/terminal";

export const alerts = exitNote(
  command(
    "alerts",
    "what needs an operator now: alerts that fire, each with its runbook",
    "./pgs alerts",
    "./pgs alerts --json | jq -r '.[] | select(.severity == \"critical\") | .summary'",
  )
    .option("--json", "for programs: times in seconds since 1970")
    .action(showAlerts),
  "when an alert fires, and with 2 when nobody can tell",
);

async function showAlerts({ json }: { json?: boolean }): Promise<void> {
  const [config, outputs] = await Promise.all([stackConfig(), requiredOutputs()]);
  const metrics = await Metrics.of(config, outputs);
  if (!metrics) {
    throw new CommandError(
      "no Prometheus of this stack runs, so nobody can tell: pgs:monitoring turns it on (docs/monitoring.md), and where it is on, ./pgs up starts it",
      2,
    );
  }
  const firing = await firingAlerts((expression) => metrics.query(expression)).catch(
    (error: CommandError) => {
      throw new CommandError(error.message, 2);
    },
  );
  if (json) console.log(printableJson(firing));
  else console.log(firing.length > 0 ? alertsTable(firing, Date.now() / 1000) : "No alert fires.");
  process.exitCode = firing.length > 0 ? 1 : 0;
}
