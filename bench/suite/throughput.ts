import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { stringify } from "yaml";
import { TraefikFile } from "../../provider/traefik-file";
import { type Checkout, freePort, runPrefix } from "../../test/e2e/support/checkout";
import { eventually, run, succeed } from "../../test/e2e/support/command";
import { addressOf } from "../../test/e2e/support/inside";
import { dockerRun } from "../support";
import type { Row } from "./row";

/** Seconds of each run of pgbench. */
const duration = 3;

const password = randomUUID();

interface Way {
  what: string;
  address: string;
  port: number;
  /** HAProxy knows no STARTTLS of PostgreSQL. */
  negotiation: "postgres" | "direct";
}

/**
 * One server that clients reach straight, by the stack's proxy, and by HAProxy: each time with TLS. It is no
 * tenant, as those can be reached by the proxy alone.
 */
export async function throughput(checkout: Checkout): Promise<Row[]> {
  const name = `${runPrefix}-pgbench`;
  const network = checkout.name("proxy");
  const host = "pgbench.pgs.localhost";
  const folder = mkdtempSync(join(tmpdir(), "pgs-throughput-"));
  const route = {
    container: checkout.name("proxy"),
    path: "/etc/traefik/dynamic/pgbench.yml",
    content: stringify({
      tcp: {
        routers: {
          pgbench: { entryPoints: ["postgres"], rule: `HostSNI(\`${host}\`)`, service: "pgbench", tls: {} },
        },
        services: { pgbench: { loadBalancer: { servers: [{ address: `${name}:5432` }] } } },
      },
    }),
  };
  let haproxy: ChildProcess | undefined;
  try {
    await certificate(folder, host);
    await dockerRun(name, "--network", network, "--cpus", "2", "--memory", "1g", "--memory-swap", "1g");
    await serveTls(name, folder);
    await TraefikFile.create(route);
    const address = await addressOf(name, network);
    const ways: Way[] = [
      { what: "straight", address, port: 5432, negotiation: "postgres" },
      { what: "straight", address, port: 5432, negotiation: "direct" },
      { what: "Traefik", address: "127.0.0.1", port: checkout.port, negotiation: "postgres" },
      { what: "Traefik", address: "127.0.0.1", port: checkout.port, negotiation: "direct" },
    ];
    const port = await freePort();
    haproxy = await startHaproxy(folder, port, host, address);
    if (haproxy) ways.push({ what: "HAProxy", address: "127.0.0.1", port, negotiation: "direct" });

    const queries = new Map<Way, number>();
    const logins = new Map<Way, number>();
    await pgbench(ways[0] as Way, host, "--initialize", "--scale", "10");
    for (const way of ways) {
      await eventually(10, () => pgbench(way, host, "--select-only", "--time", "1").then(() => {}));
      queries.set(way, await pgbench(way, host, ...select, "--protocol", "prepared"));
      logins.set(way, await pgbench(way, host, ...select, "--connect"));
    }
    return [
      ...compared("pgbench -S -M prepared, 8 clients", "queries/s", ways, queries),
      ...compared("new connections, 8 clients", "logins/s", ways, logins),
    ];
  } finally {
    haproxy?.kill();
    await TraefikFile.delete("", route).catch(() => {});
    await run("docker", ["rm", "--force", "--volumes", name]);
    rmSync(folder, { recursive: true, force: true });
  }
}

const select = ["--select-only", "--client", "8", "--jobs", "2", "--time", String(duration)];

function compared(figure: string, unit: string, ways: Way[], results: Map<Way, number>): Row[] {
  const straight = (negotiation: string) => {
    const way = ways.find((one) => one.what === "straight" && one.negotiation === negotiation);
    return (way && results.get(way)) ?? Number.NaN;
  };
  return ways
    .filter(({ what }) => what !== "straight")
    .map((way) => {
      const measured = results.get(way) ?? Number.NaN;
      const floor = straight(way.negotiation);
      return {
        figure: `${figure}, by ${way.what}, ${way.negotiation === "direct" ? "direct TLS" : "STARTTLS"}`,
        measured: `${measured.toFixed(0)} ${unit}`,
        against: `straight to the server with TLS: ${floor.toFixed(0)} ${unit}`,
        ratio: measured / floor,
        aim: way.what === "Traefik" ? "as high as Traefik gives" : "for comparison",
      };
    });
}

/** @returns transactions a second; 0 of an initialization */
async function pgbench(way: Way, host: string, ...options: string[]): Promise<number> {
  const program = join(dirname(process.env.PSQL18 ?? ""), "pgbench");
  const output = await succeed(program, [...options, "postgres"], {
    env: {
      ...process.env,
      PGHOST: host,
      PGHOSTADDR: way.address,
      PGPORT: String(way.port),
      PGUSER: "postgres",
      PGPASSWORD: password,
      PGSSLMODE: "require",
      PGSSLNEGOTIATION: way.negotiation,
      PGSSLROOTCERT: "",
    },
  });
  return Number(/^tps = ([\d.]+)/m.exec(output)?.[1] ?? 0);
}

async function certificate(folder: string, host: string): Promise<void> {
  await succeed("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"],
    ...["-subj", `/CN=${host}`, "-keyout", join(folder, "key.pem"), "-out", join(folder, "chain.pem")],
  ]);
}

async function serveTls(name: string, folder: string): Promise<void> {
  const data = "/var/lib/postgresql/18/docker";
  const put = async (file: string) =>
    succeed("docker", ["exec", "--interactive", name, "sh", "-c", `umask 077; cat >${data}/${file}`], {
      stdin: readFileSync(join(folder, file), "utf8"),
    });
  await put("chain.pem");
  await put("key.pem");
  const sql = [
    "ALTER SYSTEM SET ssl_cert_file = 'chain.pem'",
    "ALTER SYSTEM SET ssl_key_file = 'key.pem'",
    "ALTER SYSTEM SET ssl = on",
    `ALTER ROLE postgres PASSWORD '${password}'`,
    "SELECT pg_reload_conf()",
  ];
  await succeed("docker", ["exec", name, "psql", "-U", "postgres", ...sql.flatMap((one) => ["-c", one])]);
}

async function startHaproxy(
  folder: string,
  port: number,
  host: string,
  address: string,
): Promise<ChildProcess | undefined> {
  if ((await run("haproxy", ["-v"]).catch(() => ({ code: 1 }))).code !== 0) return undefined;
  const read = (file: string) => readFileSync(join(folder, file), "utf8");
  writeFileSync(join(folder, "pair.pem"), read("chain.pem") + read("key.pem"));
  // Plain text behind it, as behind Traefik.
  writeFileSync(
    join(folder, "haproxy.cfg"),
    `global
  maxconn 4096
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend postgres
  bind 127.0.0.1:${port} ssl crt ${join(folder, "pair.pem")} alpn postgresql
  use_backend server if { ssl_fc_sni ${host} }
backend server
  server one ${address}:5432
`,
  );
  return spawn("haproxy", ["-f", join(folder, "haproxy.cfg"), "-db"], { stdio: "ignore" });
}
