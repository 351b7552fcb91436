import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import type { ContainerInputs } from "../../../../provider/container";
import { unwrap } from "../../../../provider/wire";
import { certificateFiles } from "../../support/certificates";
import {
  childrenOf,
  containerOptions,
  find,
  inTheClear,
  ofKind,
  routeOf,
  runTenant,
  serverOf,
  types,
} from "../../support/graph";
import { type Graph, imageId, runProgram, stackId, temporaryFolder } from "../../support/program";
import { isSecret, plain } from "../../support/wire";

function proxyOf(graph: Graph): ContainerInputs {
  return unwrap(find(graph, "container", "proxy").inputs) as ContainerInputs;
}

describe("the proxy", () => {
  it("is the only container that publishes a port", async () => {
    const config = {
      "pgs:port": "6432",
      "pgs:backups": '{"schedule":"02:30","destination":"s3://off-site/pgs"}',
      "pgs:backupCredentials": '{"accessKeyId":"the-id","secretAccessKey":"the-key"}',
    };
    const graph = await runProgram("tenants: { acme: {}, globex: {} }", config);
    const publishing = graph.resources.filter(({ inputs }) => inputs.ports !== undefined);
    expect(publishing.map(({ type, name }) => `${type} ${name}`)).toEqual([`${types.container} proxy`]);
    expect(containerOptions(graph, "proxy").HostConfig?.PortBindings).toEqual({
      "5432/tcp": [{ HostPort: "6432" }],
    });
  });

  it("has its image, volume, container and certificate below its component", async () => {
    expect(childrenOf(await runTenant(), "proxy", "proxy")).toEqual(
      [
        `${types.container} proxy`,
        `${types.image} proxy`,
        `${types.volume} proxy`,
        `${types.file} certificate`,
      ].sort(),
    );
  });

  it("publishes its port from a network that leads out, and that no tenant is in", async () => {
    const graph = await runTenant();
    expect(proxyOf(graph).networks).toEqual([{ name: "pgs-proxy", internal: false }]);
    expect(serverOf(graph).network.name).not.toBe("pgs-proxy");
  });

  it("is in the one network of all tenants where the stack says so, by the same words as they are", async () => {
    const graph = await runTenant("", { "pgs:isolation": "shared", "pgs:tenantSubnets": "10.9.0.0/16" });
    const [own, tenants, ...others] = proxyOf(graph).networks;
    expect(own).toEqual({ name: "pgs-proxy", internal: false });
    expect(others).toEqual([]);
    const { proxy: _, ...network } = serverOf(graph).network;
    expect(tenants).toEqual({ ...network, internal: true });
  });

  it("is hardened and limited, and the Docker socket is out of its reach", async () => {
    const { HostConfig, ...options } = containerOptions(await runTenant(), "proxy");
    expect(HostConfig).toMatchObject({
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges:true"],
      NetworkMode: "pgs-proxy",
    });
    expect(HostConfig?.Memory).toBeGreaterThan(0);
    expect(HostConfig?.MemorySwap).toBe(HostConfig?.Memory);
    expect(HostConfig?.PidsLimit).toBeGreaterThan(0);
    for (const opening of ["Privileged", "PublishAllPorts", "Devices", "ExtraHosts", "CapAdd", "Binds"]) {
      expect(HostConfig).not.toHaveProperty(opening);
    }
    expect(JSON.stringify([HostConfig, options])).not.toContain("docker.sock");
  });

  it("is shown with its image's name, and replaced when the image's id changes", async () => {
    expect(proxyOf(await runTenant())).toMatchObject({
      image: "traefik:v3.7.15",
      imageId: imageId("traefik:v3.7.15"),
    });
  });

  it("is stopped after Traefik's own ten seconds for open connections, and not before", async () => {
    expect(proxyOf(await runTenant()).stopSeconds).toBeGreaterThan(10);
  });

  it("applies a changed route well before two seconds are over", async () => {
    const throttle = proxyOf(await runTenant()).command.find((argument) =>
      argument.startsWith("--providers.providersThrottleDuration="),
    );
    expect(throttle).toMatch(/=\d{1,3}ms$/);
  });

  it("ends silent connections within the six seconds that a refusal may take", async () => {
    const timeout = proxyOf(await runTenant()).command.find((argument) =>
      argument.includes("respondingTimeouts.readTimeout="),
    );
    expect(timeout).toMatch(/=[1-5]s$/);
  });

  it("keeps its certificate's file while its container is replaced", async () => {
    const acme = { "pgs:acme": '{"email":"a@b.c","dnsProvider":"cloudflare"}' };
    for (const graph of [await runTenant(), await runTenant("", acme)]) {
      const { inputs, dependencies, propertyDependencies } = find(graph, "file", "certificate");
      expect(inputs.container).toBe("pgs-proxy");
      expect(propertyDependencies.container ?? []).toEqual([]);
      expect(dependencies.length).toBeGreaterThan(0);
    }
  });

  it("keeps its volume, whatever it is made from", async () => {
    const volume = find(await runTenant(), "volume", "proxy");
    expect(volume.ignoreChanges).toEqual(expect.arrayContaining(["name", "driver", "driverOpts", "labels"]));
    expect(volume.ignoreChanges).toEqual(expect.arrayContaining(Object.keys(volume.inputs)));
  });

  it("has no key in its container", async () => {
    const { inputs } = find(await runTenant(), "container", "proxy");
    expect(JSON.stringify(inputs)).not.toContain("server key");
    expect(JSON.stringify(inputs)).not.toContain(pulumi.runtime.specialSecretSig);
  });
});

