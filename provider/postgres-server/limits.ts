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

/** Zero where there is no limit. */
export function limitsOf(info: Docker.ContainerInspectInfo): Limits {
  const { Memory = 0, MemorySwap, PidsLimit, NanoCpus = 0 } = info.HostConfig;
  const asMade = MemorySwap === Memory && PidsLimit === processLimit;
  return { memory: asMade ? Memory : 0, cpus: NanoCpus / 1e9 };
}

/** Takes effect at once; the server and its sessions go on. */
export async function setLimits(container: Docker.Container, present: Limits, wanted: Limits): Promise<void> {
  const change: Record<string, number> = {};
  if (present.memory !== wanted.memory) {
    change.Memory = wanted.memory;
    change.MemorySwap = wanted.memory;
    change.PidsLimit = processLimit;
  }
  if (present.cpus !== wanted.cpus) change.NanoCpus = Math.round(wanted.cpus * 1e9);
  if (Object.keys(change).length > 0) await container.update(change);
}
