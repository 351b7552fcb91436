import type Docker from "dockerode";
import { stopSeconds } from "../../../docker/client";
import { hardened, postgresUser, withoutNames } from "../../../docker/hardening";
import {
  type ContainerSpec,
  inspectContainer,
  isAsMade,
  reconcileContainer,
  removeContainer,
} from "../../container/reconcile";
import type { PostgresServerInputs, PostgresServerState } from "../inputs";
import type { Part } from "../part";
import { hasUsualExtension, usualSettings } from "./extensions";
import { limitsFor } from "./limits";

const dataFolder = "/var/lib/postgresql";

/** Where the programs that start a server are mounted, read-only. */
export const programsFolder = "/pgs";

const gigabyte = 2 ** 30;

/** The server's container. It is replaced only where nothing else helps. */
export const container: Part & {
  apply(
    inputs: PostgresServerInputs,
    before: Partial<PostgresServerState>,
  ): ReturnType<typeof reconcileContainer>;
  /** Stops the server cleanly; the volume stays. */
  remove(inputs: PostgresServerInputs, id: string | undefined): Promise<void>;
} = {
  name: "container",

  async differs(inputs, { info }) {
    return !info || !(await isAsMade(serverContainer(inputs), info));
  },

  apply(inputs, { containerId }) {
    return reconcileContainer(serverContainer(inputs), containerId);
  },

  async remove(inputs, id) {
    await removeContainer({ ...inputs, stopSeconds }, id);
  },
};

/** All that the engine is told of a server's container. https://docs.docker.com/reference/api/engine/version/v1.41/ */
export function serverContainer(inputs: PostgresServerInputs): ContainerSpec {
  const { name, image = "", imageId = "", volume, programs, adopted } = inputs.container;
  const { env, tmpfs } = dataOf(inputs.version);
  const options: Docker.ContainerCreateOptions = {
    Entrypoint: [`${programsFolder}/start-server`],
    Cmd: [...(adopted ? ["--adopted"] : []), "postgres"],
    User: `${postgresUser}:${postgresUser}`,
    StopSignal: "SIGINT",
    // The image insists on a password for new data: one that is known to no person or program. The real one is set on
    // the running server, so that no secret is part of a container.
    Env: ["POSTGRES_PASSWORD_FILE=/proc/sys/kernel/random/uuid", ...env],
    HostConfig: {
      ...hardened,
      ...withoutNames,
      Tmpfs: { "/tmp": "", "/var/run/postgresql": "mode=1777", ...tmpfs },
      // Parallel queries share memory here; the tenant's memory limit counts it.
      ShmSize: 16 * gigabyte,
    },
  };
  return {
    host: inputs.host,
    name,
    stack: inputs.stack,
    tenant: inputs.tenant,
    role: "server",
    image,
    imageId,
    mounts: [
      { volume, path: dataFolder },
      { volume: programs, path: programsFolder, readOnly: true },
    ],
    network: inputs.network.name,
    limits: limitsFor(inputs),
    stopSeconds,
    options,
    initialEnv: [`POSTGRES_INITDB_ARGS=${initdbArguments(inputs.settings)}`],
  };
}

/** Images before PostgreSQL 18 have their data here, and declare it a volume: each container gets one of its own. */
const olderFolder = `${dataFolder}/data`;

/** In the tenant's volume, and where the image of 18 has it. */
function dataOf(version: number): { env: string[]; tmpfs: Record<string, string> } {
  if (version >= 18) return { env: [], tmpfs: {} };
  return { env: [`PGDATA=${dataFolder}/${version}/docker`], tmpfs: { [olderFolder]: "" } };
}

/** Why a server stays as it is that was made before its data was put into the tenant's volume. */
export async function dataElsewhere({
  host,
  version,
  tenant,
  container: { name },
}: PostgresServerInputs): Promise<string | undefined> {
  if (version >= 18) return undefined;
  const info = await inspectContainer({ host, name });
  const volume = info?.Mounts.find(({ Destination }) => Destination === olderFolder)?.Name;
  if (!volume) return undefined;
  return `the data of ${tenant} is in the volume ${volume}, which goes with its container, and not in the tenant's own: write it to a file by \`./pgs dump ${tenant}\`, remove the container (docker rm --force ${name}), run up, and load it by \`./pgs load ${tenant}\``;
}

function initdbArguments(settings: PostgresServerInputs["settings"]): string {
  const all = { ...settings.initial, ...(hasUsualExtension(settings) && usualSettings) };
  return Object.entries(all)
    .toSorted()
    .map(([name, value]) => `--set ${name}=${value}`)
    .join(" ");
}
