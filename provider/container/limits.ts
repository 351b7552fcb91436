import type Docker from "dockerode";

/** What the engine limits live, and keeps over restarts. */
export interface Limits {
  /** Bytes; no swap beside them. Zero: no limit. */
  memory: number;
  /** Processors, in hundredths. Zero: no limit. */
  cpus: number;
  /** Processes and threads. */
  pids: number;
}

/** A container that ends by itself, or with the engine, is started again. */
const restartPolicy = { Name: "unless-stopped", MaximumRetryCount: 0 };

/** `memory` is zero where something beside it is not as it is set here. */
export function limitsOf(info: Docker.ContainerInspectInfo): Limits {
  const { Memory = 0, MemorySwap, PidsLimit, NanoCpus = 0, RestartPolicy } = info.HostConfig;
  const asMade = (Memory === 0 || MemorySwap === Memory) && RestartPolicy?.Name === restartPolicy.Name;
  return { memory: asMade ? Memory : 0, cpus: NanoCpus / 1e9, pids: PidsLimit ?? 0 };
}

/** For the engine, when a container is made and when it is updated. */
export function limitsUpdate({ memory, cpus, pids }: Limits) {
  return {
    ...(memory > 0 && { Memory: memory, MemorySwap: memory }),
    PidsLimit: pids,
    NanoCpus: Math.round(cpus * 1e9),
    RestartPolicy: restartPolicy,
  };
}

export function sameLimits(one: Limits, other: Limits): boolean {
  return one.memory === other.memory && one.cpus === other.cpus && one.pids === other.pids;
}

/** Takes effect at once; what runs in the container goes on. */
export async function setLimits(container: Docker.Container, present: Limits, wanted: Limits): Promise<void> {
  if (!sameLimits(present, wanted)) await container.update(limitsUpdate(wanted));
}
