import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { certificateFiles } from "../unit/support/certificates";
import { Checkout } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { bySql, inContainer } from "./support/inside";
import { login, psql } from "./support/psql";
import { shownCertificate } from "./support/tls";

/** A session that was open before the changes. */
interface Session {
  client: Client;
  pid: number;
  ended: boolean;
}

let checkout: Checkout;
let entries: Record<string, object> = { acme: {}, secure: { tls: "passthrough" } };
let hosts: Record<string, string>;
let ca: string;
const sessions: Record<string, Session> = {};
const startTimes: Record<string, string> = {};

beforeAll(async () => {
  const config = { hostnameSuffix: "random", isolation: "shared" };
  checkout = await Checkout.create(tenantsFile(), config);
  await checkout.up();
  hosts = await hostnames();
  ca = readFileSync(await checkout.caFile(), "utf8");
  for (const id of Object.keys(entries)) {
    await openSession(id);
    startTimes[id] = await startTime(id);
  }
});
afterAll(async () => {
  for (const { client } of Object.values(sessions)) await client.end().catch(() => {});
  await checkout?.remove();
});

describe("a hostname with a random suffix", () => {
  test("lets clients in", async () => {
    expect(hosts.acme).toMatch(/^acme-[a-z0-9]{6}\.pgs\.localhost$/);
    const { code, output } = await login(checkout, psql[18], "acme", { host: hosts.acme ?? "" });
    expect(code, output).toBe(0);
  });

  test("without its suffix is not known", async () => {
    expect((await login(checkout, psql[18], "acme")).code).not.toBe(0);
  });

  test("is known to the commands", async () => {
    const url = await run("./pgs", ["url", "acme"], checkout.options());
    expect(new URL(url.stdout.trim()).hostname).toBe(hosts.acme);
  });
});

describe("TLS that is passed through", () => {
  const binds = { channel_binding: "require" };

  test.each([
    ["psql 15", 15, {}],
    ["psql 18", 18, {}],
    ["psql 18, direct TLS", 18, { sslnegotiation: "direct" }],
  ] as const)(
    "ends at the server, which is verified and bound to the login: %s",
    async (_, version, more) => {
      const parameters = { sslmode: "verify-full", sslrootcert: await checkout.caFile(), ...binds, ...more };
      const { output, code } = await login(checkout, psql[version], "secure", {
        host: hosts.secure ?? "",
        ...parameters,
      });
      expect(code, output).toBe(0);
      const shown = await shownCertificate(checkout.port, hosts.secure ?? "");
      expect(shown.subjectaltname).toBe(`DNS:${hosts.secure}`);
    },
  );

  test("is what the login is bound to: to one that ends at the proxy it cannot be", async () => {
    const { code, stderr } = await login(checkout, psql[18], "acme", { host: hosts.acme ?? "", ...binds });
    expect(code).not.toBe(0);
    expect(stderr).toContain("channel binding");
  });

  test("is seen by the server", async () => {
    expect(await usesTls("secure")).toBe(true);
    expect(await usesTls("acme")).toBe(false);
  });

  test("leads nowhere with an unknown name", async () => {
    for (const sslnegotiation of ["postgres", "direct"]) {
      const { code, output } = await login(checkout, psql[18], "nobody", { sslnegotiation }, "none");
      expect(code, output).toBe(2);
    }
  });

  test("does not let another tenant in beside the proxy", async () => {
    const answer = await bySql(
      checkout,
      "acme",
      `PGPASSWORD=x psql "host=${checkout.name("secure")} user=postgres dbname=secure sslmode=require" -c 'SELECT 1'`,
    );
    expect(answer).toMatch(/no pg_hba.conf entry/);
  });

  test("has its key in a file that the server alone reads, and in no description of the container", async () => {
    const listed = await inContainer(checkout, "secure", "stat -c '%a %u %n' $PGDATA/*.pem");
    expect(listed).toMatch(/^600 999 \S+\/pgs-tls\.pem\n$/);
    expect(await inContainer(checkout, "secure", "cat $PGDATA/*.pem")).toContain("PRIVATE KEY");
    expect(await succeed("docker", ["inspect", checkout.name("secure")])).not.toContain("PRIVATE KEY");
    expect((await run("docker", ["logs", checkout.name("secure")])).output).not.toContain("PRIVATE KEY");
  });

  test("needs no up after the container was started again", async () => {
    await succeed("docker", ["restart", "--time", "60", checkout.name("secure")]);
    await eventually(90, () => bound("secure"));
    await openSession("secure");
    startTimes.secure = await startTime("secure");
  });
});

