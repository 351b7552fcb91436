import { BlockList, isIP } from "node:net";
import { expect, it } from "vitest";
import { parse } from "yaml";
import { cancelAddress } from "../../../../components/docker/cancel-requests";
import { containerOptions, find, runTenant } from "../../support/graph";

it("cancel requests have a container that reads the proxy's routes, and has no secret and no right", async () => {
  const graph = await runTenant();
  const { inputs, dependencies } = find(graph, "container", "cancel");
  expect(inputs).toMatchObject({
    name: "pgs--cancel",
    user: "65534:65534",
    networks: [{ name: "pgs-proxy", internal: false }],
    mounts: [
      { volume: "pgs--programs", path: "/pgs", readOnly: true },
      { volume: "pgs-proxy", path: "/routes", readOnly: true },
    ],
    tmpfs: ["/var/lib/barman", "/var/lib/postgresql"],
  });
  expect(inputs).not.toHaveProperty("ports");
  expect(dependencies.some((one) => one.includes("RandomPassword"))).toBe(false);
  expect(containerOptions(graph, "cancel").HostConfig).toMatchObject({
    ReadonlyRootfs: true,
    CapDrop: ["ALL"],
  });
});

it("each hostname has an address of its own that nobody has", () => {
  const addresses = ["acme.example.com", "acme.example.org"].map(cancelAddress);
  expect(new Set(addresses).size).toBe(2);
  for (const address of addresses) expect([isIP(address), address.slice(0, 2)]).toEqual([6, "fd"]);
});

it("the proxy believes what is said of a connection's origin, but no tenant's server", async () => {
  const { command } = find(await runTenant("", { "pgs:tenantSubnets": "10.9.0.0/16" }), "container", "proxy")
    .inputs as { command: string[] };
  const trusted = command.find((argument) =>
    argument.startsWith("--entryPoints.cancel.proxyProtocol.trustedIPs="),
  );
  const list = new BlockList();
  for (const range of trusted?.split("=")[1]?.split(",") ?? []) {
    const [address = "", length] = range.split("/");
    list.addSubnet(address, Number(length), "ipv4");
  }
  const outside = ["10.8.255.255", "10.10.0.0", "172.17.0.2", "0.0.0.1", "255.255.255.255"];
  expect(outside.filter((address) => !list.check(address))).toEqual([]);
  expect(["10.9.0.0", "10.9.255.255"].filter((address) => list.check(address))).toEqual([]);
});

it("the proxy routes to it what is not TLS, but for what tenants send", async () => {
  const { content } = find(await runTenant(), "file", "cancel").inputs as { content: string };
  const { routers, services, middlewares } = parse(content).tcp;
  const [router] = Object.values<Record<string, unknown>>(routers);
  expect(router).not.toHaveProperty("tls");
  expect(router?.rule).toMatch(/^HostSNI\(`\*`\) && !ClientIP\(`[0-9./]+`\)$/);
  expect(JSON.stringify(services)).toContain("pgs--cancel:5432");
  expect(JSON.stringify(middlewares)).toContain("inFlightConn");
});

it("the stack's own list of addresses counts for cancel requests too", async () => {
  const graph = await runTenant("", { "pgs:allow": JSON.stringify(["203.0.113.0/24"]) });
  const { content } = find(graph, "file", "cancel").inputs as { content: string };
  const { routers, middlewares } = parse(content).tcp;
  expect(routers["cancel--requests"].middlewares[0]).toBe("cancel--allow");
  expect(middlewares["cancel--allow"]).toEqual({ ipAllowList: { sourceRange: ["203.0.113.0/24"] } });
});
