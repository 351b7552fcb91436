import { readFileSync } from "node:fs";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AcmeServer, dnsPassword } from "./support/acme";
import { Checkout } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { login, psql } from "./support/psql";
import { shownCertificate } from "./support/tls";

const one = "defaults: { memory: 128Mi }\ntenants:\n  acme: {}\n";
const wrongPassword = "not-the-right-one";

let checkout: Checkout;
let server: AcmeServer;
let ca: string;

beforeAll(async () => {
  checkout = await Checkout.create(one);
  await checkout.up();
  ca = readFileSync(await checkout.caFile(), "utf8");
  const gateway = "{{(index .IPAM.Config 0).Gateway}}";
  const proxyNetwork = ["network", "inspect", checkout.name("proxy"), "--format", gateway];
  server = await AcmeServer.start(checkout.folder, (await succeed("docker", proxyNetwork)).trim());
  const settings = {
    email: "operator@example.com",
    dnsProvider: "httpreq",
    caServer: server.directory,
    caCertificate: server.caFile,
    "resolvers[0]": server.resolver,
    propagationSeconds: "1",
  };
  for (const [key, value] of Object.entries(settings)) {
    await checkout.pulumi("config", "set", "--path", `pgs:acme.${key}`, value);
  }
  await setCredential("HTTPREQ_ENDPOINT", server.endpoint);
  await setCredential("HTTPREQ_USERNAME", "customer");
});
afterAll(async () => {
  await checkout?.remove();
  server?.stop();
});

test("credentials that the DNS provider refuses fail the up; the proxy goes on with the certificate it had", async () => {
  await setCredential("HTTPREQ_PASSWORD", wrongPassword);
  const { code, output } = await checkout.tryUp();
  expect(code).not.toBe(0);
  expect(output).toMatch(/the proxy got no certificate for \*\.pgs\.localhost: .*401/);
  expect(output).not.toContain(wrongPassword);
  expect((await shown()).issuer.CN).toBe("pgs CA for pgs.localhost");
  expect((await login(checkout, psql[18], "acme", await verifiedWith("ca.pem", ca))).code).toBe(0);
});

describe("with the right ones", () => {
  test("the proxy gets a certificate for the wildcard, which clients verify with its CA", async () => {
    await setCredential("HTTPREQ_PASSWORD", dnsPassword);
    const output = await checkout.up();
    expect(output).not.toContain(dnsPassword);
    await eventually(60, async () => expect((await shown()).issuer.CN).toMatch(/^Pebble/));
    expect((await shown()).subjectaltname).toBe("DNS:*.pgs.localhost");
    const verified = await verifiedWith("pebble-root.pem", await server.root());
    for (const version of [15, 18] as const) {
      const { code, output } = await login(checkout, psql[version], "acme", verified);
      expect(code, output).toBe(0);
    }
    expect((await login(checkout, psql[18], "acme", await verifiedWith("ca.pem", ca))).code).toBe(2);
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  test("nobody but the proxy can read the credentials and the keys", async () => {
    const described = await succeed("docker", ["inspect", checkout.name("proxy")]);
    const log = (await run("docker", ["logs", checkout.name("proxy")])).output;
    for (const text of [described, log]) {
      expect(text).not.toContain(dnsPassword);
      expect(text).not.toContain(wrongPassword);
    }
    const list = "stat -c '%a %u %n' acme-*/* *.json *.yml";
    const files = await inProxy(`${list} | sed 's/acme-[0-9a-f]*/acme-X/' | sort`);
    expect(files.trim().split("\n")).toEqual([
      "600 0 acme-X/HTTPREQ_ENDPOINT",
      "600 0 acme-X/HTTPREQ_PASSWORD",
      "600 0 acme-X/HTTPREQ_USERNAME",
      "600 0 acme-X/ca.pem",
      "600 0 acme.json",
      "600 0 acme.yml",
      "600 0 cancel.yml",
      "600 0 certificate.yml",
      "644 0 route-acme.yml",
    ]);
  });

  test("a new tenant is served with it at once, and no session is dropped", async () => {
    const { serialNumber } = await shown();
    const session = await openSession();
    checkout.write("tenants.yaml", `${one}  globex: {}\n`);
    await checkout.up();
    expect((await shown("globex")).serialNumber).toBe(serialNumber);
    await session.query("SELECT 1");
    await session.end();
  });

  test("a proxy that starts again has it without asking for another", async () => {
    const { serialNumber } = await shown();
    await succeed("docker", ["restart", checkout.name("proxy")]);
    await eventually(90, async () => expect((await shown()).serialNumber).toBe(serialNumber));
  });
});

test("without ACME again, the stack's own CA is the former one, and no credential is left", async () => {
  await checkout.pulumi("config", "rm", "pgs:acme");
  await checkout.pulumi("config", "rm", "pgs:acmeCredentials");
  await checkout.up();
  expect(readFileSync(await checkout.caFile(), "utf8")).toBe(ca);
  await checkout.query("globex", "SELECT 1");
  expect((await inProxy("ls")).trim().split("\n")).toEqual([
    "acme.json",
    "cancel.yml",
    "certificate.yml",
    "route-acme.yml",
    "route-globex.yml",
  ]);
  await checkout.pulumi("preview", "--expect-no-changes");
});

function setCredential(name: string, value: string): Promise<string> {
  return checkout.pulumi("config", "set", "--secret", "--path", `pgs:acmeCredentials.${name}`, value);
}

function shown(id = "acme") {
  return shownCertificate(checkout.port, `${id}.pgs.localhost`);
}

/** libpq's parameters for verifying with this CA. */
async function verifiedWith(file: string, pem: string): Promise<Record<string, string>> {
  checkout.write(file, pem);
  return { sslmode: "verify-full", sslrootcert: `${checkout.folder}/${file}` };
}

async function openSession(): Promise<Client> {
  const config = await checkout.clientConfig("acme");
  const ssl = { servername: "acme.pgs.localhost", ca: await server.root() };
  const client = new Client({ ...config, ssl });
  await client.connect();
  return client;
}

/** Runs a shell script in the folder that the proxy watches. */
function inProxy(script: string): Promise<string> {
  const command = `cd /etc/traefik/dynamic && ${script}`;
  return succeed("docker", ["exec", checkout.name("proxy"), "sh", "-c", command]);
}