test("where TLS ends changes live, to and fro, and no login fails meanwhile", async () => {
  const [one, other] = [keepLoggingIn("acme"), keepLoggingIn("secure")];
  edit({ acme: { tls: "passthrough", memory: "160Mi" }, secure: { tls: "terminate" } });
  await checkout.up();
  expect(await Promise.all([one.stop(), other.stop()])).toEqual([[], []]);
  await allGoOn();
  expect([await usesTls("acme"), await usesTls("secure")]).toEqual([true, false]);
  expect(await inContainer(checkout, "secure", "ls $PGDATA/*.pem")).toMatch(/No such file/);
  expect(await hostnames()).toEqual(hosts);
  await bound("acme");
  await checkout.pulumi("preview", "--expect-no-changes");
});

describe("a certificate with a third of its life left", () => {
  const before: Record<string, string> = {};

  test("is renewed by an up, as preview says", async () => {
    for (const id of ["acme", "secure"]) before[id] = await shownSerial(id);
    await letTimePass();
    const plan = await checkout.pulumi("preview");
    expect(plan).toMatch(/tls:index:LocallySignedCert server +replace/);
    expect(plan).toMatch(/tls:index:LocallySignedCert acme +replace/);
    expect(plan).toMatch(/pgs:index:TraefikFile certificate +update/);
    expect(plan).toMatch(/pgs:index:PostgresServer acme +update/);
    await checkout.up();
  });

  test("at the proxy and at the server, while sessions go on", async () => {
    for (const id of ["acme", "secure"]) {
      await eventually(60, async () => expect(await shownSerial(id)).not.toBe(before[id]));
    }
    await allGoOn();
  });

  test("by the same CA", async () => {
    expect(readFileSync(await checkout.caFile(), "utf8")).toBe(ca);
    await bound("acme");
    await checkout.query("secure", "SELECT 1");
    await checkout.pulumi("preview", "--expect-no-changes");
  });
});

describe("the stack's CA", () => {
  test("stays, and signs for a server that TLS is passed through to, beside the operator's certificate", async () => {
    const files = certificateFiles(checkout.folder, "*.pgs.localhost");
    await checkout.pulumi("config", "set", "--path", "pgs:certificate.chain", files.chain);
    await checkout.pulumi("config", "set", "--path", "pgs:certificate.key", files.key);
    const serial = await shownSerial("acme");
    await checkout.up();
    await eventually(60, async () =>
      expect((await shownCertificate(checkout.port, hosts.secure ?? "")).subject.CN).toBe("own"),
    );
    expect(await shownSerial("acme")).toBe(serial);
    expect(readFileSync(await checkout.caFile(), "utf8")).toBe(ca);
    await allGoOn();
  });

  test("is the same after the operator's certificate was taken away; what a tenant broke is put right", async () => {
    for (const sql of ["ALTER SYSTEM RESET ssl", "SELECT pg_reload_conf()"])
      await checkout.query("acme", sql);
    await checkout.pulumi("config", "rm", "pgs:certificate");
    edit({ ...entries, secure: { state: "stopped", passwordVersion: 2 } });
    await checkout.up();
    await bound("acme");
    expect(readFileSync(await checkout.caFile(), "utf8")).toBe(ca);
    expect(await hostnames()).toEqual(hosts);
  });
});

