import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Finding } from "../../cli/lib/doctor";
import type { TenantStatus } from "../../cli/lib/tenant-status";
import type { Top } from "../../cli/lib/top";
import { certificateFiles } from "../unit/support/certificates";
import { Checkout } from "./support/checkout";
import { eventually, succeed } from "./support/command";
import { login, psql } from "./support/psql";

let checkout: Checkout;

const pgs = (args: string[], env: NodeJS.ProcessEnv = {}, stdin = "") => checkout.pgs(args, { env, stdin });
const list = async (): Promise<Record<string, TenantStatus>> => {
  const { stdout } = await pgs(["list", "--usage", "--json"]);
  const all: TenantStatus[] = JSON.parse(stdout);
  return Object.fromEntries(all.map((tenant) => [tenant.id, tenant]));
};
/** What `doctor` finds wrong, and its exit code. */
const diagnose = async (...args: string[]) => {
  const { code, stdout, stderr } = await pgs(["doctor", "--json", ...args]);
  expect(stderr).toBe("");
  const all: Finding[] = JSON.parse(stdout);
  return { code, all, problems: all.filter(({ level }) => level === "problem") };
};
/** A PATH with all that is on this one but psql. */
const pathWithoutPsql = () => {
  const bin = join(checkout.folder, "no-psql");
  mkdirSync(bin);
  for (const folder of (process.env.PATH ?? "").split(":").filter((path) => existsSync(path))) {
    for (const name of readdirSync(folder)) {
      if (name !== "psql" && !existsSync(join(bin, name))) symlinkSync(join(folder, name), join(bin, name));
    }
  }
  return bin;
};

const proxy = () => checkout.name("proxy");
const dynamic = "/etc/traefik/dynamic";

beforeAll(async () => {
  checkout = await Checkout.create(`defaults: { memory: 128Mi }
tenants:
  acme: {}
  globex: { access: false }
  initech: { state: stopped }
`);
  await checkout.up();
});
afterAll(() => checkout?.remove());

test("list has the figures that Docker and the server have", async () => {
  const session = await checkout.client("acme");
  const { acme, globex, initech } = await list();
  const { rows } = await session.query(`
    SELECT sum(pg_database_size(oid))::bigint AS databases,
      (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int AS connections,
      extract(epoch FROM now() - pg_postmaster_start_time())::int AS uptime FROM pg_database`);
  await session.end();
  const server = rows[0];
  const du = await succeed("docker", ["exec", checkout.name("acme"), "du", "-sb", "/var/lib/postgresql"]);
  const memory = await succeed("docker", [
    "stats",
    "--no-stream",
    "--format",
    "{{.MemUsage}}",
    checkout.name("acme"),
  ]);

  expect(acme).toMatchObject({ access: true, state: "running", maxConnections: 25 });
  expect(acme?.memory.limit).toBe(128 * 2 ** 20);
  expect((acme?.memory.used ?? 0) / 2 ** 20 / Number.parseFloat(memory)).toBeCloseTo(1, 0);
  expect(acme?.connections).toBe(server.connections);
  expect(acme?.size).toBeGreaterThan(Number(server.databases));
  expect((acme?.size ?? 0) / Number.parseInt(du, 10)).toBeCloseTo(1, 0);
  expect(server.uptime - (acme?.uptime ?? 0)).toBeLessThan(60);
  expect(acme?.cpu.used).toBeLessThan(1);
  expect(globex).toMatchObject({ access: false, state: "running", connections: 0 });
  expect(initech).toMatchObject({ state: "stopped", size: null, connections: null, uptime: null });
  expect(initech?.memory.used).toBeNull();
});

test("list counts a processor that is busy", async () => {
  const session = await checkout.client("acme");
  const busy = session.query("DO 'BEGIN LOOP PERFORM 1; END LOOP; END'").catch(() => {});
  const { acme } = await list();
  await checkout.query(
    "acme",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%LOOP%' AND pid <> pg_backend_pid()",
  );
  await busy;
  // Idle, it is below 0.01; beside other work, a processor is shared by many.
  expect(acme?.cpu.used).toBeGreaterThan(0.03);
});

