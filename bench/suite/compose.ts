import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { stringify } from "yaml";
import { type Checkout, freePort, runPrefix } from "../../test/e2e/support/checkout";
import { eventually, run, succeed } from "../../test/e2e/support/command";
import { dockerRun, ids, image, median, medianSeconds, seconds, tenantsFile } from "../support";
import { type Row, ratioOf } from "./row";

const runs = 3;

/** With 50 tenants there: one more, from the edit to its first login. */
export async function oneMore(checkout: Checkout): Promise<Row[]> {
  const commands: number[] = [];
  const ours = await medianSeconds(runs, async (index) => {
    const id = `t${50 + index}`;
    const create = ["create", id, "--yes"];
    commands.push(await seconds(() => succeed(join(checkout.folder, "pgs"), create, checkout.options())));
    checkout.forgetOutputs();
    await checkout.query(id, "SELECT 1");
  });
  const plain = await medianSeconds(runs, (index) => dockerRun(`${runPrefix}-plain-one-more-${index}`));
  const created = ratioOf(
    "pgs create of one tenant at 50 (median of 3)",
    median(commands),
    { what: "docker run until ready", measured: plain },
    { atMost: 3 },
  );
  checkout.write("tenants.yaml", tenantsFile(ids(50)));
  await checkout.up();
  const by = await withCompose();
  const figure = "one tenant added to 50, to its first login (median of 3)";
  if (by === undefined) {
    const against = "docker-compose is not installed (Debian's package docker-compose)";
    return [created, { figure, measured: `${ours.toFixed(2)} s`, against, aim: "≤ 1.5" }];
  }
  return [
    created,
    ratioOf(
      figure,
      ours,
      { what: "a compose file and a Traefik file rewritten, docker-compose up", measured: by },
      { atMost: 1.5 },
    ),
  ];
}

/** The same by hand: one compose file, one Traefik file. */
async function withCompose(): Promise<number | undefined> {
  if ((await run("docker-compose", ["version"]).catch(() => ({ code: 1 }))).code !== 0) return undefined;
  const folder = mkdtempSync(join(tmpdir(), "pgs-compose-"));
  const project = `${runPrefix}-compose`;
  const port = await freePort();
  const compose = (...args: string[]) =>
    succeed("docker-compose", ["-p", project, "-f", join(folder, "compose.yml"), ...args], { timeout: 900 });
  const apply = async (tenants: string[]) => {
    writeFiles(folder, tenants, project, port);
    await compose("up", "--detach", "--no-color");
  };
  try {
    mkdirSync(join(folder, "dynamic"));
    await apply(ids(50));
    await eventually(300, () => logIn("t49", port));
    return await medianSeconds(runs, async (index) => {
      await apply(ids(51 + index));
      await eventually(300, () => logIn(`t${50 + index}`, port));
    });
  } finally {
    await compose("down", "--volumes", "--timeout", "0").catch(() => {});
    rmSync(folder, { recursive: true, force: true });
  }
}

function writeFiles(folder: string, tenants: string[], project: string, port: number): void {
  const server = (id: string) => ({
    image,
    container_name: `${project}-${id}`,
    environment: { POSTGRES_PASSWORD: "for this comparison", POSTGRES_DB: id },
    volumes: [`${id}:/var/lib/postgresql`],
    mem_limit: "256m",
    cpus: 1,
    restart: "unless-stopped",
  });
  const proxy = {
    image: "traefik:v3.7.15",
    container_name: `${project}-proxy`,
    command: [
      "--entryPoints.postgres.address=:5432/tcp",
      "--providers.file.directory=/dynamic",
      "--providers.file.watch=true",
    ],
    ports: [`${port}:5432`],
    volumes: [`${join(folder, "dynamic")}:/dynamic:ro`],
  };
  const entries = <T>(of: (id: string) => T) => Object.fromEntries(tenants.map((id) => [id, of(id)]));
  writeFileSync(
    join(folder, "compose.yml"),
    stringify({
      version: "2.4",
      services: { proxy, ...entries(server) },
      volumes: entries(() => ({})),
    }),
  );
  const routers = entries((id) => ({
    entryPoints: ["postgres"],
    rule: `HostSNI(\`${id}.pgs.localhost\`)`,
    service: id,
    tls: {},
  }));
  const services = entries((id) => ({
    loadBalancer: { servers: [{ address: `${project}-${id}:5432` }] },
  }));
  writeFileSync(join(folder, "dynamic", "tenants.yml"), stringify({ tcp: { routers, services } }));
}

async function logIn(id: string, port: number): Promise<void> {
  const client = new Client({
    host: "127.0.0.1",
    port,
    user: "postgres",
    password: "for this comparison",
    database: id,
    connectionTimeoutMillis: 2000,
    ssl: { servername: `${id}.pgs.localhost`, rejectUnauthorized: false },
  });
  client.on("error", () => {});
  await client.connect();
  await client.query("SELECT 1");
  await client.end();
}
