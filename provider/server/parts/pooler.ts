import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import { socketFolder } from "../../../backups/client";
import { clearCache } from "../../../docker/cache";
import { dockerClient } from "../../../docker/client";
import { exec, execDetached } from "../../../docker/exec";
import { getFile, putFile } from "../../../docker/files";
import { hardened, postgresUser, withoutNames } from "../../../docker/hardening";
import { pgbouncerSettings, poolerMemory, poolerWaitSeconds } from "../../../tenants/pooler";
import {
  type ContainerSpec,
  digestOf,
  findByLabels,
  inspectContainer,
  isAsMade,
  reconcileContainer,
  removeContainer,
} from "../../container/reconcile";
import type { PostgresServerInputs } from "../inputs";
import type { Part, RunningServer } from "../part";

const role = "pooler";

/** In the tenant's data volume, beside the data directory: the pooler mounts it for the server's socket too. */
const folder = "/var/lib/postgresql";
const file = ".pgbouncer.ini";

const memory = poolerMemory << 20;
const pids = 32;
const stopSeconds = 5;

/** Seconds that transactions have to end before a planned restart of the server. */
const drainSeconds = 10;
/** Seconds after which a pause ends by itself, as when an `up` was killed: PgBouncer's clients wait no longer either. */
const pauseSeconds = poolerWaitSeconds;

/**
 * The PgBouncer in front of the tenant's server. It asks the server itself who may log in, as its superuser by the socket
 * in its volume, and knows no password.
 */
export const pooler: Part & {
  apply(inputs: PostgresServerInputs): Promise<void>;
  /** Its clients' sessions end. */
  remove(inputs: PostgresServerInputs): Promise<void>;
  /** Of all its clients; those that may come in come back. */
  endSessions(inputs: PostgresServerInputs): Promise<void>;
  /** Before a planned restart of the server: transactions end, new ones wait until `apply` or `resume`. */
  pause(server: Pick<RunningServer, "inputs" | "session">): Promise<void>;
  resume(inputs: PostgresServerInputs): Promise<void>;
} = {
  name: "pooler",

  async differs(inputs) {
    const spec = containerOf(inputs);
    if (!spec) return (await present(inputs)).length > 0;
    const info = await inspectContainer(spec);
    if (!info?.State.Running || info.State.Paused || info.State.Restarting) return true;
    return !(await isAsMade(spec, info)) || (await writtenIn(inputs)) !== configuration(inputs);
  },

  async apply(inputs) {
    const spec = containerOf(inputs);
    if (!spec) return this.remove(inputs);
    const wanted = configuration(inputs);
    if ((await writtenIn(inputs)) !== wanted)
      await putFile(serverOf(inputs), folder, file, wanted, postgresUser);
    const { containerId } = await reconcileContainer(spec);
    clearCache();
    // What a run that was cut off wrote, or paused, counts from here on as well.
    const { code, stderr } = await exec(
      dockerClient(inputs.host).getContainer(containerId),
      ["sh", "-c", `${untilReady}\nkill -HUP 1\n${endPause}`],
      { seconds: 30 },
    );
    if (code !== 0) throw new Error(`${spec.name} does not start: ${stderr.trim()}`);
  },

  async remove(inputs) {
    for (const { Id } of await present(inputs)) {
      await removeContainer({ ...inputs, stopSeconds }, Id);
      clearCache();
    }
  },

  async endSessions(inputs) {
    await (await running(inputs))?.restart({ t: stopSeconds });
  },

  async pause({ inputs, session }) {
    const container = await running(inputs);
    if (!container) return;
    try {
      await exec(container, ["sh", "-c", "touch /tmp/paused; kill -USR1 1"]);
      await execDetached(container, ["sh", "-c", endPauseLater]);
      const deadline = performance.now() + drainSeconds * 1000;
      while ((await session.read(working)) !== "0" && performance.now() < deadline) await delay(100);
    } catch {
      // A pooler that is going, or a server that does not answer, is no reason not to restart the server.
    }
  },

  async resume(inputs) {
    const container = await running(inputs);
    if (container) await exec(container, ["sh", "-c", endPause]);
  },
};