const whoami = "SELECT ssl, current_database() FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

test("connect runs psql with verify-full, whatever the environment says, and leaves no file", async () => {
  // Of its own: other tests connect at the same time.
  const temporary = join(checkout.folder, "temporary");
  mkdirSync(temporary);
  const misleading = {
    TMPDIR: temporary,
    PGPASSWORD: "wrong",
    PGSSLMODE: "disable",
    PGHOSTADDR: "192.0.2.1",
    PGSERVICE: "none",
  };
  const answer = await pgs(
    ["connect", "acme", "--", "-XAt", "-c", "\\conninfo", "-c", whoami.replace("ssl,", "'ssl',")],
    misleading,
  );
  expect(answer.code, answer.output).toBe(0);
  expect(answer.stdout).toMatch(/ssl\|acme\n$/);
  expect(answer.stdout).toContain("acme.pgs.localhost");
  expect(answer.output).not.toContain(await checkout.password("acme"));
  // The loader keeps compiled sources there, which have no secret.
  expect(readdirSync(temporary).filter((name) => !/^tsx-\d+$/.test(name))).toEqual([]);
});

test("connect gives psql no password by argument, and files that are this user's alone", async () => {
  checkout.write(
    "shown/psql",
    `#!/bin/sh
printf '%s\\n' "$@"
file=$(expr "$1" : '.*passfile=\\(.*\\)')
stat -c %a "$(dirname "$file")" "$file"
`,
  );
  await succeed("chmod", ["+x", join(checkout.folder, "shown/psql")]);
  const PATH = `${join(checkout.folder, "shown")}:${process.env.PATH}`;
  const { stdout } = await pgs(["connect", "acme", "--", "-l"], { PATH });
  expect(stdout).toMatch(
    / sslmode=verify-full sslrootcert=\/\S+ca\.pem passfile=\/\S+pgpass\n-l\n700\n600\n$/,
  );
  expect(stdout).not.toContain(await checkout.password("acme"));
});

test("connect ends with psql's exit code", async () => {
  expect((await pgs(["connect", "acme", "-c", "SELECT 1/0"])).code).toBe(1);
  expect((await pgs(["connect", "acme", "--no-such-option"])).code).toBe(1);
  expect((await pgs(["connect", "acme", "-v", "ON_ERROR_STOP=1", "-f", "-"], {}, "SELECT 1/0;")).code).toBe(
    3,
  );
});

test("connect says why there is nothing to connect to", async () => {
  const refused = async (id: string) => {
    const { code, stderr } = await pgs(["connect", id]);
    return `${code} ${stderr}`;
  };
  expect(await refused("globex")).toMatch(/^1 .*\.\/pgs enable-access globex/);
  expect(await refused("initech")).toMatch(/^1 .*\.\/pgs start initech/);
  expect(await refused("nobody")).toMatch(/^2 there is no tenant nobody; there are acme, globex, initech/);
});

test("without a psql on this machine, connect takes that of the tenant's image, through the proxy as well", async () => {
  const PATH = pathWithoutPsql();
  const answer = await pgs(["connect", "acme", "--", "-XAt", "-c", whoami, "-c", "\\! ls -ln /tmp"], {
    PATH,
  });
  expect(answer.code, answer.output).toBe(0);
  // TLS ends at the proxy: the server sees none, and a client address in the proxy's place.
  expect(answer.stdout).toMatch(/^f\|acme\n/);
  expect(answer.stdout).toMatch(/-rw------- 1 999 999 .* ca\.pem\n-rw------- 1 999 999 .* pgpass/);
  expect((await pgs(["connect", "acme", "--", "-c", "SELECT 1/0"], { PATH })).code).toBe(1);
  const left = await succeed("docker", ["ps", "--all", "--format", "{{.Names}}"]);
  expect(left).not.toContain(checkout.name("connect"));
});

