import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Checkout, removeLeftovers, runPrefix } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";

const image = "postgres:18.6-bookworm";
const project = `${runPrefix}-old-app`;
const volumes = { acme: `${project}_acme-data`, globex: `${runPrefix}-old-globex` };
const passwords = { acme: "Old+pass/word=1", globex: "of globex, with spaces" };

const compose = `
name: ${project}
x-postgres: &postgres
  image: ${image}
  restart: always
services:
  traefik:
    image: traefik:v3
    ports: ["5432:5432"]
  acme-db:
    <<: *postgres
    environment:
      - POSTGRES_DB=acme
      - POSTGRES_PASSWORD=\${ACME_PASSWORD:?}
      # As images up to 17 have it.
      - PGDATA=/var/lib/postgresql/data
    command: postgres -c max_connections=40
    volumes: ["acme-data:/var/lib/postgresql/data"]
    mem_limit: 256m
    labels: ["traefik.tcp.routers.acme.rule=HostSNI(\`customer-1.pgs.example.com\`)"]
  globex:
    <<: *postgres
    environment: { POSTGRES_DB: globex, POSTGRES_PASSWORD: "${passwords.globex}" }
    volumes:
      - { type: volume, source: globex, target: /var/lib/postgresql }
    deploy: { resources: { limits: { memory: 256M, cpus: "0.5" } } }
volumes:
  acme-data:
  globex: { external: true, name: ${volumes.globex} }
`;

