import type Docker from "dockerode";
import { dockerClient, forEach } from "../../docker/client";
import { type DiskUse, diskUseText, parseDiskUse } from "../../docker/disk-use";
import { resourceNames } from "../../docker/names";
import { askServer, byReplication } from "./ask-server";
import { containersOf } from "./containers";
import { clusterStates, stackClusters } from "./kubernetes";
import type { StackConfig, StackOutputs, TenantSummary } from "./stack";

/** A tenant as it is now; null stands for a figure that was not asked for, or that its server does not give. */
export interface TenantStatus {
  id: string;
  host: string;
  port: number;
  version: number;
  access: boolean;
  /** Hostname of its pooler; null without one. */
  pooler: string | null;
  /** Primary and replicas; missing on Docker, where there is one server. */
  servers?: { ready: number; wanted: number };
  /**
   * `running`: answers. `stopped`: as tenants.yaml wants it. `incomplete`: no `up` has made it yet.
   * `missing`: should run, and has no container.
   * `starting`, `silent`: runs, but does not answer (yet). `unhealthy`: by its health check. Otherwise the
   * engine's own word: `exited`, `restarting`, `paused`, `created`, `dead`. On Kubernetes also `degraded`: answers, and
   * not all its servers are ready; `stopping`.
   */
  state: string;
  /** Bytes. */
  memory: { used: number | null; limit: number };
  /** CPUs, over the last second. */
  cpu: { used: number | null; limit: number };
  /** Whether a setting was changed that only a restart brings into force. */
  restartPending: boolean | null;
  /** Bytes of all databases and of the write-ahead log. */
  size: number | null;
  /** Of these, bytes of the write-ahead log. */
  wal: number | null;
  /** Bytes that its volume takes, its budget, and whether its sessions are read-only because one runs short. */
  disk: { used: number | null; limit: number | null; readOnly: boolean | null };
  /** Open client sessions. */
  connections: number | null;
  maxConnections: number | null;
  /** Seconds since the server started. */
  uptime: number | null;
}

/** How many servers are asked at a time. */
const atOnce = 16;

/**
 * The tenants as the engine lists them: one request, whatever their number. With `usage`, each running container is
 * asked for its usage and its server for its figures, which takes seconds.
 */
export async function tenantStatuses(
  outputs: StackOutputs,
  config: StackConfig,
  { usage = false } = {},
): Promise<TenantStatus[]> {
  if (config.platform === "kubernetes") {
    const states = clusterStates(outputs, await stackClusters(config));
    return Object.entries(outputs.tenants).map(([id, summary]) => ({
      ...tenantStatus(id, summary, undefined, { asked: false }),
      ...states.get(id),
    }));
  }
  const names = resourceNames(config.prefix);
  const containers = await containersOf(config, outputs);
  const infos = new Map(
    Object.keys(outputs.tenants).map((id) => [id, containers.get(names.tenant(id))] as const),
  );
  const running = usage ? [...infos].filter(([, info]) => info?.State === "running") : [];
  const docker = dockerClient(config.dockerHost);
  const all = running.map(([id, info]) => ({
    id,
    version: outputs.tenants[id]?.version ?? 0,
    container: docker.getContainer(info?.Id ?? ""),
  }));
  const [usages, figures] = await Promise.all([
    // All at once: the engine measures once a second, and answers all that wait for it.
    Promise.all(all.map(({ container }) => usageOf(container))),
    forEach(all, atOnce, ({ container, version }) => serverFigures(container, version)),
  ]);
  const live = new Map(all.map(({ id }, index) => [id, { usage: usages[index], server: figures[index] }]));

  return Object.entries(outputs.tenants).map(([id, summary]) =>
    tenantStatus(id, summary, infos.get(id), { asked: usage, ...live.get(id) }),
  );
}