test("top names statements, who waits for whom, and cancels", async () => {
  const steering = "SELECT E'\\u202e' || 'a\x1b[2J', pg_sleep(0.2), pg_sleep(60)";
  const [holder, waiter, sleeper] = await Promise.all(
    ["acme", "acme", "acme"].map((id) => checkout.client(id)),
  );
  for (const sql of ["CREATE TABLE locked ()", "BEGIN", "LOCK locked"]) await holder?.query(sql);
  const waits = waiter?.query("SELECT * FROM locked");
  const sleeps = sleeper?.query(steering).catch((error: Error) => error.message);
  const { sessions } = await eventually(90, async () => {
    const { code, stdout } = await pgs(["top", "acme", "--json"]);
    expect(code).toBe(0);
    const top: Top = JSON.parse(stdout);
    expect(top.sessions).toHaveLength(3);
    return top;
  });
  const idle = sessions.find(({ state }) => state === "idle in transaction");
  expect(sessions.find(({ query }) => query.includes("FROM locked"))?.blockedBy).toEqual([idle?.pid]);
  const sleeping = sessions.find(({ query }) => query.includes("pg_sleep"));
  expect(sleeping?.query).toBe(steering);
  expect((await pgs(["top", "acme", "--cancel", String(idle?.pid)])).stderr).toContain("--terminate");
  const shown = (await pgs(["top", "acme"])).stdout;
  expect(shown).toContain(`waits for ${idle?.pid}`);
  expect(shown).toContain("\\u202e' || 'a\\u001b[2J'");
  expect((await pgs(["top", "acme", "--cancel", String(sleeping?.pid)])).code).toBe(0);
  expect(await sleeps).toContain("canceling statement due to user request");
  expect((await pgs(["top", "acme", "--terminate", String(idle?.pid)])).code).toBe(0);
  await waits;
  await Promise.all([waiter?.end(), sleeper?.end()]);
  // PID 1 is the server itself, and no session of the tenant.
  expect((await pgs(["top", "acme", "--terminate", "1"])).code).toBe(2);
  expect((await pgs(["top", "initech"])).stderr).toContain("./pgs start initech");
});

test("a container on the same host gets in by the string that url gives for it", async () => {
  const url = (await pgs(["url", "acme", "--from-container"])).stdout.trim();
  expect(url).not.toContain("hostaddr");
  const { host } = (await checkout.tenants()).acme ?? {};
  const answer = await succeed("docker", [
    ...[
      "run",
      "--rm",
      "--add-host",
      `${host}:host-gateway`,
      "--entrypoint",
      "psql",
      "postgres:18.6-bookworm",
    ],
    ...[url, "-Atc", "SELECT current_database()"],
  ]);
  expect(answer).toBe("acme\n");
});

test("logs shows what the server wrote, and nothing that steers a terminal", async () => {
  await checkout.query("acme", "DO $$ BEGIN RAISE LOG E'before \\x1b[2J after'; END $$");
  const { code, stdout } = await pgs(["logs", "acme", "--tail", "20"]);
  expect(code).toBe(0);
  expect(stdout).toContain("before \\x1b[2J after");
  expect(stdout.split("\n").length).toBeLessThan(23);
  expect((await pgs(["logs", "initech"])).stderr).toContain("./pgs start initech");
  expect((await pgs(["logs", "acme", "--tail", "x"])).code).toBe(2);
});

test("doctor finds nothing where nothing is wrong", async () => {
  const { code, all, problems } = await diagnose();
  expect(problems).toEqual([]);
  expect(code).toBe(0);
  // What a prune would delete, on older engines alone.
  expect(new Set(all.map(({ check }) => check).filter((check) => check !== "volume"))).toEqual(
    new Set([
      ...["engine", "proxy", "cancel", "server", "DNS", "port", "route", "certificate", "login", "backup"],
      "files",
      "drift",
    ]),
  );
});

