import { statfs } from "node:fs/promises";
import { text } from "node:stream/consumers";
import type Docker from "dockerode";
import { dockerClient, engineName } from "../../docker/client";
import { roleLabel, tenantLabel } from "../../docker/labels";
import { resourceNames } from "../../docker/names";
import { connectionParameters, dockerHostAddress, resolve } from "../lib/address";
import { askServer } from "../lib/ask-server";
import { judgedBackups } from "../lib/backup-status";
import { containersOf } from "../lib/containers";
import { type PastRun, tenantsChanged } from "../lib/limited-up";
import { Metrics } from "../lib/metrics";
import { restoreUnderWay } from "../lib/restore-in-place";
import { serverLog } from "../lib/server-log";
import { caOf, requiredOutputs, stackConfig, stackHistory } from "../lib/stack";
import { TenantBackups } from "../lib/tenant-backups";
import { probeTls } from "../lib/tenant-probe";
import { type ServerFigures, serverFigures, tenantStatus, type Usage, usageOf } from "../lib/tenant-status";
import { readTop } from "../lib/top";
import { commandInTurn } from "../lib/turn";
import type {
  Answer,
  Certificate,
  Change,
  Charts,
  Fleet,
  FleetRow,
  Host,
  Overview,
  Source,
  TenantBackupsDetails,
  TenantDetails,
  Top,
} from "./api";
import { Fact } from "./fact";
import { History } from "./history";
import { chartsQuery, connectionsQuery, cpuQuery, measuredCharts } from "./measured";

/** How many servers are asked at a time: each takes a process in its container. */
const atOnce = 8;
const statementsShown = 20;
const linesShown = 200;
/** Points of a sparkline. */
const sparkPoints = 40;
const sparkHours = 3;

interface TenantFacts {
  usage: Fact<Usage | undefined>;
  figures: Fact<ServerFigures | undefined>;
  history: History;
  /** By the hours that they are of. */
  charts: Map<number, Fact<Charts>>;
  top: Fact<Top>;
  backups: Fact<TenantBackupsDetails["bases"]>;
  log: Fact<string[]>;
}

/** What the commands know of the selected stack. */
export class StackSource implements Source {
  private readonly stack = new Fact(15, async () => {
    const [outputs, config] = await Promise.all([requiredOutputs({ states: true }), stackConfig()]);
    return { outputs, config, names: resourceNames(config.prefix), docker: dockerClient(config.dockerHost) };
  });
  private readonly containers = new Fact(2, async () => {
    const { config, outputs } = await this.stack.get();
    return containersOf(config, outputs);
  });
  private readonly judged = new Fact(60, async () => {
    const { config, outputs, names } = await this.stack.get();
    const containers = await this.containers.get();
    const created = (id: string) => containers.get(names.tenant(id))?.Created;
    const all = await judgedBackups(
      new TenantBackups(config, outputs.stack),
      outputs.tenants,
      config,
      created,
    );
    return new Map(all.map((one) => [one.tenant, one]));
  });
  private readonly engine = new Fact(15, async () => {
    const { config, docker } = await this.stack.get();
    const { ServerVersion, NCPU, MemTotal, DockerRootDir } = await docker.info();
    const address = engineName(config.dockerHost);
    return {
      engine: { address, version: ServerVersion, cpus: NCPU, memory: MemTotal },
      disk: address.startsWith("unix:") ? await diskAt(DockerRootDir) : null,
    };
  });
  private readonly certificate = new Fact(60, () => this.readCertificate());
  private readonly history = new Fact<Change[]>(15, async () => (await stackHistory()).map(changeOf));
  private readonly metrics = new Fact(15, async () => {
    const { config, outputs } = await this.stack.get();
    return Metrics.of(config, outputs);
  });
  private readonly cpuHistory = new Fact(60, async () => {
    const metrics = await this.metrics.get();
    const found = await metrics?.queryRange(cpuQuery(), sparkHours, sparkPoints);
    return new Map(
      found?.map(({ labels, points }) => [labels.tenant, points.map(([, value]) => rounded(value))]),
    );
  });
  private readonly proxyConnections = new Fact(15, async () => {
    const [found] = (await (await this.metrics.get())?.query(connectionsQuery)) ?? [];
    return found?.value ?? null;
  });
  private readonly facts = new Map<string, TenantFacts>();
  private readonly limited = limit(atOnce);

  /** @throws CommandError where there is no stack to look at */
  async begin(): Promise<string> {
    return (await this.stack.get()).outputs.stack;
  }

  async overview(): Promise<Answer<Overview>> {
    return mapped(await this.stack.answer(), ({ outputs }) => ({ stack: outputs.stack }));
  }