/** Whether its clients' sessions end: another size or mode is live. */
export function poolerEnds(before: PostgresServerInputs, after: PostgresServerInputs): boolean {
  const [spec, wanted] = [containerOf(before), containerOf(after)];
  return spec !== undefined && (wanted === undefined || digestOf(spec) !== digestOf(wanted));
}

/**
 * By their labels: also under a name of another prefix, where there is to be none, and beside it one that a run which was
 * killed had begun to replace it with.
 */
function present(inputs: PostgresServerInputs): Promise<Docker.ContainerInfo[]> {
  return findByLabels({ ...inputs, role });
}

async function running(inputs: PostgresServerInputs): Promise<Docker.Container | undefined> {
  const found = (await present(inputs)).find(({ State }) => State === "running");
  return found && dockerClient(inputs.host).getContainer(found.Id);
}

function serverOf({ host, container }: PostgresServerInputs): Docker.Container {
  return dockerClient(host).getContainer(container.name);
}

/** The tenant's superuser can put anything in its place; what is not to be read is not what is wanted. */
async function writtenIn(inputs: PostgresServerInputs): Promise<string | undefined> {
  return getFile(serverOf(inputs), `${folder}/${file}`).catch(() => undefined);
}

/** Sessions that came over the server's sockets and are at work, this one left out. */
const working = `SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
  AND client_addr IS NULL AND state IS DISTINCT FROM 'idle' AND pid <> pg_backend_pid()`;

/** PgBouncer takes signals for the commands of its console. https://www.pgbouncer.org/usage.html#signals */
const endPause = "rm -f /tmp/paused; kill -USR2 1";
const endPauseLater = `
  left=${pauseSeconds}
  while [ "$left" -gt 0 ]; do
    sleep 1
    [ -e /tmp/paused ] || exit 0
    left=$((left - 1))
  done
  ${endPause}`;
const untilReady = "until [ -S /tmp/.s.PGSQL.5432 ]; do sleep 0.05; done";

/** The pooler's container as it should be; undefined without a pooler. */
function containerOf({ host, stack, tenant, network, container, pooler: wanted }: PostgresServerInputs) {
  if (!wanted) return undefined;
  const { name, image, imageId } = wanted;
  const options: Docker.ContainerCreateOptions = {
    User: `${postgresUser}:${postgresUser}`,
    Cmd: [`${folder}/${file}`],
    StopSignal: "SIGQUIT",
    HostConfig: { ...hardened, ...withoutNames, Tmpfs: { "/tmp": "" } },
  };
  const spec: ContainerSpec = {
    ...{ host, name, stack, tenant, role, image, imageId, stopSeconds, options },
    mounts: [{ volume: container.volume, path: folder, readOnly: true }],
    network: network.name,
    limits: { memory, cpus: 0, pids },
  };
  return spec;
}

/**
 * https://www.pgbouncer.org/config.html. Over its socket the server lets everybody in (pg_hba.conf of its image), so it is
 * PgBouncer that checks passwords, as the server would: a role that may not log in, or not any more, has none. The query
 * names all of its operators and functions by their schema: the search_path is the tenant's.
 */
export function configuration({ tenant, pooler: wanted }: PostgresServerInputs): string {
  if (!wanted) return "";
  const settings = Object.entries(pgbouncerSettings(wanted)).map(([name, value]) => `${name} = ${value}`);
  return `[databases]
* = host=${socketFolder}
${authDatabase} = host=${socketFolder} dbname=${tenant} pool_size=2

[pgbouncer]
listen_addr = *
listen_port = 5432
unix_socket_dir = /tmp
auth_type = scram-sha-256
auth_user = postgres
auth_dbname = ${authDatabase}
auth_query = ${authQuery}
pool_mode = ${wanted.mode}
${settings.join("\n")}
log_stats = 0
`;
}

/** Connections of its own: logins do not wait for those that clients' transactions have. */
const authDatabase = "pgs--auth";

const authQuery = [
  "SELECT rolname, rolpassword FROM pg_catalog.pg_authid",
  "WHERE rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name AND rolcanlogin AND",
  "(rolvaliduntil IS NULL OR rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())",
].join(" ");