test("doctor names what is wrong, and its advice helps", async () => {
  await checkout.query("acme", "ALTER ROLE postgres PASSWORD 'another'");
  const password = await diagnose("--quick");
  expect(password.code).toBe(1);
  expect(password.problems).toEqual([
    {
      check: "login",
      level: "problem",
      tenant: "acme",
      message: expect.stringContaining("password authentication failed"),
      advice: expect.stringContaining("./pgs up"),
    },
  ]);

  await succeed("docker", ["exec", proxy(), "rm", `${dynamic}/route-acme.yml`]);
  await eventually(90, async () => {
    const { problems } = await diagnose("--quick");
    expect(problems).toMatchObject([
      { check: "route", tenant: "acme", advice: expect.stringContaining("./pgs up") },
    ]);
  });
  const drifted = await diagnose();
  expect(drifted.problems.map(({ check }) => check)).toEqual(["route", "drift"]);
  expect(drifted.problems[1]?.message).toMatch(/acme \(update PostgresServer\)/);

  await succeed("docker", ["stop", "--time", "30", checkout.name("acme")]);
  await succeed("docker", ["stop", checkout.name("-cancel")]);
  const stopped = await diagnose();
  expect(stopped.code).toBe(1);
  expect(stopped.problems).toMatchObject([
    { check: "cancel", message: expect.stringMatching(/^\S+--cancel is Exited .* Ctrl-C/) },
    { check: "server", tenant: "acme" },
    { check: "drift", message: expect.stringContaining("cancel (update Container)") },
  ]);
  for (const { advice } of stopped.problems) expect(advice).toContain("./pgs up");
  expect((await list()).acme).toMatchObject({ state: "exited", uptime: null });
  expect((await pgs(["connect", "acme"])).stderr).toMatch(
    /^the server of acme does not run \(exited\): \.\/pgs up starts it again; \.\/pgs logs acme/,
  );
  expect((await pgs(["logs", "acme", "--tail", "3"])).stdout).toContain("database system is shut down");

  expect((await pgs(["up"])).code).toBe(0);
  expect(await diagnose()).toMatchObject({ code: 0, problems: [] });
});

test("doctor knows another certificate than the stack's, which connect refuses, and a proxy that is down", async () => {
  const { chain, key } = certificateFiles(checkout.folder, "*.pgs.localhost", "other", 1);
  const tls = {
    certificates: [{ certFile: readFileSync(chain, "utf8"), keyFile: readFileSync(key, "utf8") }],
    options: { default: { sniStrict: true, alpnProtocols: ["postgresql"] } },
  };
  const script = `cat >${dynamic}/.other; mv ${dynamic}/.other ${dynamic}/certificate.yml`;
  await succeed("docker", ["exec", "-i", proxy(), "sh", "-c", script], { stdin: JSON.stringify({ tls }) });
  await eventually(90, async () => {
    const { problems } = await diagnose("--quick");
    expect(problems.map(({ check }) => check)).toEqual(["certificate", "certificate"]);
    expect(problems[0]?.message).toMatch(/expires in \d days/);
    expect(problems[1]?.message).toMatch(/not signed by the CA of the stack/);
  });
  const refused = await pgs(["connect", "acme", "--", "-c", "SELECT 1"]);
  expect(refused.code).toBe(2);
  expect(refused.stderr).toContain("certificate verify failed");

  await succeed("docker", ["stop", "--time", "15", proxy()]);
  await succeed("docker", ["rm", "--force", checkout.name("-cancel")]);
  const { code, problems } = await diagnose("--quick");
  expect(code).toBe(1);
  expect(problems.map(({ check }) => check)).toEqual(["proxy", "cancel", "port"]);
  expect(problems[1]?.message).toContain("there is no container");
  expect((await pgs(["up"])).code).toBe(0);
  expect((await pgs(["connect", "acme", "--", "-c", "SELECT 1"])).code).toBe(0);
});

