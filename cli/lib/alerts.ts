import { firingQuery, runbookOf, severityOrder, summaries } from "../../monitoring/rules";
import type { Sample } from "./metrics";
import { CommandError } from "./pulumi";
import { type Column, table } from "./tenants-table";
import { coloured } from "./terminal";
import { duration } from "./units";

export interface FiringAlert {
  alert: string;
  severity: string;
  /** Null: it is about the whole stack. */
  tenant: string | null;
  /** When the problem began, in seconds since 1970. */
  since: number;
  summary: string;
  runbook: string;
}

/**
 * @param ask Prometheus @returns what fires, the most severe and oldest first
 * @throws CommandError where Prometheus evaluates no rules: that nothing fires then means nothing
 */
export async function firingAlerts(ask: (expression: string) => Promise<Sample[]>): Promise<FiringAlert[]> {
  const samples = await ask(firingQuery);
  const firing = samples.filter(({ labels }) => labels.alertname !== undefined);
  if (firing.length === samples.length)
    throw new CommandError(
      "Prometheus answers, but has evaluated no rules in the last five minutes: ./pgs up restores them",
      2,
    );
  return firing
    .map(({ labels: { alertname = "", severity = "", tenant = null }, value }) => ({
      alert: alertname,
      severity,
      tenant,
      since: value,
      summary: summaries.get(alertname) ?? alertname,
      runbook: runbookOf(alertname),
    }))
    .sort(
      (a, b) =>
        severityOrder.indexOf(a.severity) - severityOrder.indexOf(b.severity) ||
        a.since - b.since ||
        (a.tenant ?? "").localeCompare(b.tenant ?? ""),
    );
}

/** @param now in seconds since 1970 */
export function alertsTable(alerts: FiringAlert[], now: number): string {
  const columns: Column<FiringAlert>[] = [
    {
      title: "SEVERITY",
      cell: ({ severity }) => severity,
      colour: (text) => (text.startsWith("critical") ? coloured.bad(text) : coloured.warning(text)),
    },
    { title: "TENANT", cell: ({ tenant }) => tenant ?? "-" },
    { title: "FOR", cell: ({ since }) => duration(Math.max(0, Math.round(now - since))), right: true },
    { title: "SUMMARY", cell: ({ summary }) => summary },
    { title: "RUNBOOK", cell: ({ runbook }) => runbook },
  ];
  return table(columns, alerts);
}
