import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";

const committed = join(__dirname, "grafana", "dashboards");

/**
 * Grafana's provisioning files, by their paths below its provisioning folder.
 * https://grafana.com/docs/grafana/latest/administration/provisioning/
 * @param url of Prometheus @param folder where the dashboards are
 */
export function provisioning({ url, folder }: { url: string; folder: string }): Record<string, string> {
  return {
    "datasources/pgs.yaml": stringify({
      apiVersion: 1,
      datasources: [{ name: "pgs", uid: "pgs", type: "prometheus", access: "proxy", url, isDefault: true }],
    }),
    "dashboards/pgs.yaml": stringify({
      apiVersion: 1,
      providers: [{ name: "pgs", type: "file", folder: "pgs", options: { path: folder } }],
    }),
  };
}

/** What Grafana's container gets, by paths in the volume with programs. @param url of Prometheus */
export function grafanaFiles(url: string): Record<string, string> {
  const dashboards = readdirSync(committed).filter((name) => name.endsWith(".json"));
  return Object.fromEntries(
    [
      ...Object.entries(provisioning({ url, folder: "/pgs/grafana/dashboards" })),
      ...dashboards.map(
        (name) => [`dashboards/${name}`, readFileSync(join(committed, name), "utf8")] as const,
      ),
    ].map(([name, text]) => [`grafana/${name}`, text]),
  );
}
