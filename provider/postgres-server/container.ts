import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { dockerClient, ensureRunning, ifPresent, stopCleanly } from "../../docker/client";
import { attach } from "../attachment";
import { demandParts, stackLabel } from "../stack-container";
import { type Limits, limitsOf, setLimits, updateFor } from "./limits";
import type { Settings } from "./settings";

/** What a server's container is made of. */
export interface ServerContainer extends Limits {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  /** The container's name. */
  container: string;
  /** Id of its image; a stopped tenant has none. */
  image?: string;
  /** Name of the volume with the data. */
  volume: string;
  /** Name of the network that it is in. */
  network: string;
  /** Whether the data was made by a server that was not this stack's. */
  adopted: boolean;
  /** What the stack's containers are known by. */
  stack: string;
  /** Of `definitionOf(adopted)`: another makes the container anew. */
  definition?: string;
  /** A new server starts with these sizes, and need not be restarted for them. */
  settingsAtNextStart: Settings;
}

/** On each container: a digest of what it was made of. What the engine tells of that may be in other words. */
const madeLabel = "pgs.made";

const dataFolder = "/var/lib/postgresql";

const gigabyte = 2 ** 30;
const second = 1e9;

/**
 * The image takes a data directory for good as soon as initdb has begun to fill it. Here one counts as half-made
 * until the server has answered for the first time (psql.ts takes the note away, before there is a password that
 * anybody knows): when a first start is cut off, by a full disk or a crash of the host, the next one begins anew.
 *
 * Two servers on one volume would destroy its data, and PostgreSQL sees no process of another container: the
 * lock is the kernel's, for as long as any process of this container lives.
 */
const startServer = `
  exec 9>/var/lib/postgresql/.in-use
  flock -n 9 || [ $? -ne 1 ] || { echo "another container uses this volume" >&2; exit 1; }
  note=$PGDATA.unfinished
  if [ -e "$note" ]; then rm -rf "$PGDATA"; fi
  if [ ! -s "$PGDATA/PG_VERSION" ]; then mkdir -p "$(dirname "$note")"; : >"$note"; fi
  exec docker-entrypoint.sh "$@"`;

/**
 * The server that made an adopted volume's data knows nothing of that lock. A note in the volume says that the
 * check was passed once: from then on what a crash leaves is this server's own.
 */
const startOnAdopted = `
  note=/var/lib/postgresql/.pgs-adopted
  if [ ! -e "$note" ]; then
    if [ -e "$PGDATA/postmaster.pid" ] || [ ! -s "$PGDATA/PG_VERSION" ]; then
      echo "the volume's data is in use by another server, was not stopped cleanly, or is not in $PGDATA" >&2
      exit 1
    fi
    : >"$note" && sync "$note"
  fi${startServer}`;

/** What all of the containers have in common. https://docs.docker.com/reference/api/engine/version/v1.41/ */
function common(adopted: boolean) {
  return {
    Entrypoint: ["sh", "-c", adopted ? startOnAdopted : startServer, "sh"],
    Cmd: ["postgres"],
    User: "999:999",
    StopSignal: "SIGINT",
    // Rare on purpose: a check takes a tenth of a second of a processor. Every 30 seconds, those of 200 idle tenants
    // kept a third of two cores busy.
    Healthcheck: {
      Test: ["CMD", "pg_isready", "-q", "-U", "postgres"],
      Interval: 120 * second,
      Timeout: 10 * second,
      StartPeriod: 60 * second,
      Retries: 2,
    },
    HostConfig: {
      // Engines before 23.0.11 and 25.0.4 would ask the host's own resolver for names outside: a way out.
      Dns: ["0.0.0.0"],
      DnsOptions: ["timeout:1", "attempts:1"],
      ReadonlyRootfs: true,
      Tmpfs: { "/tmp": "", "/var/run/postgresql": "mode=1777" },
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges:true"],
      // Parallel queries share memory here; the tenant's memory limit counts it.
      ShmSize: 16 * gigabyte,
      LogConfig: { Type: "json-file", Config: { "max-size": "10m", "max-file": "3" } },
    },
  };
}

/** All that the engine is told of the container but its name. */
export function containerOptions(inputs: ServerContainer): Docker.ContainerCreateOptions {
  const { HostConfig, ...options } = common(inputs.adopted);
  return {
    ...options,
    Image: inputs.image,
    Labels: { [stackLabel]: inputs.stack, [madeLabel]: digestOf(inputs) },
    // Both count only when the data directory is first made. The image insists on a password: one that nobody can
    // know. The real one is set on the running server, so that no secret is part of a container.
    Env: [
      "POSTGRES_PASSWORD_FILE=/proc/sys/kernel/random/uuid",
      `POSTGRES_INITDB_ARGS=${initdbArguments(inputs.settingsAtNextStart)}`,
    ],
    HostConfig: {
      ...HostConfig,
      ...updateFor(inputs),
      NetworkMode: inputs.network,
      Mounts: [{ Type: "volume", Source: inputs.volume, Target: dataFolder }],
    },
  };
}