test("access off ends sessions whose TLS is passed through; a start keeps the hostname", async () => {
  edit({ acme: { ...entries.acme, access: false }, secure: { passwordVersion: 2 } });
  await checkout.up();
  await eventually(60, async () => expect(sessions.acme?.ended).toBe(true));
  expect((await login(checkout, psql[18], "acme", { host: hosts.acme ?? "" })).code).toBe(2);
  expect(await hostnames()).toEqual(hosts);
  await checkout.query("secure", "SELECT 1");
  await checkout.pulumi("preview", "--expect-no-changes");
});

function tenantsFile(): string {
  return stringify({ defaults: { memory: "128Mi" }, tenants: entries });
}

function edit(changed: Record<string, object>): void {
  entries = changed;
  checkout.write("tenants.yaml", tenantsFile());
}

async function hostnames(): Promise<Record<string, string>> {
  return Object.fromEntries(Object.entries(await checkout.tenants()).map(([id, { host }]) => [id, host]));
}

async function openSession(id: string): Promise<void> {
  await sessions[id]?.client.end().catch(() => {});
  const client = await checkout.client(id);
  const { rows } = await client.query("SELECT pg_backend_pid() AS pid");
  const session = { client, pid: rows[0].pid, ended: false };
  client.on("end", () => {
    session.ended = true;
  });
  sessions[id] = session;
}

/** No session was dropped, and no server restarted. */
async function allGoOn(): Promise<void> {
  for (const [id, { client, pid }] of Object.entries(sessions)) {
    expect((await client.query("SELECT pg_backend_pid() AS pid")).rows).toEqual([{ pid }]);
    expect(await startTime(id)).toBe(startTimes[id]);
  }
}

async function startTime(id: string): Promise<string> {
  const sql = "SELECT pg_postmaster_start_time()";
  return succeed("docker", ["exec", checkout.name(id), "psql", "-U", "postgres", "-Atc", sql]);
}

/** Whether a new session's TLS ends at the server. */
async function usesTls(id: string): Promise<boolean> {
  const rows = await checkout.query(id, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
  return rows[0]?.ssl as boolean;
}

/** Logs in with the server verified and bound to the login. */
async function bound(id: string): Promise<void> {
  const parameters = { sslmode: "verify-full", sslrootcert: await checkout.caFile() };
  const host = { host: hosts[id] ?? "" };
  const result = await login(checkout, psql[18], id, { ...host, ...parameters, channel_binding: "require" });
  expect(result.code, result.output).toBe(0);
}

async function shownSerial(id: string): Promise<string> {
  return (await shownCertificate(checkout.port, hosts[id] ?? "")).serialNumber;
}

/** One login after another, until told to stop. */
function keepLoggingIn(id: string) {
  const failures: string[] = [];
  let going = true;
  const done = (async () => {
    while (going) {
      await checkout.query(id, "SELECT 1").catch((error) => failures.push(String(error)));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return failures;
  })();
  return {
    stop: () => {
      going = false;
      return done;
    },
  };
}

/** As if the certificates that the CA signed had been made so long ago that less than a third of their life is left. */
async function letTimePass(): Promise<void> {
  interface Resource {
    type: string;
    outputs?: Record<string, unknown>;
  }
  const state = JSON.parse(await checkout.pulumi("stack", "export"));
  const signed = (state.deployment.resources as Resource[]).filter(({ type }) =>
    type.endsWith(":LocallySignedCert"),
  );
  expect(signed).toHaveLength(2);
  for (const { outputs } of signed) {
    if (outputs) outputs.validityEndTime = new Date(Date.now() + 121 * 86_400_000).toISOString();
  }
  checkout.write("state.json", JSON.stringify(state));
  await checkout.pulumi("stack", "import", "--file", join(checkout.folder, "state.json"));
}
