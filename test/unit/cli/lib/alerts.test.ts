import { describe, expect, it } from "vitest";
import { alertsTable, firingAlerts } from "../../../../cli/lib/alerts";
import type { Sample } from "../../../../cli/lib/metrics";

const evaluated: Sample = { labels: { __name__: "pgs:rules_evaluated_timestamp_seconds" }, value: 2000 };

function firing(alertname: string, severity: string, value: number, tenant?: string): Sample {
  return {
    labels: { __name__: "ALERTS_FOR_STATE", alertname, severity, stack: "dev", ...(tenant && { tenant }) },
    value,
  };
}

describe("alerts", () => {
  it("lists the critical ones first, then the oldest, each with its runbook", async () => {
    const found = await firingAlerts(async () => [
      firing("PgsLongTransaction", "warning", 1000, "acme"),
      evaluated,
      firing("PgsTenantDown", "critical", 1900, "hooli"),
      firing("PgsProxyDown", "critical", 1880),
    ]);
    expect(alertsTable(found, 2000).split("\n")).toEqual(
      [
        "SEVERITY  TENANT    FOR  SUMMARY                               RUNBOOK",
        "critical  -          2m  The proxy does not answer             docs/alerts.md#pgsproxydown",
        "critical  hooli   1m40s  The server is down                    docs/alerts.md#pgstenantdown",
        "warning   acme   16m40s  A transaction has been running for long  docs/alerts.md#pgslongtransaction",
      ].map((line) =>
        expect.stringMatching(
          new RegExp(
            `^${line
              .split(/ {2,}/)
              .map((cell) => cell.replace(/[.*+?^$()|[\]\\]/g, "\\$&"))
              .join(" {2,}")}$`,
          ),
        ),
      ),
    );
    expect(found[1]).toEqual({
      alert: "PgsTenantDown",
      severity: "critical",
      tenant: "hooli",
      since: 1900,
      summary: "The server is down",
      runbook: "docs/alerts.md#pgstenantdown",
    });
  });

  it("are none only where the rules are evaluated", async () => {
    expect(await firingAlerts(async () => [evaluated])).toEqual([]);
    await expect(firingAlerts(async () => [])).rejects.toThrow("has evaluated no rules");
  });
});
