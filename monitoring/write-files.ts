// Writes what monitoring/grafana and monitoring/rules.yml have for a Grafana and a Prometheus of the operator's own:
// node --require tsx/cjs monitoring/write-files.ts
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { dashboards, dashboardText } from "./dashboards";
import { provisioning } from "./grafana";
import { ruleFile } from "./rules";

export function committedFiles(): Record<string, string> {
  return {
    "rules.yml": ruleFile(),
    ...Object.fromEntries(
      Object.entries(dashboards).map(([name, one]) => [
        `grafana/dashboards/${name}.json`,
        dashboardText(one),
      ]),
    ),
    ...Object.fromEntries(
      Object.entries(
        provisioning({ url: "http://localhost:9090", folder: "/etc/grafana/provisioning/dashboards" }),
      ).map(([name, text]) => [`grafana/${name}`, text]),
    ),
  };
}

if (require.main === module) {
  for (const [name, text] of Object.entries(committedFiles())) {
    mkdirSync(join(__dirname, name, ".."), { recursive: true });
    writeFileSync(join(__dirname, name), text);
  }
}