/** @param live what container and server said, and whether the server was asked */
export function tenantStatus(
  id: string,
  summary: TenantSummary,
  info: Docker.ContainerInfo | undefined,
  { asked, usage, server }: { asked: boolean; usage?: Usage; server?: ServerFigures },
): TenantStatus {
  const answers = asked ? server !== undefined : !info?.Status.includes("(health: starting)");
  return {
    id,
    host: summary.host,
    port: summary.port,
    version: summary.version,
    access: summary.access,
    pooler: summary.pooler ?? null,
    state: stateOf(summary, info, answers),
    restartPending: server?.restartPending ?? null,
    memory: { used: usage?.memory ?? null, limit: summary.memory },
    cpu: { used: usage?.cpu ?? null, limit: summary.cpus },
    size: server?.size ?? null,
    wal: server?.wal ?? null,
    disk: {
      used: server?.disk?.used ?? null,
      limit: summary.disk ?? null,
      readOnly: server?.disk ? server.disk.readOnly !== null : null,
    },
    connections: server?.connections ?? null,
    maxConnections: server?.maxConnections ?? null,
    uptime: server?.uptime ?? null,
  };
}

export function stateOf(
  summary: Pick<TenantSummary, "state">,
  info: Pick<Docker.ContainerInfo, "State" | "Status"> | undefined,
  answers: boolean,
): string {
  if (summary.state === "incomplete") return summary.state;
  if (!info) return summary.state === "running" ? "missing" : "stopped";
  if (info.State !== "running") return info.State;
  if (info.Status.includes("(unhealthy)")) return "unhealthy";
  if (answers) return "running";
  return info.Status.includes("(health: starting)") ? "starting" : "silent";
}

export interface Usage {
  /** Bytes, without what is only cached, as `docker stats` counts it. */
  memory: number;
  /** CPUs, over the last second. */
  cpu: number | null;
}

/** Undefined when the container is gone meanwhile. */
export async function usageOf(container: Docker.Container): Promise<Usage | undefined> {
  try {
    const stats = await container.stats({ stream: false });
    const { usage = 0, stats: parts } = stats.memory_stats;
    const cached = parts?.inactive_file ?? parts?.total_inactive_file ?? 0;
    const processor = stats.cpu_stats.cpu_usage.total_usage - stats.precpu_stats.cpu_usage.total_usage;
    const time = (Date.parse(stats.read) - Date.parse(stats.preread)) * 1e6;
    const cpu = Number.isFinite(time) && time > 0 ? Math.round((processor / time) * 1000) / 1000 : null;
    return { memory: Math.max(usage - cached, 0), cpu };
  } catch {
    return undefined;
  }
}

/** What a server says of itself. */
export type ServerFigures = {
  [Name in "uptime" | "connections" | "maxConnections" | "size" | "wal"]: number;
} & { restartPending: boolean; disk: DiskUse | undefined };

const figuresQuery = `SELECT extract(epoch FROM now() - pg_postmaster_start_time())::bigint,
  (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
  current_setting('max_connections'), (SELECT sum(pg_database_size(oid)) FROM pg_database) + wal, wal,
  (SELECT count(*) FROM pg_settings WHERE pending_restart),
  ${diskUseText}
  FROM (SELECT coalesce(sum(size), 0) AS wal FROM pg_ls_waldir()) AS w`;

/** Over the server's own socket; undefined when it does not answer. */
export async function serverFigures(
  container: Docker.Container,
  version: number,
): Promise<ServerFigures | undefined> {
  try {
    const answer = await askServer(container, {
      version,
      // The tenant may have dropped the first one.
      targets: ["postgres", "template1", byReplication("postgres")],
      sql: figuresQuery,
      seconds: 8,
      outputLimit: 4096,
    });
    const match = /^(\d+)\|(\d+)\|(\d+)\|(\d+)\|(\d+)\|(\d+)\|(.*)$/m.exec(answer);
    if (!match) return undefined;
    const [uptime = 0, connections = 0, maxConnections = 0, size = 0, wal = 0, pending = 0] = match
      .slice(1, 7)
      .map(Number);
    const disk = parseDiskUse(match[7]);
    return { uptime, connections, maxConnections, size, wal, restartPending: pending > 0, disk };
  } catch {
    return undefined;
  }
}
