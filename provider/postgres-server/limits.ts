import type Docker from "dockerode";

/** What the engine limits live and keeps over restarts. */
export interface Limits {
  /** Bytes; no swap beside them. */
  memory: number;
  /** Processors, in hundredths. */
  cpus: number;
}

/** Processes and threads: a superuser's shell cannot use up the host's. PostgreSQL has one for each session. */
export const processLimit = 2048;

/** A server that ends by itself, or with the engine, is started again. */
const restartPolicy = { Name: "unless-stopped", MaximumRetryCount: 0 };

/** Zero where there is no limit, or where something beside it is not as it is set here. */
export function limitsOf(info: Docker.ContainerInspectInfo): Limits {
  const { Memory = 0, MemorySwap, PidsLimit, NanoCpus = 0, RestartPolicy } = info.HostConfig;
  const asMade =
    MemorySwap === Memory && PidsLimit === processLimit && RestartPolicy?.Name === restartPolicy.Name;
  return { memory: asMade ? Memory : 0, cpus: NanoCpus / 1e9 };
}

/** What the engine is told, when a container is made and when it is updated. */
export function updateFor({ memory, cpus }: Limits) {
  return {
    Memory: memory,
    MemorySwap: memory,
    PidsLimit: processLimit,
    NanoCpus: Math.round(cpus * 1e9),
    RestartPolicy: restartPolicy,
  };
}

/** Takes effect at once; the server and its sessions go on. */
export async function setLimits(container: Docker.Container, present: Limits, wanted: Limits): Promise<void> {
  if (present.memory === wanted.memory && present.cpus === wanted.cpus) return;
  await container.update(updateFor(wanted));
}
