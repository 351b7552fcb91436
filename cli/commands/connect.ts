import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { connectionParameters, conninfo, proxyHost } from "../lib/address";
import { withClientContainer } from "../lib/client-container";
import { command, roleOption } from "../lib/command";
import { CommandError, runOnTerminal } from "../lib/pulumi";
import { type TenantLogin, tenantLogin } from "../lib/tenant-login";

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
  const login = await tenantLogin(id, role, "any");
  const psql = findProgram("psql");
  if (!psql && login.config.platform === "kubernetes")
    throw new CommandError("there is no psql on the PATH: install PostgreSQL's client");
  return psql ? runHere(psql, login, psqlArgs) : runInContainer(login, psqlArgs);
}

/** Of a certificate of the operator's own only the operator knows who vouches for it: libpq's variables say so. */
function tlsParameters(ca: string | null, caFile: string): Record<string, string> {
  if (ca) return { sslmode: "verify-full", sslrootcert: caFile };
  const { PGSSLMODE: sslmode = "require", PGSSLROOTCERT: sslrootcert } = process.env;
  return { sslmode, ...(sslrootcert && { sslrootcert }) };
}

async function runHere(psql: string, login: TenantLogin, psqlArgs: string[]): Promise<number> {
  const { tenant, config, pgpass, ca } = login;
  const parameters = await connectionParameters(tenant, await proxyHost(config));
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

/** psql of the tenant's image. */
async function runInContainer(login: TenantLogin, psqlArgs: string[]): Promise<number> {
  const docker = findProgram("docker");
  if (!docker) throw new CommandError("neither psql nor docker is on the PATH: install PostgreSQL's client");
  const { dockerHost } = login.config;
  const psql = {
    program: "psql",
    // As a client, whose cancel request comes without TLS.
    port: 5432,
    args: (connection: string) => [connection, ...psqlArgs],
    terminal: process.stdin.isTTY === true && process.stdout.isTTY === true,
  };
  const env = { ...process.env, ...(dockerHost && { DOCKER_HOST: dockerHost }) };
  return withClientContainer(login, psql, ({ id }) =>
    runOnTerminal(docker, ["start", "--attach", "--interactive", id], env),
  );
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