describe("the certificate's file", () => {
  it("is a secret with the chain, leaf first, and the key", async () => {
    const { content } = find(await runTenant(), "file", "certificate").inputs;
    expect(isSecret(content)).toBe(true);
    expect(parse(plain(content)).tls.certificates).toEqual([
      { certFile: "server certificate\nca certificate\n", keyFile: "server key\n" },
    ]);
  });

  it("makes TLS 1.2, a known hostname and PostgreSQL's ALPN the rule", async () => {
    const { content } = find(await runTenant(), "file", "certificate").inputs;
    expect(parse(plain(content)).tls.options.default).toEqual({
      minVersion: "VersionTLS12",
      sniStrict: true,
      alpnProtocols: ["postgresql"],
    });
  });

  it("has the operator's own chain and key instead, still a secret, and keeps the CA for later", async () => {
    const certificate = certificateFiles(temporaryFolder(), "*.pgs.localhost");
    const graph = await runTenant("", { "pgs:certificate": JSON.stringify(certificate) });
    const { content } = find(graph, "file", "certificate").inputs;
    expect(isSecret(content)).toBe(true);
    expect(parse(plain(content)).tls.certificates).toEqual([
      { certFile: readFileSync(certificate.chain, "utf8"), keyFile: readFileSync(certificate.key, "utf8") },
    ]);
    expect(childrenOf(graph, "certificate", "certificate")).toEqual([
      "tls:index/privateKey:PrivateKey ca",
      "tls:index/selfSignedCert:SelfSignedCert ca",
    ]);
    expect(graph.outputs.caCertificate).toBeNull();
  });
});

