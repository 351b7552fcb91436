import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { clusterProxyHost } from "./kubernetes";
import type { StackConfig, TenantSummary } from "./stack";

/** The addresses that a name resolves to on this machine; none when it does not. */
export async function resolve(name: string): Promise<string[]> {
  try {
    return (await lookup(name, { all: true })).map(({ address }) => address);
  } catch {
    return [];
  }
}

/** As in DOCKER_HOST: the host that the proxy's port is on; undefined means this machine. */
export async function proxyHost(config: StackConfig): Promise<string | undefined> {
  return config.platform === "kubernetes" ? clusterProxyHost(config) : config.dockerHost;
}

/**
 * Where the proxy's port is published, as the address of the Docker host tells: an IP address, since libpq's
 * hostaddr takes nothing else. Undefined when the Docker host's own name does not resolve.
 */
export async function dockerHostAddress(dockerHost: string | undefined): Promise<string | undefined> {
  const remote = /^(?:tcp|ssh|https?):\/\/(?:[^@/]*@)?(?:\[([^\]]+)\]|([^:/]+))/.exec(dockerHost ?? "");
  const host = remote?.[1] ?? remote?.[2] ?? "127.0.0.1";
  return isIP(host) ? host : (await resolve(host))[0];
}

/** libpq's keywords for a tenant, with the Docker host's address where its name does not resolve (yet). */
export async function connectionParameters(
  tenant: TenantSummary,
  dockerHost: string | undefined,
): Promise<Record<string, string>> {
  const resolved = await resolve(tenant.host);
  const hostaddr = resolved.length > 0 ? undefined : await dockerHostAddress(dockerHost);
  return {
    host: tenant.host,
    ...(hostaddr && { hostaddr }),
    port: String(tenant.port),
    dbname: tenant.database,
    user: tenant.user,
  };
}

/** As psql takes it. https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE */
export function conninfo(parameters: Record<string, string>): string {
  const quoted = (value: string) =>
    /^[\w./:*-]+$/.test(value) ? value : `'${value.replace(/['\\]/g, "\\$&")}'`;
  return Object.entries(parameters)
    .map(([key, value]) => `${key}=${quoted(value)}`)
    .join(" ");
}
