import { randomBytes } from "node:crypto";
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { buffer } from "node:stream/consumers";
import * as tar from "tar-stream";
import { dockerClient } from "../../docker/client";
import { resourceNames } from "../../docker/names";
import { connectionParameters, conninfo } from "../lib/address";
import { command, roleOption } from "../lib/command";
import { CommandError, runOnTerminal } from "../lib/pulumi";
import { wayBack } from "../lib/restore-in-place";
import {
  caOf,
  connectionStringOf,
  requiredOutputs,
  type StackConfig,
  type StackOutputs,
  stackConfig,
  type TenantSummary,
  tenantOf,
} from "../lib/stack";
import { tenantStatuses } from "../lib/tenant-status";

export const connect = command(
  "connect",
  "psql session of a tenant, with TLS; what follows -- goes to psql",
  "./pgs connect acme",
  "./pgs connect acme --role app",
  "./pgs connect acme -- -Atc 'SELECT version()'",
)
  .argument("<tenant>")
  .argument("[psql-options...]", "as for psql")
  .option(...roleOption)
  .allowUnknownOption()
  .action(async (id: string, args: string[], { role }: { role?: string }) => {
    process.exitCode = await openSession(id, role, args[0] === "--" ? args.slice(1) : args);
  });

/**
 * psql with the tenant's settings, on this terminal: through the proxy, as the tenant's own clients come. With the
 * stack's own CA it verifies the server. The password goes to it in a file that only this user can read, and
 * that is gone with psql.
 * @returns psql's exit code
 */
async function openSession(id: string, role: string | undefined, psqlArgs: string[]): Promise<number> {
  const [config, outputs] = await Promise.all([
    stackConfig(),
    requiredOutputs({ secrets: true, states: true }),
  ]);
  const connection = connectionStringOf(outputs, id, role);
  const tenant = { ...tenantOf(outputs.tenants, id), user: connection.username };
  if (tenant.state === "incomplete") {
    throw new CommandError(
      `${id} is not complete, as no up has made it yet: ./pgs up says why, and tries again`,
    );
  }
  if (tenant.state !== "running") throw new CommandError(`${id} is stopped: ${wayBack(id, config)}`);
  if (!tenant.access) {
    throw new CommandError(
      `${id} has no route: ./pgs enable-access ${id}, or without one docker exec -it ${config.prefix}-${id} psql -U postgres ${tenant.database}`,
    );
  }
  await requireServer(id, config, outputs);
  const secrets = {
    pgpass: passwordFile(connection.password),
    ca: caOf(tenant, outputs, config),
  };
  const psql = findProgram("psql");
  return psql
    ? runHere(psql, await connectionParameters(tenant, config.dockerHost), secrets, psqlArgs)
    : runInContainer(id, tenant, config, secrets, psqlArgs);
}

/** @throws CommandError where the server is down: the proxy would only close the connection */
async function requireServer(id: string, config: StackConfig, outputs: StackOutputs): Promise<void> {
  const statuses = await tenantStatuses(outputs, config);
  const state = statuses.find((one) => one.id === id)?.state;
  if (state === "missing") {
    throw new CommandError(`the container of ${id} is gone: ./pgs up replaces it, on the same data`);
  }
  if (state && ["exited", "dead", "created", "paused", "restarting"].includes(state)) {
    throw new CommandError(
      `the server of ${id} does not run (${state}): ./pgs up starts it again; ./pgs logs ${id} --tail 20 says why it stopped`,
    );
  }
}

interface Secrets {
  /** A password file for libpq. */
  pgpass: string;
  /** PEM of the stack's own CA; null without one. */
  ca: string | null;
}

/** https://www.postgresql.org/docs/18/libpq-pgpass.html */
function passwordFile(encoded: string): string {
  return `*:*:*:*:${decodeURIComponent(encoded).replace(/[\\:]/g, "\\$&")}\n`;
}

/** Of a certificate of the operator's own only the operator knows who vouches for it: libpq's variables say so. */
function tlsParameters(ca: string | null, caFile: string): Record<string, string> {
  if (ca) return { sslmode: "verify-full", sslrootcert: caFile };
  const { PGSSLMODE: sslmode = "require", PGSSLROOTCERT: sslrootcert } = process.env;
  return { sslmode, ...(sslrootcert && { sslrootcert }) };
}