let checkout: Checkout;
const old = (id: "acme" | "globex") => `${project}-${id}-1`;
const docker = (...args: string[]) => succeed("docker", args);
const psql = (id: "acme" | "globex", sql: string) =>
  docker("exec", old(id), "psql", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", id, "-Atc", sql);
const file = () => readFileSync(join(checkout.folder, "tenants.yaml"), "utf8");
const imported = (args: string[], env: NodeJS.ProcessEnv = {}) => {
  checkout.forgetOutputs();
  const options = checkout.options();
  return run("../pgs", ["import", ...args], {
    ...options,
    cwd: join(checkout.folder, "old"),
    env: { ...options.env, ...env },
  });
};

/** What `docker compose up` would make of the file. */
async function startOld(id: "acme" | "globex", ...args: string[]): Promise<void> {
  const password = `POSTGRES_PASSWORD=${passwords[id]}`;
  await docker(
    "run",
    "--detach",
    "--name",
    old(id),
    "--restart",
    "always",
    "--env",
    password,
    ...args,
    image,
  );
}

beforeAll(async () => {
  checkout = await Checkout.create("# Ours.\ntenants: {}\n");
  checkout.write("old/compose.yml", compose);
  checkout.write("old/.env", `ACME_PASSWORD='${passwords.acme}'\n`);
  checkout.write("old/wrong.yml", compose.replace(passwords.globex, "another"));
  await Promise.all([
    startOld(
      "acme",
      "--env",
      "POSTGRES_DB=acme",
      "--env",
      "PGDATA=/var/lib/postgresql/data",
      "--volume",
      `${volumes.acme}:/var/lib/postgresql/data`,
    ),
    startOld("globex", "--env", "POSTGRES_DB=globex", "--volume", `${volumes.globex}:/var/lib/postgresql`),
  ]);
  for (const id of ["acme", "globex"] as const) {
    await eventually(120, async () => {
      await docker("exec", old(id), "pg_isready", "-q", "-h", "127.0.0.1");
    });
    await psql(id, `CREATE TABLE kept AS SELECT '${id}' AS tenant, generate_series(1, 1000) AS n`);
  }
});
afterAll(async () => {
  await checkout?.remove();
  await removeLeftovers(`${runPrefix}-old`);
});

const inVolume = (volume: string, script: string) =>
  docker(
    "run",
    "--rm",
    "--user",
    "0",
    "--volume",
    `${volume}:/volume`,
    "--workdir",
    "/volume",
    "--entrypoint",
    "sh",
    image,
    "-euc",
    script,
  );

/** Both old servers run on, and nothing says otherwise. */
async function expectUntouched(): Promise<void> {
  expect(file()).toBe("# Ours.\ntenants: {}\n");
  for (const id of ["acme", "globex"] as const)
    expect(await psql(id, "SELECT count(*) FROM kept")).toBe("1000\n");
  expect(await inVolume(volumes.acme, "ls -A")).toMatch(/^PG_VERSION$/m);
}

test("a dry run says what would be done, without a password, and changes nothing", async () => {
  const result = await imported(["compose.yml", "--dry-run"]);
  expect(result.code, result.output).toBe(0);
  expect(result.stdout).toContain("traefik: left alone; its image is traefik:v3");
  expect(result.stdout).toContain(`acme-db: becomes the tenant acme
  volume    ${volumes.acme}; the data moves within it, from . to 18/docker
  password  as it is
  limits    256 MiB, 1 CPU
  stops     ${old("acme")}; they stay`);
  expect(result.stdout).toContain(`volume    ${volumes.globex}; the data stays where it is`);
  expect(result.stdout).toContain(
    '+    hostname: customer-1\n+    memory: 256Mi\n+    settings:\n+      max_connections: "40"',
  );
  for (const password of Object.values(passwords)) expect(result.output).not.toContain(password);
  await expectUntouched();
});

test.each([
  [["compose.yml"], /needs --yes/],
  [
    ["wrong.yml", "--yes"],
    /globex: the POSTGRES_PASSWORD that the compose file has is not that of its role postgres/,
  ],
  [["missing.yml", "--yes"], /missing\.yml: ENOENT/],
])("%s is refused, and nothing is changed", async (args, message) => {
  const result = await imported(args);
  expect(result.code).toBe(2);
  expect(result.stderr).toMatch(message);
  await expectUntouched();
});

test("a server that lets clients in without a password, or has no such database, is refused", async () => {
  const hba = "/var/lib/postgresql/18/docker/pg_hba.conf";
  await docker(
    "exec",
    old("globex"),
    "sh",
    "-c",
    `cp ${hba} /tmp/hba; echo 'host all all 10.0.0.0/8 trust' >>${hba}`,
  );
  checkout.write("old/renamed.yml", compose.replace("POSTGRES_DB=acme", "POSTGRES_DB=acme_prod"));
  const result = await imported(["renamed.yml", "--yes"]);
  await docker("exec", old("globex"), "sh", "-c", `cat /tmp/hba >${hba}`);
  expect(result.code).toBe(2);
  expect(result.stderr).toContain("acme-db: it has no database acme_prod");
  expect(result.stderr).toContain("globex: its pg_hba.conf lets clients in otherwise");
  await expectUntouched();
});

test("killed as soon as the first server's data was moved, it goes on when it is run again", async () => {
  mkdirSync(join(checkout.folder, "bin"));
  const shim = `#!/bin/bash
/usr/bin/env -S PATH="\${PATH#*:}" docker "$@"; code=$?
[[ "$*" != *pg_controldata* ]] || kill -9 $PPID
exit $code
`;
  writeFileSync(join(checkout.folder, "bin", "docker"), shim, { mode: 0o755 });
  const killed = await imported(["compose.yml", "--yes"], {
    PATH: `${join(checkout.folder, "bin")}:${checkout.env.PATH}`,
  });
  expect(killed.code).not.toBe(0);
  expect(file()).toBe("# Ours.\ntenants: {}\n");
  // As if it had been killed in the middle of the move.
  await inVolume(
    volumes.acme,
    "mv 18/docker 18/docker.moving; mv 18/docker.moving/base 18/docker.moving/global .",
  );

  const again = await imported(["compose.yml", "--yes"]);
  expect(again.code, again.output).toBe(0);
  for (const password of Object.values(passwords)) expect(again.output).not.toContain(password);
});

test("the tenants have their rows, their passwords, their names and limits, and nothing is left to do", async () => {
  for (const id of ["acme", "globex"] as const) {
    expect(await checkout.password(id)).toBe(passwords[id]);
    expect(await checkout.query(id, "SELECT count(*)::int AS n, min(tenant) AS tenant FROM kept")).toEqual([
      { n: 1000, tenant: id },
    ]);
  }
  expect((await checkout.tenants()).acme).toMatchObject({
    host: "customer-1.pgs.localhost",
    memory: 256 * 1024 ** 2,
  });
  expect(await checkout.query("acme", "SHOW max_connections")).toEqual([{ max_connections: "40" }]);
  await checkout.pulumi("preview", "--expect-no-changes");
});

test("the old containers are there, stopped for good; one that is started finds no data to run on", async () => {
  for (const id of ["acme", "globex"] as const) {
    const format = "{{.State.Status}} {{.State.ExitCode}} {{.HostConfig.RestartPolicy.Name}}";
    expect(await docker("inspect", "--format", format, old(id))).toBe("exited 0 no\n");
  }
  await docker("start", old("acme"));
  await eventually(60, async () => {
    expect(await docker("inspect", "--format", "{{.State.Running}}", old("acme"))).toBe("false\n");
  });
  expect(await checkout.query("acme", "SELECT count(*)::int AS n FROM kept")).toEqual([{ n: 1000 }]);
});

test("run again it finds nothing to do", async () => {
  const result = await imported(["compose.yml", "--yes", "--no-up"]);
  expect(result.code, result.output).toBe(0);
  expect(result.stdout).toContain(`acme-db: is a tenant already; its volume is ${volumes.acme}`);
});

test("another volume cannot be written into the entry", async () => {
  const text = file();
  checkout.write("tenants.yaml", text.replace(volumes.acme, `${volumes.acme}2`));
  const preview = await checkout.tryPulumi("preview");
  checkout.write("tenants.yaml", text);
  expect(preview.code).not.toBe(0);
  expect(preview.output).toContain(
    `the tenant's data is in the volume ${volumes.acme}, and an edit cannot change that`,
  );
});

test("destroy leaves the volumes, and an up takes them up again", async () => {
  await checkout.pulumi("destroy", "--yes", "--skip-preview");
  const names = (await docker("volume", "ls", "--format", "{{.Name}}")).split("\n");
  for (const volume of Object.values(volumes)) expect(names).toContain(volume);
  await checkout.up();
  expect(await checkout.query("globex", "SELECT count(*)::int AS n FROM kept")).toEqual([{ n: 1000 }]);
});
