import { randomBytes } from "node:crypto";
import { buffer } from "node:stream/consumers";
import type Docker from "dockerode";
import * as tar from "tar-stream";
import { dockerClient, ifPresent } from "../../docker/client";
import { hardened, postgresUser } from "../../docker/hardening";
import { roleLabel, stackLabel, tenantLabel } from "../../docker/labels";
import { resourceNames } from "../../docker/names";
import { conninfo } from "./address";
import { onInterrupt } from "./interrupt";
import { CommandError } from "./pulumi";
import type { TenantLogin } from "./tenant-login";

export interface ClientProgram {
  /** One of PostgreSQL's client programs. */
  program: string;
  /** Its arguments, once it is known how it connects: a connection string of libpq, without the password. */
  args: (connection: string) => string[];
  /** The proxy's port: its inner one is for what no tenant's list of clients is about. */
  port: number;
  /** `NAME=VALUE`, nothing secret. */
  env?: string[];
  /** Whether it talks to a terminal. */
  terminal?: boolean;
}

/** Where the files lie in the container. */
const inside = { pgpass: "/tmp/pgpass", ca: "/tmp/ca.pem" };

/**
 * A client program of the tenant's image, in a container of its own beside the proxy: so it takes the same way through
 * the proxy's TLS, needs no name that resolves and nothing on this machine. Password and CA are put into the container
 * before it starts. A script that it reads may be hostile: it finds nothing else there.
 * @param use starts it; then the container is removed. From there on it is `use` that sees to signals
 */
export async function withClientContainer<T>(
  { id, stack, tenant, config, pgpass, ca }: TenantLogin,
  { program, args, port, env = [], terminal = false }: ClientProgram,
  use: (container: Docker.Container) => Promise<T>,
): Promise<T> {
  const docker = dockerClient(config.dockerHost);
  const names = resourceNames(config.prefix);
  const network = names.proxyNetwork(config.ipv6Subnet);
  const [proxy, server] = await Promise.all(
    [names.proxy, names.tenant(id)].map((name) => docker.getContainer(name).inspect()),
  );
  const connection = conninfo({
    host: tenant.host,
    hostaddr: proxy?.NetworkSettings.Networks[network]?.IPAddress ?? "",
    port: String(port),
    dbname: tenant.database,
    user: tenant.user,
    ...(ca ? { sslmode: "verify-full", sslrootcert: inside.ca } : { sslmode: "require" }),
    passfile: inside.pgpass,
  });
  let interrupted = false;
  const off = onInterrupt(() => {
    interrupted = true;
  });
  const container = await docker.createContainer({
    name: `${config.prefix}-connect-${randomBytes(4).toString("hex")}`,
    Image: server?.Image,
    Labels: { [stackLabel]: stack, [tenantLabel]: id, [roleLabel]: "client" },
    User: `${postgresUser}:${postgresUser}`,
    Entrypoint: [program],
    Cmd: args(connection),
    Env: ["HOME=/tmp", "LANG=C.UTF-8", "PSQL_HISTORY=/dev/null", ...env],
    Tty: terminal,
    OpenStdin: true,
    StdinOnce: true,
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    HostConfig: {
      ...hardened,
      // The files could not be put into a root that cannot be written to.
      ReadonlyRootfs: false,
      // What passes through is data, as much as there is.
      LogConfig: { Type: "none", Config: {} },
      NetworkMode: network,
      AutoRemove: true,
      CpuShares: 256,
      Memory: 1 << 30,
      MemorySwap: 1 << 30,
      PidsLimit: 64,
      // The image declares a volume; a temporary file system spares the anonymous one.
      Tmpfs: { "/var/lib/postgresql": "" },
    },
  });
  try {
    const files = tar.pack();
    const add = (path: string, content: string) =>
      files.entry({ name: path.slice("/tmp/".length), mode: 0o600, uid: 999, gid: 999 }, content);
    add(inside.pgpass, pgpass);
    if (ca) add(inside.ca, ca);
    files.finalize();
    await container.putArchive(await buffer(files), { path: "/tmp" });
    off();
    if (interrupted) throw new CommandError("interrupted", 130);
    return await use(container);
  } finally {
    off();
    await ifPresent(container.remove({ force: true, v: true })).catch(() => {});
  }
}