function initdbArguments(settings: Settings): string {
  return Object.entries(settings)
    .toSorted()
    .map(([name, value]) => `--set ${name}=${value}`)
    .join(" ");
}

/** A name for what all of the containers have in common, so that one that was made otherwise is made anew. */
export function definitionOf(adopted: boolean): string {
  return digest(common(adopted));
}

/** Of all that only a new container can change. */
function digestOf({ definition, image, volume, network }: ServerContainer): string {
  return digest([definition, image, volume, network]);
}

function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 16);
}

/** What there is under its name. */
export function inspectServer(inputs: ServerContainer): Promise<Docker.ContainerInspectInfo | undefined> {
  return ifPresent(dockerClient(inputs.host).getContainer(inputs.container).inspect());
}

/**
 * The container, running and as it should be, but for a memory limit that is to become lower. It is made anew only
 * where nothing else helps.
 * @param formerId of the container that the last `up` left, which may have another name by now
 * @returns its id, and the limits that it has
 */
export async function runContainer(
  inputs: ServerContainer,
  formerId: string | undefined,
): Promise<{ containerId: string; limits: Limits }> {
  const docker = dockerClient(inputs.host);
  const present = await findServer(inputs, formerId);
  if (!present || !isMadeOf(inputs, present)) {
    const containerId = await makeContainer(docker, inputs, present);
    return { containerId, limits: { memory: inputs.memory, cpus: inputs.cpus } };
  }
  const container = docker.getContainer(present.Id);
  await attach(inputs.host, present, inputs.network);
  await ensureRunning(container, present);
  const limits = limitsOf(present);
  if (inputs.memory >= limits.memory) await setLimits(container, limits, inputs);
  return { containerId: present.Id, limits };
}

/** Stops the server cleanly and takes its container away; the volume stays. One that is gone is no error. */
export async function removeServer(inputs: ServerContainer, formerId: string | undefined): Promise<void> {
  const info = await findServer(inputs, formerId);
  if (info && isOfStack(inputs, info)) await putAway(dockerClient(inputs.host), inputs, info);
}

/** Whether this stack made it. */
export function isOfStack({ stack }: ServerContainer, info: Docker.ContainerInspectInfo): boolean {
  return info.Config.Labels[stackLabel] === stack;
}

/** Whether the container is this stack's, and made of these. */
export function isMadeOf(inputs: ServerContainer, info: Docker.ContainerInspectInfo): boolean {
  return (
    isOfStack(inputs, info) &&
    info.Config.Labels[madeLabel] === digestOf(inputs) &&
    info.Mounts.some(({ Name, Destination }) => Name === inputs.volume && Destination === dataFolder)
  );
}

/** Also under the name that somebody gave it: it gets its own back. */
async function findServer(
  inputs: ServerContainer,
  formerId: string | undefined,
): Promise<Docker.ContainerInspectInfo | undefined> {
  const present = await inspectServer(inputs);
  if (present || !formerId) return present;
  const container = dockerClient(inputs.host).getContainer(formerId);
  const info = await ifPresent(container.inspect());
  if (!info || isDockerProviders(info)) return undefined;
  await container.rename({ name: inputs.container });
  return info;
}

/**
 * In states that were written before PostgresServer had the container as a part of it. The Docker provider deletes it
 * at the end of the `up` that first goes without it.
 */
function isDockerProviders(info: Docker.ContainerInspectInfo): boolean {
  return info.Config.Labels[madeLabel] === undefined;
}

async function putAway(
  docker: Docker,
  { container: name }: ServerContainer,
  info: Docker.ContainerInspectInfo,
): Promise<void> {
  const container = docker.getContainer(info.Id);
  // The signal would wait until somebody else ends the pause.
  if (info.State.Paused) await container.unpause();
  if (info.State.Running || info.State.Restarting) await stopCleanly(container);
  if (isDockerProviders(info)) await ifPresent(container.rename({ name: `${name}_former` }));
  else await ifPresent(container.remove({ force: true, v: false }));
}

/**
 * In the place of `former`, which runs until the new one can be started.
 * @returns its id
 */
async function makeContainer(
  docker: Docker,
  inputs: ServerContainer,
  former: Docker.ContainerInspectInfo | undefined,
): Promise<string> {
  const { host, container: name, volume, image = "" } = inputs;
  if (former && !isOfStack(inputs, former)) {
    throw new Error(
      `a container ${name} exists that is not this stack's: remove it (docker rm ${name}) or set another pgs:prefix`,
    );
  }
  await demandParts({ host, container: name, volume, image });
  // No tenant has a name with an underscore; a leftover under it is removed by the next `up`.
  const made = await docker.createContainer({
    name: former ? `${name}_new` : name,
    ...containerOptions(inputs),
  });
  if (former) {
    await putAway(docker, inputs, former);
    await made.rename({ name });
  }
  await made.start();
  return made.id;
}