  async fleet(): Promise<Answer<Fleet>> {
    const [stack, containers] = await Promise.all([this.stack.answer(), this.containers.answer()]);
    const [found, known] = [stack.value, containers.value];
    if (!found || !known) return { at: null, value: null, problem: containers.problem ?? stack.problem };
    const { outputs, config } = found;
    return {
      at: containers.at,
      problem: containers.problem ?? stack.problem,
      value: {
        tenants: Object.keys(outputs.tenants).map((id) => this.row(id, found, known)),
        running: commandInTurn(config.tenantsFile)?.command ?? null,
      },
    };
  }

  private row(
    id: string,
    { outputs, config, names }: Stack,
    containers: Map<string, Docker.ContainerInfo>,
  ): FleetRow {
    const summary = outputs.tenants[id] as Stack["outputs"]["tenants"][string];
    const info = containers.get(names.tenant(id));
    const { usage, figures, history } = this.of(id);
    const live = info?.State === "running" ? { usage: usage.peek(), server: figures.peek() } : undefined;
    const status = tenantStatus(id, summary, info, {
      asked: live?.server.at != null,
      usage: live?.usage.value ?? undefined,
      server: live?.server.value ?? undefined,
    });
    const restoring = info?.State !== "running" && restoreUnderWay(id, config) !== undefined;
    const backup = this.judged.peek().value?.get(id);
    return {
      ...status,
      state: restoring ? "restoring" : status.state,
      backup: backup ? { exposed: backup.exposed, problem: backup.problem, pending: backup.pending } : null,
      cpuHistory: this.cpuHistory.peek().value?.get(id) ?? history.last("cpu", sparkPoints),
    };
  }

  async host(): Promise<Answer<Host>> {
    const [engine, fleet] = await Promise.all([this.engine.answer(), this.fleet()]);
    const { value: stack } = this.stack.peek();
    if (!engine.value || !fleet.value || !stack) return { ...engine, value: null };
    const containers = this.containers.peek().value ?? new Map<string, Docker.ContainerInfo>();
    const on = fleet.value.tenants.filter(({ state }) => state !== "stopped");
    const sum = (of: (row: FleetRow) => number | null) => on.reduce((all, row) => all + (of(row) ?? 0), 0);
    const services = [...containers].flatMap(([name, { Labels, State, Status }]) =>
      Labels[tenantLabel] === undefined
        ? [{ name, role: Labels[roleLabel] ?? "", state: State, status: Status }]
        : [],
    );
    return {
      at: engine.at,
      problem: engine.problem ?? fleet.problem,
      value: {
        ...engine.value,
        memory: { promised: sum(({ memory }) => memory.limit), used: sum(({ memory }) => memory.used) },
        cpus: { promised: sum(({ cpu }) => cpu.limit), used: sum(({ cpu }) => cpu.used) },
        port: stack.config.port,
        connections: (await this.proxyConnections.answer()).value,
        services: services.sort((one, other) => (one.name < other.name ? -1 : 1)),
        certificate: await this.certificate.answer(),
      },
    };
  }

  changes(): Promise<Answer<Change[]>> {
    return this.history.answer();
  }

  async tenant(id: string): Promise<Answer<TenantDetails> | undefined> {
    const stack = await this.known(id);
    if (!stack) return undefined;
    const { outputs, config } = stack;
    const summary = outputs.tenants[id] as Stack["outputs"]["tenants"][string];
    const [fleet, connection] = await Promise.all([
      this.containers.answer(),
      connectionParameters(summary, config.dockerHost),
    ]);
    return mapped(fleet, (containers) => ({
      id,
      summary,
      row: this.row(id, stack, containers),
      connection,
      ownCa: caOf(summary, outputs, config) !== null,
    }));
  }

  async charts(id: string, hours: number): Promise<Answer<Charts> | undefined> {
    const stack = await this.known(id);
    if (!stack) return undefined;
    const metrics = await this.metrics.answer();
    if (metrics.value) return this.chartsOf(id, hours).answer();
    return { value: this.of(id).history.charts(), at: Date.now(), problem: metrics.problem };
  }

  /** From the stack's monitoring. */
  private chartsOf(id: string, hours: number): Fact<Charts> {
    const { charts } = this.of(id);
    let fact = charts.get(hours);
    if (!fact) {
      fact = new Fact(15, async () => {
        const metrics = await this.metrics.get();
        return measuredCharts((await metrics?.queryRange(chartsQuery(id), hours)) ?? []);
      });
      charts.set(hours, fact);
    }
    return fact;
  }

  async top(id: string): Promise<Answer<Top> | undefined> {
    return (await this.known(id)) && this.of(id).top.answer();
  }

