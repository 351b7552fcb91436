import type { Client, ClientConfig } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { Checkout, connect } from "./support/checkout";
import { TestCluster } from "./support/cluster";
import { eventually, type Result, run } from "./support/command";

let cluster: TestCluster;
let checkout: Checkout;

/** One of each: hooli is no superuser. */
function file(acme: object): string {
  return stringify({
    defaults: { memory: "256Mi", cpus: 0.3, disk: "1Gi" },
    tenants: { acme, hooli: { superuser: "off", extensions: ["pg_stat_statements"] } },
  });
}

beforeAll(async () => {
  cluster = await TestCluster.start();
  checkout = await Checkout.create(file({}), cluster.config);
  await pgs("up", "--yes");
}, 1_900_000);
afterAll(async () => {
  await cluster?.remove(checkout);
  await checkout?.remove();
}, 300_000);

describe("dump and load", () => {
  test("carry a database over, in pg_dump's format and as packed SQL, into an empty one alone", async () => {
    // Of more than what the cluster's API passes on at once.
    await sql(
      "acme",
      "CREATE TABLE written AS SELECT n, md5(n::text) AS text FROM generate_series(1, 200000) AS n",
    );
    for (const [dump, file] of [
      ["dump acme", "acme.dump"],
      ["dump acme --plain -- --no-owner --no-privileges | gzip", "acme.sql.gz"],
    ]) {
      const dumped = await shell(`./pgs ${dump} > ${file}`);
      expect(dumped.code, dumped.output).toBe(0);
      expect(dumped.stderr).toMatch(/^acme: dumped \S+Mi, .*in \S+ s\n$/);
      const load = file?.endsWith(".dump") ? "load hooli -- --no-owner --no-privileges" : "load hooli";
      const loaded = await shell(`./pgs ${load} < ${file}`);
      expect(loaded.code, loaded.output).toBe(0);
      expect(await sql("hooli", contents)).toBe(await sql("acme", contents));
      const again = await shell(`./pgs ${load} < ${file}`);
      expect(again.code).toBe(2);
      expect(again.stderr).toContain("the database of hooli has tables already");
      await sql("hooli", "DROP TABLE written");
    }
  });

  test("that are cut off fail, and load nothing", async () => {
    for (const file of ["acme.dump", "acme.sql.gz"]) {
      const half = `$(($(stat -c %s ${file}) / 2))`;
      const cut = await shell(`head -c ${half} ${file} | ./pgs load hooli -- --no-owner`);
      expect(cut.code, cut.output).not.toBe(0);
      expect(cut.stderr).toContain("nothing was loaded");
    }
    const killed = await shell(
      `mkfifo cut; ./pgs load hooli < cut & load=$!; exec 3>cut; zcat acme.sql.gz | head -c 2000000 >&3
      running="${cluster.shellKubectl} -n ${checkout.name("hooli")} get pods -l pgs.role=client --field-selector status.phase=Running -o name"
      until [ "$($running)" ]; do sleep 1; done
      sleep 5; kill -KILL $load`,
    );
    expect(killed.code, killed.output).toBe(0);
    // What is left of it ends by itself.
    await eventually(240, async () => expect(await clientPods("hooli", "Running")).toEqual([]));
    expect(await sql("hooli", "SELECT to_regclass('written') IS NULL")).toBe("t");
  }, 900_000);

  test("report what the server says, and end with the program's code", async () => {
    const failed = await shell(
      "printf 'SELECT 1;\\nCREATE TABLE one ();\\nSELECT 1/0;\\n' | ./pgs load hooli",
    );
    expect(failed.code).toBe(3);
    expect(failed.stderr).toContain("psql:<stdin>:3: ERROR:  division by zero");
    expect(await sql("hooli", "SELECT to_regclass('one') IS NULL")).toBe("t");
    const unread = await shell("./pgs dump acme | head -c 1000 > start; exit $PIPESTATUS");
    expect(unread.code).not.toBe(0);
    expect(unread.stderr).toContain("no whole dump");
  });

  test("run what is in a script where neither the server's files nor its superuser are, and leave no pod", async () => {
    const script =
      "\\\\! ls /var/lib/postgresql/data /controller /var/run/secrets >&2; psql -h /controller/run -U postgres >&2\n";
    const { stderr } = await shell(`printf '${script}' | ./pgs load hooli`);
    for (const place of ["/controller", "/var/run/secrets"]) {
      expect(stderr).toMatch(new RegExp(`cannot access '${place}': No such file`));
    }
    expect(stderr).not.toContain("pgdata");
    expect(stderr).toMatch(/socket "\/controller\/run\/.*failed: No such file/);
    // Those of the killed command went with the next one.
    await eventually(60, async () => expect(await clientPods("hooli")).toEqual([]));
    expect(await clientPods("acme")).toEqual([]);
  });

  test("are refused for a tenant without access", async () => {
    await pgs("disable-access", "hooli", "--yes");
    const { code, stderr } = await checkout.pgs(["dump", "hooli"]);
    expect(code).toBe(1);
    expect(stderr).toContain("hooli has no route: ./pgs enable-access hooli");
  });
});

describe("top and extensions", () => {
  test("show a session that works, and end it, of a tenant that is a superuser", async () => {
    const sleeping = run("./pgs", ["load", "acme", "--into-existing"], {
      cwd: checkout.folder,
      env: checkout.env,
      stdin: "SELECT pg_sleep(600);\n",
      timeout: 300,
    });
    let pid = 0;
    await eventually(120, async () => {
      const { sessions } = JSON.parse(await pgs("top", "acme", "--json"));
      pid = sessions.find(({ query }: { query: string }) => query.includes("pg_sleep"))?.pid;
      expect(pid).toBeGreaterThan(0);
    });
    expect(await pgs("top", "acme", "--cancel", String(pid))).toContain(`session ${pid} is cancelled`);
    const { code, stderr } = await sleeping;
    expect(code).not.toBe(0);
    expect(stderr).toContain("canceling statement due to user request");
  });

  test("ask as the tenant where it is no superuser, with the route closed too", async () => {
    await sql("hooli", "SELECT 4711 AS counted");
    const { statements } = JSON.parse(await pgs("top", "hooli", "--json"));
    // Its own alone: those of others have no text for it.
    const roles = statements.map(({ role }: { role: string }) => role);
    expect(roles).toContain("hooli");
    expect(await pgs("extensions", "hooli")).toMatch(/^pg_stat_statements +\S+ +\S+ +installed/m);
  });
});

describe("a pooler", () => {
  test("takes more clients than it has connections, which verify its name", async () => {
    checkout.write("tenants.yaml", file({ pooler: { size: 2 } }));
    await pgs("up", "--yes");
    const summary = (await checkout.tenants()).acme;
    expect(summary?.pooler).toBe("acme-pooler.pgs.localhost");
    expect(new URL((await pgs("url", "acme", "--pooler")).trim()).hostname).toBe(summary?.pooler);
    const clients = await Promise.all(Array.from({ length: 6 }, () => pooled()));
    const pids = await Promise.all(clients.map(pidOf));
    expect(new Set(pids).size).toBeLessThanOrEqual(2);
    await Promise.all(clients.map((client) => client.end()));
    await expect(pooled({ password: "wrong" })).rejects.toThrow(/authentication failed/);
    await checkout.pulumi("preview", "--refresh", "--expect-no-changes");
  }, 900_000);

  test("has another mode without a client's loss", async () => {
    const [one, other] = [await pooled(), await pooled()];
    // In transaction mode, the connection that one has left is the other's.
    expect(await pidOf(one)).toBe(await pidOf(other));
    expect(await pgs("set", "acme", "pooler.mode", "session", "--yes")).toMatch(/acme +changed .* live/);
    const later = await eventually(240, async () => {
      const client = await pooled();
      const pid = await pidOf(client);
      const second = await pooled();
      try {
        expect(await pidOf(second)).not.toBe(pid);
      } finally {
        await Promise.all([client.end(), second.end()]);
      }
      return pid;
    });
    expect(later).toBeGreaterThan(0);
    expect(await pidOf(one)).toBeGreaterThan(0);
    await Promise.all([one.end(), other.end()]);
  }, 900_000);

  test("ends the sessions of clients whose address is no longer allowed, or whose tenant is closed", async () => {
    const cutOff = async (...edit: string[]) => {
      const client = await pooled();
      const gone = new Promise<void>((resolve) => client.on("end", resolve));
      await pgs(...edit, "--yes");
      await gone;
    };
    await cutOff("set", "acme", "allow", "[192.0.2.0/24]");
    await expect(pooled()).rejects.toThrow();
    await pgs("set", "acme", "allow", "[0.0.0.0/0]", "--yes");
    await cutOff("disable-access", "acme");
    expect(await cluster.kubectl("-n", checkout.name("acme"), "get", "poolers", "-o", "name")).toBe("");
  }, 1_200_000);
});

/** A client that comes by the pooler, and verifies its certificate. */
async function pooled(options: ClientConfig = {}): Promise<Client> {
  const config = await checkout.clientConfig("acme");
  const ssl = { ...Object(config.ssl), servername: "acme-pooler.pgs.localhost" };
  // The proxy's port is one of the node that it runs on.
  const place = ["get", "pods", "-o", "jsonpath={.items[0].status.hostIP}"];
  const host = await cluster.kubectl("-n", `${checkout.prefix}-proxy`, ...place);
  return connect({ ...config, host, ssl, connectionTimeoutMillis: 60_000, ...options });
}

/** Of the session in the server that its next transaction has. */
async function pidOf(client: Client): Promise<number> {
  return (await client.query("SELECT pg_backend_pid() AS pid, pg_sleep(0.2)")).rows[0].pid;
}

const contents = "SELECT count(*), sum(n), md5(string_agg(text, ',' ORDER BY n)) FROM written";

/** By the superuser, in the primary's pod. */
async function sql(id: string, statement: string): Promise<string> {
  const psql = ["psql", "--no-psqlrc", "-qAtc", statement, id];
  return (
    await cluster.kubectl("-n", checkout.name(id), "exec", `${id}-1`, "-c", "postgres", "--", ...psql)
  ).trim();
}

async function clientPods(id: string, phase?: string): Promise<string[]> {
  const selected = phase ? [`--field-selector=status.phase=${phase}`] : [];
  const args = ["-n", checkout.name(id), "get", "pods", "-l", "pgs.role=client", "-o", "name", ...selected];
  return (await cluster.kubectl(...args)).split("\n").filter(Boolean);
}

const pgs = (...args: string[]) => checkout.succeedPgs(...args);

function shell(line: string): Promise<Result> {
  return run("bash", ["-c", line], { cwd: checkout.folder, env: checkout.env, timeout: 300 });
}
