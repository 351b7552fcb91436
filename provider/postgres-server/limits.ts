import type Docker from "dockerode";

/** What the engine limits live and keeps over restarts. */
export interface Limits {
  /** Bytes; no swap beside them. */
  memory?: number;
  /** Processors, in hundredths. */
  cpus?: number;
}

export function limitsOf(info: Docker.ContainerInspectInfo): Limits {
  return {
    memory: info.HostConfig.Memory || undefined,
    cpus: info.HostConfig.NanoCpus ? info.HostConfig.NanoCpus / 1e9 : undefined,
  };
}

/** Takes effect at once; the server and its sessions go on. */
export async function setLimits(
  container: Docker.Container,
  info: Docker.ContainerInspectInfo,
  wanted: Limits,
): Promise<void> {
  const present = limitsOf(info);
  const noSwap = info.HostConfig.MemorySwap === info.HostConfig.Memory;
  const change: Record<string, number> = {};
  if (wanted.memory && (present.memory !== wanted.memory || !noSwap)) {
    change.Memory = wanted.memory;
    change.MemorySwap = wanted.memory;
  }
  if (wanted.cpus && present.cpus !== wanted.cpus) change.NanoCpus = Math.round(wanted.cpus * 1e9);
  if (Object.keys(change).length > 0) await container.update(change);
}