async function runHere(
  psql: string,
  parameters: Record<string, string>,
  { pgpass, ca }: Secrets,
  psqlArgs: string[],
): Promise<number> {
  // Of mode 0700.
  const folder = mkdtempSync(join(tmpdir(), "pgs-connect-"));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.on("exit", remove);
  try {
    const [passfile, caFile] = [join(folder, "pgpass"), join(folder, "ca.pem")];
    writeFileSync(passfile, pgpass, { mode: 0o600 });
    if (ca) writeFileSync(caFile, ca, { mode: 0o600 });
    const target = conninfo({ ...parameters, ...tlsParameters(ca, caFile), passfile });
    return await runOnTerminal(psql, [target, ...psqlArgs], withoutConnectionSettings(process.env));
  } finally {
    remove();
    process.off("exit", remove);
  }
}

/** What libpq would otherwise add of its own: another password, service, address or TLS setting. */
function withoutConnectionSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const own =
    /^PG(PASSWORD|PASSFILE|SERVICE|SERVICEFILE|HOST|HOSTADDR|SSL\w*|REQUIRESSL|REQUIREAUTH|CHANNELBINDING|GSS\w*|TARGETSESSIONATTRS|LOADBALANCEHOSTS)$/;
  return Object.fromEntries(Object.entries(env).filter(([name]) => !own.test(name)));
}

/** Where the files lie in the container. */
const inside = { pgpass: "/tmp/pgpass", ca: "/tmp/ca.pem" };

/**
 * psql of the tenant's image, in a container of its own beside the proxy: so it takes the same way through the
 * proxy's TLS, and needs no name that resolves. The files are put into the container before it starts; it is
 * removed with them when psql ends.
 */
async function runInContainer(
  id: string,
  tenant: TenantSummary,
  config: StackConfig,
  { pgpass, ca }: Secrets,
  psqlArgs: string[],
): Promise<number> {
  const dockerCommand = findProgram("docker");
  if (!dockerCommand)
    throw new CommandError("neither psql nor docker is on the PATH: install PostgreSQL's client");
  const docker = dockerClient(config.dockerHost);
  const names = resourceNames(config.prefix);
  const network = names.proxyNetwork(config.ipv6Subnet);
  const proxy = await docker.getContainer(names.proxy).inspect();
  const server = await docker.getContainer(names.tenant(id)).inspect();
  const target = conninfo({
    host: tenant.host,
    hostaddr: proxy.NetworkSettings.Networks[network]?.IPAddress ?? "",
    port: "5432",
    dbname: tenant.database,
    user: tenant.user,
    // A file that a variable names would not be in the container.
    ...(ca ? tlsParameters(ca, inside.ca) : { sslmode: "require" }),
    passfile: inside.pgpass,
  });
  const terminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
  const container = await docker.createContainer({
    name: `${config.prefix}-connect-${randomBytes(4).toString("hex")}`,
    Image: server.Image,
    User: "999:999",
    Entrypoint: ["psql"],
    Cmd: [target, ...psqlArgs],
    Env: ["HOME=/tmp", "LANG=C.UTF-8", "PSQL_HISTORY=/dev/null"],
    Tty: terminal,
    OpenStdin: true,
    StdinOnce: true,
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    HostConfig: {
      NetworkMode: network,
      AutoRemove: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges:true"],
      // The image declares a volume; a temporary file system spares the anonymous one.
      Tmpfs: { "/var/lib/postgresql": "" },
    },
  });
  const remove = () => container.remove({ force: true, v: true }).catch(() => {});
  try {
    const files = tar.pack();
    const add = (path: string, content: string) =>
      files.entry({ name: path.slice("/tmp/".length), mode: 0o600, uid: 999, gid: 999 }, content);
    add(inside.pgpass, pgpass);
    if (ca) add(inside.ca, ca);
    files.finalize();
    await container.putArchive(await buffer(files), { path: "/tmp" });
    const env = { ...process.env, ...(config.dockerHost && { DOCKER_HOST: config.dockerHost }) };
    return await runOnTerminal(dockerCommand, ["start", "--attach", "--interactive", container.id], env);
  } finally {
    await remove();
  }
}

/** Path of a program on the PATH. */
function findProgram(name: string): string | undefined {
  return (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}
