import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Dashboard, Panel, RowPanel } from "@grafana/grafana-foundation-sdk/dashboard";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { alertmanagerConfiguration } from "../../../monitoring/alertmanager";
import { dashboards } from "../../../monitoring/dashboards";
import { grafanaFiles } from "../../../monitoring/grafana";
import { committedFiles } from "../../../monitoring/write-files";

const room = join(__dirname, "..", "..", "..", "monitoring");
const amtool = process.env.AMTOOL;
const dashboardCheck = process.env.DASHBOARD_CHECK;

describe("files for Prometheus and Grafana", () => {
  it("are up to date: node --require tsx/cjs monitoring/write-files.ts", () => {
    for (const [name, text] of Object.entries(committedFiles()))
      expect(readFileSync(join(room, name), "utf8"), name).toBe(text);
    const written = Object.keys(committedFiles()).filter((name) => name.startsWith("grafana/dashboards/"));
    expect(readdirSync(join(room, "grafana", "dashboards"))).toHaveLength(written.length);
  });

  it("have a dashboard each for host, fleet, tenant, backups and queries, with panels beside each other", () => {
    expect(Object.keys(dashboards)).toEqual(["host", "fleet", "tenant", "backups", "queries"]);
    for (const [name, { panels = [], uid, schemaVersion }] of Object.entries(dashboards)) {
      expect(uid).toBe(`pgs-${name}`);
      expect(schemaVersion).toBeGreaterThanOrEqual(39);
      const cells = new Set<string>();
      for (const { gridPos, type, title } of panels as (Panel | RowPanel)[]) {
        const { x = 0, y = 0, w = 0, h = 0 } = gridPos ?? {};
        expect(x + w, `${name}: ${title}`).toBeLessThanOrEqual(24);
        for (let column = x; column < x + w; column++)
          for (let line = y; line < y + h; line++) {
            expect(cells.has(`${column} ${line}`), `${name}: ${type} ${title} lies on another`).toBe(false);
            cells.add(`${column} ${line}`);
          }
      }
    }
  });

  it.skipIf(dashboardCheck === undefined)("are what Grafana's schema allows, to the last field", () => {
    const files = Object.keys(dashboards).map((name) => join(room, "grafana", "dashboards", `${name}.json`));
    execFileSync(dashboardCheck ?? "", files, { encoding: "utf8" });
    const folder = mkdtempSync(join(tmpdir(), "pgs-dashboards-"));
    const wrong: Record<string, (one: Dashboard) => object> = {
      "a field that there is not": (one) => ({ ...one, titel: "host" }),
      "a field of another type": (one) => ({ ...one, refresh: 30 }),
      "a panel's option that there is not": (one) => withPanels(one, { options: { legende: true } }),
      "a query's field that there is not": (one) =>
        withPanels(one, { targets: [{ refId: "A", query: "up" }] }),
    };
    try {
      for (const [what, change] of Object.entries(wrong)) {
        writeFileSync(join(folder, "one.json"), JSON.stringify(change(dashboards.host as Dashboard)));
        const check = () => execFileSync(dashboardCheck ?? "", ["one.json"], { cwd: folder, stdio: "pipe" });
        expect(check, what).toThrow(/one\.json: /);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("reach Grafana's container with its own Prometheus", () => {
    const files = grafanaFiles("http://pgs--prometheus:9090");
    expect(parse(files["grafana/datasources/pgs.yaml"] ?? "").datasources[0].url).toBe(
      "http://pgs--prometheus:9090",
    );
    expect(parse(files["grafana/dashboards/pgs.yaml"] ?? "").providers[0].options.path).toBe(
      "/pgs/grafana/dashboards",
    );
    expect(JSON.parse(files["grafana/dashboards/fleet.json"] ?? "").uid).toBe("pgs-fleet");
  });
});

function withPanels({ panels = [], ...one }: Dashboard, more: object): object {
  return { ...one, panels: panels.map((panel) => ({ ...panel, ...more })) };
}

const everywhere = {
  webhook: "https://hooks.example.com/pgs",
  slack: "#operations",
  email: {
    to: "ops@example.com",
    from: "pgs@example.com",
    smarthost: "smtp.example.com:587",
    username: "pgs",
  },
};

describe("Alertmanager's configuration", () => {
  it("names its secrets by file", () => {
    const text = alertmanagerConfiguration(everywhere, { credentials: ["webhookToken"] });
    const [receiver] = parse(text).receivers;
    expect(receiver.webhook_configs[0].http_config.authorization.credentials_file).toBe(
      "/alertmanager/webhookToken",
    );
    expect(receiver.slack_configs[0].api_url_file).toBe("/alertmanager/slackUrl");
    expect(receiver.email_configs[0].auth_password_file).toBe("/alertmanager/smtpPassword");
  });

  it.skipIf(amtool === undefined)("is one that amtool accepts, whatever is asked for", () => {
    const folder = mkdtempSync(join(tmpdir(), "pgs-alertmanager-"));
    try {
      const { webhook, slack, email } = everywhere;
      for (const some of [everywhere, { webhook }, { slack }, { email }, {}]) {
        writeFileSync(join(folder, "one.yml"), alertmanagerConfiguration(some, { credentials: [] }));
        execFileSync(amtool ?? "", ["check-config", "one.yml"], { cwd: folder, encoding: "utf8" });
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
    expect(existsSync(folder)).toBe(false);
  });
});
