import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { succeed } from "./support/command";
import { login, psql } from "./support/psql";

const tenants = `
defaults: { memory: 256Mi }
tenants:
  acme: {}
  globex: {}
  initech: { access: false }
`;

let checkout: Checkout;
let ca: string;

beforeAll(async () => {
  checkout = await Checkout.create(tenants);
  await checkout.up();
  ca = await checkout.caFile();
});
afterAll(() => checkout?.remove());

describe.each(["acme", "globex"])("%s, with access on, logs in", (id) => {
  test.each([
    ["psql 15, sslmode=require", psql[15], { sslmode: "require" }],
    ["psql 15, verify-full", psql[15], { sslmode: "verify-full", sslrootcert: "CA" }],
    ["psql 18, sslmode=require", psql[18], { sslmode: "require" }],
    ["psql 18, verify-full", psql[18], { sslmode: "verify-full", sslrootcert: "CA" }],
    [
      "psql 18, direct TLS",
      psql[18],
      { sslmode: "verify-full", sslrootcert: "CA", sslnegotiation: "direct" },
    ],
  ])("by %s", async (_name, binary, parameters) => {
    const real = "sslrootcert" in parameters ? { ...parameters, sslrootcert: ca } : parameters;
    const result = await login(checkout, binary, id, real);
    expect(result.stderr).toBe("");
    expect(result.stdout.trim()).toBe(id);
  });

  test("by node-postgres, verifying the certificate", async () => {
    expect(await checkout.query(id, "SELECT current_database() AS name")).toEqual([{ name: id }]);
  });

  test("by its own password only: another tenant's is refused", async () => {
    const other = await checkout.password(id === "acme" ? "globex" : "acme");
    const result = await login(checkout, psql[18], id, {}, other);
    expect(result.code).not.toBe(0);
    expect(result.stderr).toMatch(/password authentication failed/);
  });
});

describe("within six seconds, and while others work on, is refused", () => {
  const unreachable = /unexpected eof|EOF detected|closed the connection|received H/;
  test.each<[string, string, Record<string, string>, RegExp, string?]>([
    ["an unknown hostname", "acme", { host: "nobody.pgs.localhost" }, unreachable],
    ["a hostname of another domain", "acme", { host: "acme.example.test" }, unreachable],
    ["a client without SNI", "acme", { sslsni: "0" }, unreachable],
    ["a dot at the end of the hostname", "acme", { host: "acme.pgs.localhost." }, unreachable],
    [
      "physical replication",
      "acme",
      { replication: "true" },
      /no pg_hba.conf entry for replication connection/,
    ],
    ["a client without TLS", "acme", { sslmode: "disable" }, unreachable],
    ["a wrong password", "acme", {}, /password authentication failed/, "wrong"],
    ["a tenant with access off", "initech", {}, unreachable],
  ])("%s", async (_name, id, parameters, message, password) => {
    const neighbour = await checkout.client("globex");
    let queries = 0;
    let going = true;
    const work = (async () => {
      while (going) {
        await neighbour.query("SELECT 1");
        await checkout.query("globex", "SELECT 1");
        queries++;
      }
    })();

    for (const binary of [psql[15], psql[18]]) {
      const result = await login(checkout, binary, id, parameters, password);
      expect(result.code).not.toBe(0);
      expect(result.stderr).toMatch(message);
      expect(result.seconds).toBeLessThan(6);
    }

    going = false;
    await work;
    await neighbour.end();
    expect(queries).toBeGreaterThan(0);
  });
});

test("only the proxy publishes a port", async () => {
  const published = await succeed("docker", [
    "ps",
    "--filter",
    `name=^${checkout.prefix}-`,
    "--format",
    "{{.Names}} {{.Ports}}",
  ]);
  const withPort = published.split("\n").filter((line) => line.includes("->"));
  expect(withPort).toHaveLength(1);
  expect(withPort[0]).toContain(checkout.name("proxy"));
  expect(withPort[0]).toContain(`0.0.0.0:${checkout.port}->5432/tcp`);
});
