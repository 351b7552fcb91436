import { createHmac } from "node:crypto";
import { expect, it } from "vitest";
import { parse } from "yaml";
import { containerOptions, find, ofKind, runTenant, serverOf } from "../support/graph";

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
