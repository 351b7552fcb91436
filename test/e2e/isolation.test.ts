import { type AddressInfo, createServer, type Server } from "node:net";
import { Client, type DatabaseError } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Checkout, freePort } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { addressOf, bySql, connectTo, inContainer, inspect, inspectNetworks } from "./support/inside";
import { login, psql } from "./support/psql";

const tenants = "defaults: { memory: 128Mi }\ntenants: { acme: {}, globex: {} }\n";

let checkout: Checkout;
let image: string;
/** A network of somebody else on the same host, with a container that listens on port 7777. */
let outside: { network: string; container: string; address: string; gateway: string };
/** A service of the host itself, on all its addresses. */
let service: Server;
let servicePort: number;

beforeAll(async () => {
  checkout = await Checkout.create(tenants);
  await checkout.up();
  await checkout.query("acme", "CREATE TABLE kept AS SELECT 42 AS answer");
  image = (await succeed("docker", ["inspect", "--format", "{{.Image}}", checkout.name("acme")])).trim();
  service = createServer((socket) => socket.end());
  await new Promise<void>((resolve) => service.listen(0, "0.0.0.0", resolve));
  servicePort = (service.address() as AddressInfo).port;
  outside = await listenOutside();
});
afterAll(async () => {
  service?.close();
  await checkout?.remove();
});

async function listenOutside() {
  const network = checkout.name("outside");
  const container = checkout.name("listener");
  await succeed("docker", ["network", "create", network]);
  const listen = ["--entryPoints.web.address=:7777", "--ping=true"];
  const proxy = await succeed("docker", ["inspect", "--format", "{{.Image}}", checkout.name("proxy")]);
  await succeed("docker", ["run", "-d", "--name", container, "--network", network, proxy.trim(), ...listen]);
  const [info] = await inspectNetworks([network]);
  const gateway = info?.IPAM.Config[0]?.Gateway ?? "";
  return { network, container, address: await addressOf(container, network), gateway };
}

/** A container without any of a tenant's restrictions, on the outside network. */
const outsider = async (script: string) =>
  (await run("docker", ["run", "--rm", "--network", outside.network, image, "bash", "-c", script])).output;

const ways = {
  "by docker exec": (script: string) => inContainer(checkout, "acme", script),
  "by COPY … FROM PROGRAM": (script: string) => bySql(checkout, "acme", script),
};

const all = (targets: string[], state: "open" | "closed") =>
  Object.fromEntries(targets.map((target) => [target, state]));

/** Other tenants' servers, somebody else's container, and the host by every address that it has. */
async function forbidden(globexNetwork: string): Promise<string[]> {
  const globex = checkout.name("globex");
  const own = await inspectNetworks([await networkOf("acme")]);
  const hosts = [firstAddress(own[0]?.IPAM.Config[0]?.Subnet ?? ""), outside.gateway];
  return [
    `${globex}:5432`,
    `${await addressOf(globex, globexNetwork)}:5432`,
    `${await addressOf(checkout.name("proxy"), globexNetwork)}:5432`,
    `${outside.container}:7777`,
    `${outside.address}:7777`,
    ...hosts.flatMap((host) => [`${host}:${servicePort}`, `${host}:${checkout.port}`]),
  ];
}

/** Where Docker puts the host in a subnet. */
const firstAddress = (subnet: string) => subnet.replace(/\.(\d+)\/\d+$/, (_, last) => `.${Number(last) + 1}`);

const networkOf = async (id: string) =>
  Object.keys((await inspect(checkout.name(id))).NetworkSettings.Networks)[0] ?? "";

/** Which gateway a container's default route goes to, as an address. */
async function defaultGateway(container: string): Promise<string> {
  const routes = await succeed("docker", ["exec", container, "cat", "/proc/net/route"]);
  const hex = /^\S+\t00000000\t([0-9A-F]{8})/m.exec(routes)?.[1] ?? "";
  return [6, 4, 2, 0].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)).join(".");
}