describe("a certificate by ACME", () => {
  const acme = { email: "operator@example.com", dnsProvider: "cloudflare", resolvers: ["9.9.9.9:53"] };
  const config = {
    "pgs:acme": JSON.stringify(acme),
    "pgs:acmeCredentials": '{"CF_DNS_API_TOKEN":"the-token","CF_ZONE_API_TOKEN":"another"}',
  };
  const ordered = (graph: Graph) => find(graph, "acme", "certificate");
  const resolver = "--certificatesResolvers.acme.acme";

  it("is the proxy's own affair: it has a resolver that asks by DNS", async () => {
    expect(
      proxyOf(await runTenant("", config)).command.filter((argument) => argument.startsWith(resolver)),
    ).toEqual([
      `${resolver}.email=operator@example.com`,
      `${resolver}.storage=/etc/traefik/dynamic/acme.json`,
      `${resolver}.keyType=EC256`,
      `${resolver}.dnsChallenge.provider=cloudflare`,
      `${resolver}.dnsChallenge.resolvers=9.9.9.9:53`,
    ]);
    const without = await runTenant();
    expect(ofKind(without, "acme")).toEqual([]);
    expect(proxyOf(without)).not.toHaveProperty("env");
  });

  it("has credentials in files alone, whose folder changes with them", async () => {
    const graph = await runTenant("", config);
    const folder = "/etc/traefik/dynamic/acme-0123456789abcdef";
    expect(proxyOf(graph).env).toEqual([
      `CF_DNS_API_TOKEN_FILE=${folder}/CF_DNS_API_TOKEN`,
      `CF_ZONE_API_TOKEN_FILE=${folder}/CF_ZONE_API_TOKEN`,
    ]);
    const { inputs, additionalSecretOutputs } = ordered(graph);
    expect(inputs.filesFolder).toBe(folder);
    expect(isSecret(inputs.files)).toBe(true);
    expect(plain(inputs.files)).toEqual({ CF_DNS_API_TOKEN: "the-token", CF_ZONE_API_TOKEN: "another" });
    expect(additionalSecretOutputs).toContain("files");
    const { keepers } = find(graph, "randomId", "acme").inputs;
    expect(JSON.stringify(keepers)).toContain("the-token");
    expect(inTheClear(graph)).not.toContain("the-token");
  });

  it("belongs to one container of the proxy: another one orders it again", async () => {
    const { inputs } = ordered(await runTenant("", config));
    expect(inputs).toMatchObject({ container: "pgs-proxy", containerId: "engine-id-of-proxy" });
  });

  it("replaces the certificate that the proxy had only when it is there", async () => {
    const graph = await runTenant("", config);
    expect(ordered(graph).inputs.domain).toBe("*.pgs.localhost");
    const file = find(graph, "file", "certificate");
    expect(file.dependencies).toContain(`${types.acme} certificate`);
    expect(parse(plain(file.inputs.content)).tls).toEqual({ options: expect.anything() });
    expect(routeOf(graph)).toEqual(routeOf(await runTenant()));
  });

  it("leaves the stack's CA for later, and for servers that TLS is passed through to", async () => {
    const graph = await runTenant("", config);
    expect(childrenOf(graph, "certificate", "certificate")).toEqual([
      "tls:index/privateKey:PrivateKey ca",
      "tls:index/selfSignedCert:SelfSignedCert ca",
    ]);
    expect(graph.outputs.caCertificate).toBeNull();
    expect((await runTenant("tls: passthrough", config)).outputs.caCertificate).toBe("ca certificate\n");
  });

  it("may be from a server with a CA of its own, and wait instead of asking", async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "ca.pem"), "its CA\n");
    const caServer = "https://acme.example.com/directory";
    const more = { ...acme, caServer, caCertificate: join(folder, "ca.pem"), propagationSeconds: 30 };
    const graph = await runTenant("", { "pgs:acme": JSON.stringify(more) });
    expect(proxyOf(graph).command).toEqual(
      expect.arrayContaining([
        `${resolver}.caServer=${caServer}`,
        `${resolver}.caCertificates=/etc/traefik/dynamic/acme-0123456789abcdef/ca.pem`,
        `${resolver}.dnsChallenge.propagation.delayBeforeChecks=30s`,
        `${resolver}.dnsChallenge.propagation.disableChecks=true`,
      ]),
    );
    expect(plain(ordered(graph).inputs.files)).toEqual({ "ca.pem": "its CA\n" });
  });
});

it("the programs that servers start with are made with the proxy's image, once the proxy is there", async () => {
  const { inputs, dependencies } = find(await runTenant(), "programs", "programs");
  expect(inputs).toMatchObject({
    image: imageId("traefik:v3.7.15"),
    stack: stackId,
    volume: "pgs--programs",
    files: { "start-server": expect.stringMatching(/^#!\/bin\/sh\n/) },
  });
  expect(dependencies).toContain(`${types.container} proxy`);
});
