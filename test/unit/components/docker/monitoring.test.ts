import { createHmac } from "node:crypto";
import { expect, it } from "vitest";
import { parse } from "yaml";
import { containerOptions, find, ofKind, runTenant, serverOf } from "../../support/graph";

const watched = { "pgs:monitoring": '{"enabled":true}' };
const watchers = ["collector", "exporter", "prometheus", "relay"];

it("a stack is not watched unless it says so", async () => {
  const graph = await runTenant();
  expect(
    ofKind(graph, "container")
      .map(({ name }) => name)
      .sort(),
  ).toEqual(["cancel", "proxy"]);
  expect(serverOf(graph)).not.toHaveProperty("roles");
  expect(serverOf(graph).route.content).not.toContain("monitoring");
  expect(find(graph, "container", "proxy").inputs.command).not.toContainEqual(
    expect.stringMatching(/metrics/),
  );
});

it("what watches is on a network of its own, hardened, and the collector alone has the engine", async () => {
  const graph = await runTenant("", watched);
  for (const name of watchers) {
    const { inputs } = find(graph, "container", name);
    expect(inputs.networks).toEqual([expect.objectContaining({ name: "pgs--monitoring", internal: true })]);
    expect(inputs).not.toHaveProperty("ports");
    const { HostConfig } = containerOptions(graph, name);
    expect(HostConfig).toMatchObject({ ReadonlyRootfs: true, CapDrop: ["ALL"] });
    expect(HostConfig?.Binds, name).toEqual(
      name === "collector" ? ["/var/run/docker.sock:/var/run/docker.sock"] : undefined,
    );
  }
});

it("what it sends on goes by a network that leads out", async () => {
  const url = "https://prometheus.example.com/api/v1/write";
  const graph = await runTenant("", {
    "pgs:monitoring": JSON.stringify({ enabled: true, remoteWrite: url }),
  });
  const { networks, resolvesNames } = find(graph, "container", "prometheus").inputs as {
    networks: object[];
    resolvesNames: boolean;
  };
  expect(networks[1]).toMatchObject({ name: "pgs--monitoring-out", internal: false, pool: "10.213.0.0/16" });
  expect(resolvesNames).toBe(true);
  const { files } = find(graph, "programs", "programs").inputs as { files: Record<string, string> };
  expect(parse(files["prometheus.yml"] ?? "").remote_write).toEqual([{ url }]);
});

it("alerts are sent by an Alertmanager that reads its secrets from files", async () => {
  const graph = await runTenant("", {
    "pgs:monitoring": '{"enabled":true,"alerts":{"slack":"#operations"}}',
    "pgs:alertCredentials": '{"slackUrl":"https://hooks.slack.example/sesame"}',
  });
  const { inputs } = find(graph, "container", "alertmanager");
  expect(JSON.stringify(inputs)).not.toContain("sesame");
  expect(inputs.networks).toHaveLength(2);
  const { files } = find(graph, "programs", "programs").inputs as { files: Record<string, string> };
  expect(files["alertmanager.yml"]).toContain("api_url_file: /alertmanager/slackUrl");
  expect(JSON.stringify(files)).not.toContain("sesame");
  expect(parse(files["prometheus.yml"] ?? "").alerting.alertmanagers[0].static_configs[0].targets).toEqual([
    "pgs--alertmanager:9093",
  ]);
  expect(find(graph, "file", "alertmanager-slackUrl").inputs).toMatchObject({
    container: "pgs--alertmanager",
    path: "/alertmanager/slackUrl",
    owner: 65534,
  });
  expect(ofKind(await runTenant("", watched), "container").map(({ name }) => name)).not.toContain(
    "alertmanager",
  );
});

it("another receiver is read anew, and a Grafana is added, without another container of what watches", async () => {
  const made = async (webhook: string, grafana: boolean) => {
    const monitoring = { enabled: true, alerts: { webhook }, grafana };
    const graph = await runTenant("", { "pgs:monitoring": JSON.stringify(monitoring) });
    const names = [...watchers, "alertmanager"];
    return {
      containers: names.map((name) => containerOptions(graph, name)),
      configurations: names.map((name) => find(graph, "container", name).inputs.configuration),
    };
  };
  const before = await made("https://one.example", false);
  const after = await made("https://other.example", true);
  expect(after.containers).toEqual(before.containers);
  expect(after.configurations.slice(0, -1)).toEqual(before.configurations.slice(0, -1));
  expect(after.configurations.at(-1)).not.toEqual(before.configurations.at(-1));
});

it("Grafana is for looking only, and has the dashboards and its Prometheus", async () => {
  const graph = await runTenant("", { "pgs:monitoring": '{"enabled":true,"grafana":true}' });
  const { inputs } = find(graph, "container", "grafana");
  expect(inputs).not.toHaveProperty("ports");
  expect(inputs.networks).toEqual([expect.objectContaining({ name: "pgs--monitoring", internal: true })]);
  expect(inputs.env).toContain("GF_AUTH_ANONYMOUS_ORG_ROLE=Viewer");
  expect(inputs.env).toContain("GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION=true");
  const { files } = find(graph, "programs", "programs").inputs as { files: Record<string, string> };
  expect(Object.keys(files)).toContain("grafana/dashboards/tenant.json");
  expect(files["grafana/datasources/pgs.yaml"]).toContain("url: http://pgs--prometheus:9090");
});

it.each([
  ["open", "", true],
  ["closed", "access: false", true],
  ["stopped", "state: stopped", false],
])(
  "a tenant that is %s is known to it, and has a route for its network alone while it runs",
  async (_, fields, routed) => {
    const { route, access, roles } = serverOf(await runTenant(fields, watched));
    const [note = "", ...rest] = route.content.split("\n");
    expect(JSON.parse(note.replace("# monitoring: ", ""))).toMatchObject({
      tenant: "acme",
      host: "acme.pgs.localhost",
      access: fields !== "access: false",
      state: fields === "state: stopped" ? "stopped" : "running",
    });
    expect(access.monitored).toBe(true);
    expect(roles).toHaveProperty("pgs_monitor");
    const router = parse(rest.join("\n"))?.tcp.routers["acme--monitoring"];
    expect(router).toEqual(
      routed
        ? {
            entryPoints: ["inner"],
            rule: "HostSNIRegexp(`^acme\\.pgs\\.localhost$`) && ClientIP(`network:pgs--monitoring`)",
            service: "acme--monitoring",
            tls: {},
          }
        : undefined,
    );
    // What passes cancel requests on finds the clients' routes alone.
    expect(/HostSNI\(`([^`*]+)`\)/.test(route.content)).toBe(fields === "");
  },
);

it("each tenant's password follows from a key that no container is made with", async () => {
  const graph = await runTenant("", watched);
  const { content } = find(graph, "file", "relay").inputs as { content: string };
  const { rolePasswords } = serverOf(graph);
  const key = JSON.stringify(content).match(/generated-for-[\w-]+/)?.[0] ?? "";
  expect(rolePasswords?.pgs_monitor).toBe(createHmac("sha256", key).update("acme").digest("hex"));
  for (const name of watchers)
    expect(JSON.stringify(find(graph, "container", name).inputs)).not.toContain(key);
});