  async backups(id: string): Promise<Answer<TenantBackupsDetails> | undefined> {
    if (!(await this.known(id))) return undefined;
    const [judged, bases] = await Promise.all([this.judged.answer(), this.of(id).backups.answer()]);
    return {
      value: bases.value && judged.value && { judged: judged.value.get(id) ?? null, bases: bases.value },
      at: judged.at,
      problem: bases.problem ?? judged.problem,
    };
  }

  async log(id: string): Promise<Answer<string[]> | undefined> {
    return (await this.known(id)) && this.of(id).log.answer();
  }

  /** The stack, if it has the tenant. */
  private async known(id: string): Promise<Stack | undefined> {
    const stack = await this.stack.get();
    return Object.hasOwn(stack.outputs.tenants, id) ? stack : undefined;
  }

  private of(id: string): TenantFacts {
    let facts = this.facts.get(id);
    if (!facts) {
      const history = new History();
      const server = async () => {
        const { docker, names, outputs } = await this.stack.get();
        const tenant = outputs.tenants[id] as Stack["outputs"]["tenants"][string];
        return { container: docker.getContainer(names.tenant(id)), tenant };
      };
      facts = {
        history,
        charts: new Map(),
        usage: new Fact(3, async () => {
          const usage = await usageOf((await server()).container);
          if (usage) history.add(Date.now(), usage);
          return usage;
        }),
        figures: new Fact(5, () =>
          this.limited(async () => {
            const { container, tenant } = await server();
            const figures = await serverFigures(container, tenant.version);
            if (figures) history.add(Date.now(), { connections: figures.connections, size: figures.size });
            return figures;
          }),
        ),
        top: new Fact(3, async () => {
          const { container, tenant } = await server();
          return readTop((question) => askServer(container, question), tenant, statementsShown);
        }),
        backups: new Fact(60, async () => {
          const { config, outputs } = await this.stack.get();
          return new TenantBackups(config, outputs.stack).backupsOf(id);
        }),
        log: new Fact(3, async () => {
          const { tenant } = await server();
          const { config } = await this.stack.get();
          const all = await text(await serverLog(id, tenant, config, { tail: linesShown }));
          return all.trimEnd().split("\n").slice(-linesShown).map(cut);
        }),
      };
      this.facts.set(id, facts);
    }
    return facts;
  }

  /** Of the first tenant that clients can reach. */
  private async readCertificate(): Promise<Certificate> {
    const { outputs, config } = await this.stack.get();
    const [, tenant] =
      Object.entries(outputs.tenants).find(([, { access, state }]) => access && state === "running") ?? [];
    if (!tenant) throw new Error("no tenant can be reached, so none is shown");
    const [own] = await resolve(tenant.host);
    const address = own ?? (await dockerHostAddress(config.dockerHost));
    if (!address) throw new Error(`${tenant.host} does not resolve`);
    const target = { address, port: tenant.port, host: tenant.host, ca: caOf(tenant, outputs, config) };
    const { certificate, untrusted, unreachable } = await probeTls(target, tenant.user);
    if (!certificate) throw new Error(unreachable ?? "the proxy shows none");
    return {
      names: String(certificate.subjectaltname ?? certificate.subject?.CN ?? "").replaceAll("DNS:", ""),
      issuer: String(certificate.issuer?.CN ?? certificate.issuer?.O ?? ""),
      notAfter: Date.parse(certificate.valid_to),
      untrusted: untrusted ?? null,
    };
  }
}

type Stack = Awaited<ReturnType<StackSource["stack"]["get"]>>;

/** Not the whole run: the configuration is in it too. */
function changeOf(run: PastRun): Change {
  const { kind, result, message, startTime, endTime, resourceChanges } = run;
  const tenants = tenantsChanged(message) ?? null;
  return { kind, result, message: tenants ? "" : message, startTime, endTime, resourceChanges, tenants };
}

function mapped<From, To>({ value, ...rest }: Answer<From>, change: (value: From) => To): Answer<To> {
  return { ...rest, value: value === null ? null : change(value) };
}

async function diskAt(path: string): Promise<Host["disk"]> {
  try {
    const { bsize, blocks, bavail } = await statfs(path);
    return { size: blocks * bsize, free: bavail * bsize };
  } catch {
    return null;
  }
}

/** To thousandths: it is drawn 18 pixels high. */
function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/** A line of a log can have any length. */
function cut(line: string): string {
  return line.length > 2000 ? `${line.slice(0, 2000)}…` : line;
}

/** Lets so many of the calls run at a time. */
function limit(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  let free = most;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (free > 0) free--;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else free++;
    }
  };
}