/** Logs in anew all the time, at any of the ports, until told to stop. @returns the longest time without, in ms */
async function watchLogins(id: string, ports: number[]) {
  const config = await checkout.clientConfig(id);
  const logIn = async (port: number) => {
    const client = new Client({ ...config, port, connectionTimeoutMillis: 1000 });
    client.on("error", () => {});
    await client.connect().finally(() => client.end());
  };
  let longest = 0;
  let last = performance.now();
  let watching = true;
  const watched = (async () => {
    while (watching) {
      const attempt = Promise.any(ports.map(logIn));
      if (await attempt.then(() => true).catch(() => false)) {
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return Math.round(longest);
  })();
  return () => {
    watching = false;
    return watched;
  };
}

describe("a network for each tenant", () => {
  test("what a tenant may not reach can be reached from elsewhere on this host", async () => {
    const reachable = [
      `${outside.address}:7777`,
      `${outside.gateway}:${servicePort}`,
      `${outside.gateway}:${checkout.port}`,
    ];
    expect(await connectTo(outsider, reachable)).toEqual(all(reachable, "open"));
  });

  test.each(Object.entries(ways))("a tenant reaches its own server and the proxy, %s", async (_, shell) => {
    const own = ["127.0.0.1:5432", `${checkout.name("proxy")}:5432`];
    expect(await connectTo(shell, own)).toEqual(all(own, "open"));
  });

  test.each(Object.entries(ways))(
    "a tenant reaches no other tenant, no other container and not the host, %s",
    async (_, shell) => {
      const targets = await forbidden(checkout.name("globex"));
      expect(await connectTo(shell, targets)).toEqual(all(targets, "closed"));
    },
  );

  test("nobody is at the address of its default route, so that no packet gets out", async () => {
    const gateway = await defaultGateway(checkout.name("acme"));
    const names = [checkout.name("acme"), outside.network];
    const [own, other] = await inspectNetworks(names);
    expect(own?.Internal).toBe(true);
    const hostAddresses = await succeed("cat", ["/proc/net/fib_trie"]);
    expect(hostAddresses).toContain(`-- ${other?.IPAM.Config[0]?.Gateway}\n`);
    expect(hostAddresses).not.toContain(`-- ${firstAddress(own?.IPAM.Config[0]?.Subnet ?? "")}\n`);
    if (gateway) expect(hostAddresses).not.toContain(`-- ${gateway}\n`);
  });

  test.each(Object.entries(ways))(
    "names of other tenants, of their networks and of other containers do not resolve, %s",
    async (_, shell) => {
      const resolve = async (name: string) => (await shell(`timeout 20 getent hosts ${name} || true`)).trim();
      expect(await resolve(checkout.name("acme"))).not.toBe("");
      expect(await resolve(checkout.name("proxy"))).not.toBe("");
      const others = [checkout.name("globex"), `${checkout.name("globex")}.${checkout.name("globex")}`];
      for (const name of [...others, outside.container]) expect(await resolve(name)).toBe("");
    },
  );

  test("dblink and postgres_fdw reach the tenant's own server, and nothing that it may not reach", async () => {
    const targets = await forbidden(checkout.name("globex"));
    await checkout.query("acme", "CREATE EXTENSION dblink; CREATE EXTENSION postgres_fdw");
    const own = "127.0.0.1:5432";
    const fetch = async (target: string, sql: (host: string, port: string) => string) => {
      const [host = "", port = ""] = target.split(":");
      return checkout.query("acme", sql(host, port)).then(
        ([row]) => String(row?.answer),
        // What libpq says.
        ({ message, detail }: DatabaseError) => detail ?? message,
      );
    };
    const dblink = (host: string, port: string) =>
      `SELECT * FROM dblink('host=${host} port=${port} user=postgres dbname=acme connect_timeout=4',
        'SELECT answer FROM kept') AS (answer int)`;
    const foreign = (host: string, port: string) => {
      const name = `"${host}:${port}"`;
      return `CREATE SERVER ${name} FOREIGN DATA WRAPPER postgres_fdw
          OPTIONS (host '${host}', port '${port}', dbname 'acme', connect_timeout '4');
        CREATE USER MAPPING FOR postgres SERVER ${name} OPTIONS (user 'postgres', password_required 'false');
        CREATE FOREIGN TABLE ${name} (answer int) SERVER ${name} OPTIONS (table_name 'kept');
        SELECT * FROM ${name}`;
    };
    for (const sql of [dblink, foreign]) {
      expect(await fetch(own, sql)).toBe("42");
      for (const answer of await Promise.all(targets.map((target) => fetch(target, sql)))) {
        expect(answer).toMatch(
          /could not translate host name|failed: (timeout expired|Connection refused|No route to host|Network is unreachable)/,
        );
      }
    }
  });

  test("no name server outside is asked: its addresses are not in the container", async () => {
    const { HostConfig } = await inspect(checkout.name("acme"));
    expect(HostConfig.Dns).toEqual(["0.0.0.0"]);
    const config = await inContainer(checkout, "acme", "cat /etc/resolv.conf");
    expect(config.match(/^nameserver .*/gm)).toEqual(["nameserver 127.0.0.11"]);
  });

  test.each(Object.entries(ways))(
    "through the proxy's address in its own network no tenant is routed, with the right name and password, %s",
    async (_, shell) => {
      const proxy = await addressOf(checkout.name("proxy"), checkout.name("acme"));
      for (const id of ["globex", "acme"]) {
        const from = (hostaddr: string) =>
          `PGPASSWORD=${password} psql "host=${id}.pgs.localhost hostaddr=${hostaddr} dbname=${id} user=postgres sslmode=require connect_timeout=8" -XAtc 'SELECT current_database()'`;
        const password = await checkout.password(id);
        expect(await shell(from(proxy))).toMatch(/unexpected eof|closed the connection/);
        const script = from(outside.gateway).replace("dbname", `port=${checkout.port} dbname`);
        expect(await outsider(script)).toBe(`${id}\n`);
      }
    },
  );

  test("only the proxy publishes a port, and that is the only one of its own that tenants see", async () => {
    for (const id of ["acme", "globex"]) {
      const { Ports } = (await inspect(checkout.name(id))).NetworkSettings;
      expect(Object.values(Ports).filter(Boolean)).toEqual([]);
    }
    const { Ports } = (await inspect(checkout.name("proxy"))).NetworkSettings;
    const published = Object.entries(Ports).filter(([, hosts]) => hosts !== null);
    expect(published.map(([port, hosts]) => [port, hosts?.[0]?.HostPort])).toEqual([
      ["5432/tcp", String(checkout.port)],
    ]);
    const others = [80, 8080].map((port) => `${checkout.name("proxy")}:${port}`);
    expect(await connectTo(ways["by docker exec"], others)).toEqual(all(others, "closed"));
  });

  test("answers to clients leave the proxy by its own network, also after it was restarted", async () => {
    const [own] = await inspectNetworks([checkout.name("proxy")]);
    const gateway = own?.IPAM.Config[0]?.Gateway;
    expect(await defaultGateway(checkout.name("proxy"))).toBe(gateway);
    await succeed("docker", ["restart", checkout.name("proxy")]);
    await eventually(90, () => checkout.query("acme", "SELECT 1").then(() => {}));
    expect(await defaultGateway(checkout.name("proxy"))).toBe(gateway);
  });

  test("a proxy that is replaced is attached to every tenant by the same up", async () => {
    const before = await inspect(checkout.name("proxy"));
    const port = await freePort();
    const stop = await watchLogins("acme", [checkout.port, port]);
    await checkout.pulumi("config", "set", "port", String(port));
    await checkout.up();
    checkout.port = port;
    await checkout.query("acme", "SELECT 1");
    await checkout.query("globex", "SELECT 1");
    console.log(`proxy replaced by an up: no login for ${await stop()} ms`);
    expect((await inspect(checkout.name("proxy"))).Id).not.toBe(before.Id);
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  test("one that was removed by hand too, at its old address, whatever took addresses in the meantime", async () => {
    const network = checkout.name("acme");
    const address = await addressOf(checkout.name("proxy"), network);
    await succeed("docker", ["rm", "--force", checkout.name("proxy")]);
    // All that the engine gives out of itself.
    for (let index = 0; index < 6; index++) {
      const name = checkout.name(`filler-${index}`);
      await run("docker", ["run", "-d", "--name", name, "--network", network, image, "sleep", "600"]);
    }
    const started = performance.now();
    await checkout.up();
    await checkout.query("acme", "SELECT 1");
    await checkout.query("globex", "SELECT 1");
    const seconds = (performance.now() - started) / 1000;
    console.log(
      `proxy removed by hand: ${seconds.toFixed(1)} s from the up's start until both tenants log in`,
    );
    expect(await addressOf(checkout.name("proxy"), network)).toBe(address);
    for (let index = 0; index < 6; index++)
      await run("docker", ["rm", "-f", "-v", checkout.name(`filler-${index}`)]);
  });

  test("a range that does not contain the networks there are is refused before anything changes", async () => {
    await checkout.pulumi("config", "set", "tenantSubnets", "10.214.0.0/16");
    const refused = await checkout.tryPulumi("preview");
    await checkout.pulumi("config", "rm", "tenantSubnets");
    expect(refused.code).not.toBe(0);
    expect(refused.output).toMatch(
      /there are networks in 10\.213\.0\.0\/16, which pgs:tenantSubnets 10\.214\.0\.0\/16 does not contain/,
    );
  });
});

describe("one network for all, set on a stack that has data", () => {
  const shared = () => checkout.name("-tenants");

  beforeAll(async () => {
    await checkout.pulumi("config", "set", "isolation", "shared");
    const stop = await watchLogins("acme", [checkout.port]);
    await checkout.up();
    await checkout.query("acme", "SELECT 1");
    console.log(`network -> shared: no login for ${await stop()} ms`);
  });

  test("the data is there, and logins through the proxy work", async () => {
    expect(await checkout.query("acme", "SELECT answer FROM kept")).toEqual([{ answer: 42 }]);
    expect((await login(checkout, psql[18], "globex")).stdout).toBe("globex\n");
    expect(await networkOf("acme")).toBe(shared());
    expect(await networkOf("globex")).toBe(shared());
  });

  test("the tenants' own networks are gone", async () => {
    const names = (await succeed("docker", ["network", "ls", "--format", "{{.Name}}"])).split("\n");
    expect(names).toContain(shared());
    expect(names).not.toContain(checkout.name("acme"));
    expect(names).not.toContain(checkout.name("globex"));
  });

  test.each(Object.entries(ways))(
    "one server refuses another tenant with the right password, %s",
    async (_, shell) => {
      const password = await checkout.password("globex");
      const answer = await shell(
        `PGPASSWORD=${password} psql "host=${checkout.name("globex")} dbname=globex user=postgres" -XAtc 'SELECT 1'`,
      );
      expect(answer).toMatch(/FATAL: +no pg_hba\.conf entry for host "10\.213\./);
    },
  );

  test.each(Object.entries(ways))(
    "through the proxy's address no tenant is routed, and other containers and the host are out of reach, %s",
    async (_, shell) => {
      const password = await checkout.password("globex");
      const answer = await shell(
        `PGPASSWORD=${password} psql "host=globex.pgs.localhost hostaddr=${await addressOf(checkout.name("proxy"), shared())} dbname=globex user=postgres sslmode=require" -XAtc 'SELECT 1'`,
      );
      expect(answer).toMatch(/unexpected eof|closed the connection/);
      const targets = (await forbidden(shared())).slice(3);
      expect(await connectTo(shell, targets)).toEqual(all(targets, "closed"));
    },
  );

  test("nothing is left to change, also after a refresh", async () => {
    // It changes nothing in the state, so that the preview after it says what one before it would.
    await checkout.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes");
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  test("a proxy that was removed is admitted again, at the same address", async () => {
    const address = await addressOf(checkout.name("proxy"), shared());
    await succeed("docker", ["rm", "--force", checkout.name("proxy")]);
    await checkout.up();
    expect(await addressOf(checkout.name("proxy"), shared())).toBe(address);
    await checkout.query("acme", "SELECT 1");
    await checkout.query("globex", "SELECT 1");
  });

  test("back to a network for each, the data is there and servers let in whom their network holds", async () => {
    await checkout.pulumi("config", "rm", "isolation");
    await checkout.up();
    expect(await checkout.query("acme", "SELECT answer FROM kept")).toEqual([{ answer: 42 }]);
    expect((await login(checkout, psql[18], "globex")).stdout).toBe("globex\n");
    expect(await networkOf("acme")).toBe(checkout.name("acme"));
    await checkout.pulumi("preview", "--expect-no-changes");
    const networks = (await succeed("docker", ["network", "ls", "--format", "{{.Name}}"])).split("\n");
    expect(networks).not.toContain(shared());
    const targets = await forbidden(checkout.name("globex"));
    expect(await connectTo(ways["by docker exec"], targets)).toEqual(all(targets, "closed"));
  });
});
