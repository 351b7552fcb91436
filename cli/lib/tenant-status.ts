import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import { containersOf, engine, forEach, outputOf } from "./engine";
import type { StackConfig, TenantSummaries, TenantSummary } from "./stack";

/** A tenant as it is now; null is what a server that does not run, or does not answer, has not. */
export interface TenantStatus {
  id: string;
  host: string;
  port: number;
  version: number;
  access: boolean;
  /**
   * `running`: answers. `stopped`: as tenants.yaml wants it. `missing`: should run, and has no container.
   * `starting`, `silent`: runs, but does not answer (yet). `unhealthy`: by its health check. Otherwise the
   * engine's own word: `exited`, `restarting`, `paused`, `created`, `dead`.
   */
  state: string;
  /** Bytes. */
  memory: { used: number | null; limit: number };
  /** CPUs, over the last half second. */
  cpu: { used: number | null; limit: number };
  /** Bytes of all databases and of the write-ahead log. */
  size: number | null;
  /** Open client sessions. */
  connections: number | null;
  maxConnections: number | null;
  /** Seconds since the server started. */
  uptime: number | null;
}

/** How many requests the engine gets at a time. */
const atOnce = 16;
/** Milliseconds between two looks at the processor time: a shorter time says little. */
const cpuInterval = 500;

/** Asks the engine once for the containers; of each that runs twice for its usage, and its server once. */
export async function tenantStatuses(tenants: TenantSummaries, config: StackConfig): Promise<TenantStatus[]> {
  const docker = engine(config.dockerHost);
  const containers = await containersOf(docker, config.prefix, config.dockerHost);
  const all = Object.entries(tenants).map(([id, summary]) => ({
    id,
    summary,
    info: containers.get(`${config.prefix}-${id}`),
  }));
  const running = all.flatMap(({ id, info }) => (info?.State === "running" ? [{ id, info }] : []));
  const container = ({ info }: { info: Docker.ContainerInfo }) => docker.getContainer(info.Id);
  // The processor time before the servers are asked: the question itself costs some.
  const first = await forEach(running, atOnce, (one) => usage(container(one)));
  await delay(running.length > 0 ? cpuInterval : 0);
  const second = await forEach(running, atOnce, (one) => usage(container(one)));
  const figures = await forEach(running, atOnce, (one) => serverFigures(container(one)));
  const live = new Map(
    running.map(({ id }, index) => [
      id,
      { server: figures[index], cpu: cpusUsed(first[index], second[index]), usage: second[index] },
    ]),
  );

  return all.map(({ id, summary, info }) => {
    const { server, cpu, usage } = live.get(id) ?? {};
    return {
      id,
      host: summary.host,
      port: summary.port,
      version: summary.version,
      access: summary.access,
      state: stateOf(summary, info, server !== undefined),
      memory: { used: usage?.memory ?? null, limit: summary.memory },
      cpu: { used: cpu ?? null, limit: summary.cpus },
      size: server?.size ?? null,
      connections: server?.connections ?? null,
      maxConnections: server?.maxConnections ?? null,
      uptime: server?.uptime ?? null,
    };
  });
}

export function stateOf(
  summary: Pick<TenantSummary, "state">,
  info: Pick<Docker.ContainerInfo, "State" | "Status"> | undefined,
  answers: boolean,
): string {
  if (!info) return summary.state === "running" ? "missing" : "stopped";
  if (info.State !== "running") return info.State;
  if (info.Status.includes("(unhealthy)")) return "unhealthy";
  if (answers) return "running";
  return info.Status.includes("(health: starting)") ? "starting" : "silent";
}

interface Usage {
  /** Bytes, without what is only cached, as `docker stats` counts it. */
  memory: number;
  /** Nanoseconds of processor time. */
  cpu: number;
  /** Milliseconds, by the engine's clock. */
  at: number;
}

/** Undefined when the container is gone meanwhile. */
async function usage(container: Docker.Container): Promise<Usage | undefined> {
  try {
    const stats = await container.stats({ stream: false, "one-shot": true });
    const { usage = 0, stats: parts } = stats.memory_stats;
    const cached = parts?.inactive_file ?? parts?.total_inactive_file ?? 0;
    return {
      memory: Math.max(usage - cached, 0),
      cpu: stats.cpu_stats.cpu_usage.total_usage,
      at: Date.parse(stats.read),
    };
  } catch {
    return undefined;
  }
}

function cpusUsed(first: Usage | undefined, second: Usage | undefined): number | undefined {
  if (!first || !second || second.at <= first.at) return undefined;
  return Math.round(((second.cpu - first.cpu) / 1e6 / (second.at - first.at)) * 1000) / 1000;
}

const figuresQuery = `SELECT extract(epoch FROM now() - pg_postmaster_start_time())::bigint,
  (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
  current_setting('max_connections'),
  (SELECT sum(pg_database_size(oid)) FROM pg_database) + (SELECT coalesce(sum(size), 0) FROM pg_ls_waldir())`;

/** Over the server's own socket; undefined when it does not answer. */
async function serverFigures(container: Docker.Container) {
  const psql = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username", "postgres"];
  try {
    const answer = await outputOf(
      container,
      ["timeout", "10", ...psql, "--dbname", "postgres", "--command", figuresQuery],
      ["PGAPPNAME=pgs", "PGOPTIONS=-c log_statement=none -c log_min_duration_statement=-1"],
      15,
    );
    const match = /^(\d+)\|(\d+)\|(\d+)\|(\d+)$/m.exec(answer ?? "");
    if (!match) return undefined;
    const [uptime, connections, maxConnections, size] = match.slice(1).map(Number) as [
      number,
      number,
      number,
      number,
    ];
    return { uptime, connections, maxConnections, size };
  } catch {
    return undefined;
  }
}