/** The names of the resources that an up tells of. */
function lookedAt(output: string): string[] {
  const names = output.matchAll(
    /^[ ~+-]+ (?!pulumi:)\w+:\w+:\w+ (\S+) (?:refresh|creat|updat|delet|replac)/gm,
  );
  return [...new Set([...names].map(([, name]) => name as string))];
}

test("an edit's up touches its tenant alone, and leaves no difference", async () => {
  const untouched = async () => (await checkout.pulumi("preview", "--expect-no-changes")) !== "";
  const marker = () =>
    succeed("docker", ["inspect", "--format", "{{.Id}} {{.State.StartedAt}}", checkout.name("globex")]);
  const before = await marker();

  const created = await pgs(["create", "hooli", "--yes", "--verbose"]);
  expect(created.code, created.output).toBe(0);
  // Of the others nothing is even looked at.
  expect(lookedAt(created.stdout)).toEqual(["hooli"]);
  expect((await login(checkout, psql[18], "hooli")).stdout).toBe("hooli\n");

  for (const args of [
    ["set", "hooli", "hostname", "customers"],
    ["disable-access", "hooli"],
    ["rotate-password", "acme"],
    ["stop", "hooli"],
  ]) {
    const edited = await pgs([...args, "--verbose"]);
    expect(edited.code, edited.output).toBe(0);
    expect(lookedAt(edited.stdout)).toEqual([args[1]]);
  }
  expect(await untouched()).toBe(true);
  expect((await login(checkout, psql[18], "acme")).stdout).toBe("acme\n");
  expect((await checkout.tenants()).hooli).toMatchObject({
    host: "customers.pgs.localhost",
    access: false,
    state: "stopped",
  });

  const removed = await pgs(["remove", "hooli", "--verbose"]);
  expect(removed.output).toContain(`The data of hooli stays in the Docker volume ${checkout.name("hooli")}.`);
  expect(lookedAt(removed.stdout)).toEqual(["hooli"]);
  expect(await untouched()).toBe(true);
  expect(Object.keys(await checkout.tenants())).toEqual(["acme", "globex", "initech"]);
  expect(await marker()).toBe(before);
});

/** A command at a terminal, which gets each answer when it has asked the question. */
async function atTerminal(command: string, answers: [question: string, answer: string][]) {
  const { cwd, env } = checkout.options();
  const child = spawn("script", ["-qfec", command, "/dev/null"], { cwd, env });
  const waiting = [...answers];
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
    const [next] = waiting;
    if (next && output.includes(next[0])) child.stdin.write(waiting.shift()?.[1]);
  });
  const code = await new Promise((resolve) => child.on("close", resolve));
  return { code, output };
}

test("at a terminal nothing is written before a yes", async () => {
  const file = () => readFileSync(join(checkout.folder, "tenants.yaml"), "utf8");
  const before = file();
  const edit = "./pgs stop acme";
  for (const [answer, code] of [
    ["n\r", 1],
    ["\x03", 130],
  ] as const) {
    const result = await atTerminal(edit, [["Stop acme? [y/N]", answer]]);
    expect(result).toEqual({ code, output: expect.stringContaining("nothing was changed") });
    expect(result.output).toMatch(/^\+ +acme: .*state: stopped/m);
    expect(result.output).toMatch(/^✓ acme +stop +its sessions end/m);
    expect(file()).toBe(before);
  }
  const typed = await atTerminal("./pgs create umbrella --no-up --password", [
    ["Password: ", "Typed: pass word\r"],
    ["The same again: ", "Typed: pass word\r"],
  ]);
  expect(typed.code, typed.output).toBe(0);
  expect(typed.output).not.toContain("Typed");
  expect(await checkout.pulumi("config", "get", "--path", "pgs:passwords.umbrella")).toBe(
    "Typed: pass word\n",
  );
  checkout.write("tenants.yaml", before);
});

