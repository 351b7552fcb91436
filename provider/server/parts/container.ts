import type Docker from "dockerode";
import { stopSeconds } from "../../../docker/client";
import { hardened, postgresUser, withoutNames } from "../../../docker/hardening";
import { type ContainerSpec, isAsMade, reconcileContainer, removeContainer } from "../../container/reconcile";
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
  const options: Docker.ContainerCreateOptions = {
    Entrypoint: [`${programsFolder}/start-server`],
    Cmd: [...(adopted ? ["--adopted"] : []), "postgres"],
    User: `${postgresUser}:${postgresUser}`,
    StopSignal: "SIGINT",
    // The image insists on a password for new data: one that is known to no person or program. The real one is set on
    // the running server, so that no secret is part of a container.
    Env: ["POSTGRES_PASSWORD_FILE=/proc/sys/kernel/random/uuid"],
    HostConfig: {
      ...hardened,
      ...withoutNames,
      Tmpfs: { "/tmp": "", "/var/run/postgresql": "mode=1777" },
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

function initdbArguments(settings: PostgresServerInputs["settings"]): string {
  const all = { ...settings.initial, ...(hasUsualExtension(settings) && usualSettings) };
  return Object.entries(all)
    .toSorted()
    .map(([name, value]) => `--set ${name}=${value}`)
    .join(" ");
}