test("an up at a terminal asks only where a client feels it", async () => {
  const before = readFileSync(join(checkout.folder, "tenants.yaml"), "utf8");
  checkout.write(
    "tenants.yaml",
    before.replace("globex: { access: false }", "globex: { access: false, cpus: 2 }"),
  );
  const live = await atTerminal("./pgs up", []);
  expect(live.code, live.output).toBe(0);
  expect(live.output).toMatch(/✓ globex +changed .*live/);
  checkout.write("tenants.yaml", before.replace(/^ +globex.*\n/m, ""));
  const refused = await atTerminal("./pgs up", [["Remove globex (data stays)? [y/N]", "n\r"]]);
  expect(refused.code).toBe(1);
  expect(await list()).toHaveProperty("globex.state", "running");
  checkout.write("tenants.yaml", before);
  expect((await pgs(["up"])).code).toBe(0);
});

test("edits at the same time take turns, and none is lost", async () => {
  const before = readFileSync(join(checkout.folder, "tenants.yaml"), "utf8");
  const [one, other] = await Promise.all([
    pgs(["set", "acme", "cpus", "0.7"]),
    pgs(["set", "globex", "cpus", "0.8"]),
  ]);
  expect(one.code, one.output).toBe(0);
  expect(other.code, other.output).toBe(0);
  const { acme, globex } = await checkout.tenants();
  expect([acme?.cpus, globex?.cpus]).toEqual([0.7, 0.8]);
  checkout.write("tenants.yaml", before);
  expect((await pgs(["up"])).code).toBe(0);
});

test("a lock that an interrupted run left is named, and cancel removes it", async () => {
  const folder = join(checkout.folder, "state/.pulumi/locks/organization/pgs/dev");
  mkdirSync(folder, { recursive: true });
  const left = {
    pid: 2 ** 22 + 1,
    username: "somebody",
    hostname: hostname(),
    timestamp: "2026-11-23T10:00:00Z",
  };
  writeFileSync(join(folder, "0a1b2c3d-0000-4000-8000-000000000000.json"), JSON.stringify(left));
  const locked = await pgs(["up"]);
  expect(locked.code).not.toBe(0);
  expect(locked.stderr).toMatch(/locked by a run that is gone .*\.\/pgs cancel/);
  expect((await pgs(["cancel"])).code).toBe(0);
  expect((await pgs(["up"])).code).toBe(0);
});

test("other changes that wait make it a whole up, and stop of all needs a yes", async () => {
  expect((await pgs(["set", "globex", "cpus", "2", "--no-up"])).code).toBe(0);
  expect((await pgs(["stop"])).code).toBe(2);
  const stopped = await pgs(["stop", "--yes"]);
  expect(stopped.code, stopped.output).toBe(0);
  await checkout.pulumi("preview", "--expect-no-changes");
  const states = Object.values(await checkout.tenants()).map(({ state, cpus }) => `${state} ${cpus}`);
  expect(states).toEqual(["stopped 1", "stopped 2", "stopped 1"]);
  expect((await list()).acme).toMatchObject({ state: "stopped" });
});

test("a removal that was cut off goes on when it is called again", async () => {
  // As after a kill between the edit and its up.
  expect((await pgs(["remove", "initech", "--no-up"])).code).toBe(0);
  const again = await pgs(["remove", "initech"]);
  expect(again.code, again.output).toBe(0);
  expect(again.output).toContain("The data of initech stays");
  expect(Object.keys(await checkout.tenants())).toEqual(["acme", "globex"]);
});

test("doctor tells of names that do not resolve", async () => {
  await checkout.pulumi("config", "set", "pgs:domain", "pgs.invalid");
  await checkout.up();
  const { code, problems } = await diagnose("--quick");
  expect(code).toBe(1);
  expect(problems).toMatchObject([
    {
      check: "DNS",
      message: expect.stringContaining("acme.pgs.invalid"),
      advice: expect.stringContaining("*.pgs.invalid"),
    },
  ]);
});
