import { createHash, createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { stringify } from "yaml";
import type { Settings } from "../config";
import { innerPort, type ResourceNames } from "../docker/names";
import { Container, type Programs, programText, TraefikFile } from "../provider/resources";
import { monitorRole } from "../provider/server/inside";
import { barmanVolumes, type PostgresImages } from "./postgres-images";
import { dynamicFolder, entryPoints, metricsPort, monitoringNetwork, type PostgresProxy } from "./proxy";

export interface MonitoringArgs {
  /** The stack's id, which its containers are labelled with. */
  stack: pulumi.Input<string>;
  names: ResourceNames;
  images: PostgresImages;
  proxy: PostgresProxy;
  programs: Programs;
  /** How the stack is watched; undefined when it is not. */
  monitoring?: Settings["monitoring"];
  /** How tenants are backed up that say nothing else. */
  backups: { schedule: string };
  /** IPv4 range from which the network is taken. */
  tenantSubnets: string;
  /** The Docker host, when it is not the default one. */
  dockerHost?: string;
}

type Watched = MonitoringArgs & { monitoring: NonNullable<Settings["monitoring"]> };

const collectorPort = 9101;
const exporterPort = 9187;
/** Where the relay has its key, in its own volume: the image has the folder for its user. */
const relayFolder = "/var/lib/barman";

/** The role that the exporter's sessions have in each server: it reads statistics, and nothing of the tenant's. */
export const monitoredRole = {
  [monitorRole]: { connectionLimit: 4, settings: {}, inRoles: ["pg_monitor"] },
};

/**
 * What watches the stack, on a network of its own: Prometheus; postgres_exporter for all tenants; the relay, by which it
 * comes to their servers through the proxy; the collector, which asks the engine. Which tenants there are is in their
 * routes: one that comes or goes restarts nothing.
 */
export class Monitoring extends pulumi.ComponentResource {
  /** What the tenants' routes wait for: the network is there. */
  readonly ready: pulumi.Resource[];
  private readonly key: pulumi.Output<string>;

  /** @returns undefined when the stack is not watched */
  static asked(
    name: string,
    args: MonitoringArgs,
    opts: pulumi.ComponentResourceOptions,
  ): Monitoring | undefined {
    const { monitoring } = args;
    return monitoring && new Monitoring(name, { ...args, monitoring }, opts);
  }

  private constructor(name: string, args: Watched, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:Monitoring", name, {}, opts);
    this.key = new random.RandomPassword(name, { length: 40, special: false }, { parent: this }).result;
    this.createProxyRoute(args);
    const relay = this.createRelay(args);
    this.createCollector(args);
    this.createExporter(args);
    this.createPrometheus(args);
    this.ready = [relay];
    this.registerOutputs();
  }

  /** Of the role in one tenant's server; the relay derives it in the same way. A secret. */
  password(tenant: string): pulumi.Output<string> {
    return this.key.apply((key) => createHmac("sha256", key).update(tenant).digest("hex"));
  }

  private createProxyRoute({ dockerHost: host, names, proxy }: Watched): void {
    const rule = `ClientIP(\`network:${names.monitoring}\`)`;
    const routers = {
      "monitoring--metrics": { entryPoints: [entryPoints.metrics], rule, service: "prometheus@internal" },
    };
    new TraefikFile(
      "monitoring",
      {
        host,
        container: proxy.containerName,
        path: `${dynamicFolder}/monitoring.yml`,
        content: stringify({ http: { routers } }),
      },
      { parent: this, dependsOn: proxy.ready },
    );
  }

  private createRelay(args: Watched): pulumi.Resource {
    const { dockerHost: host, names, proxy, programs } = args;
    const volume = this.createVolume("relay", names.relay);
    const container = this.createContainer("relay", args, {
      name: names.relay,
      ...args.images.barman,
      entrypoint: ["python3", "-I", "/pgs/monitoring-relay"],
      command: [names.proxy, String(innerPort), "/routes", `${relayFolder}/key`],
      env: [digest(programText("monitoring-relay"))],
      user: "999:999",
      mounts: [
        { volume: programs.volume, path: "/pgs", readOnly: true },
        { volume: proxy.volume, path: "/routes", readOnly: true },
        { volume: volume.name, path: relayFolder },
      ],
      tmpfs: barmanVolumes.filter((folder) => folder !== relayFolder),
      memory: 96 << 20,
    });
    new TraefikFile(
      "relay",
      {
        host,
        container: names.relay,
        path: `${relayFolder}/key`,
        content: pulumi.secret(this.key),
        owner: 999,
      },
      { parent: this, dependsOn: container },
    );
    return container;
  }

  /** The one container that has the engine's socket. Nothing that a tenant can reach talks to it. */
  private createCollector(args: Watched): void {
    const { names, proxy, programs, stack, backups } = args;
    const trials = backups.schedule === "off" ? undefined : this.createVolume("trials", names.trials, stack);
    this.createContainer("collector", args, {
      name: names.collector,
      ...args.images.barman,
      entrypoint: ["python3", "-I", "/pgs/monitoring-collector"],
      command: [pulumi.getStack(), stack, names.proxy, String(innerPort), "/routes", "/trials"],
      env: [digest(programText("monitoring-collector"))],
      // The socket is root's.
      user: "0:0",
      engine: true,
      mounts: [
        { volume: programs.volume, path: "/pgs", readOnly: true },
        { volume: proxy.volume, path: "/routes", readOnly: true },
        ...(trials ? [{ volume: trials.name, path: "/trials", readOnly: true }] : []),
      ],
      tmpfs: barmanVolumes,
      memory: 128 << 20,
    });
  }

  private createExporter(args: Watched): void {
    const { names, programs } = args;
    this.createContainer("exporter", args, {
      name: names.exporter,
      ...args.images.monitoring("exporter"),
      entrypoint: ["/bin/postgres_exporter"],
      command: exporterArguments,
      env: [digest(queries())],
      user: "65534:65534",
      mounts: [{ volume: programs.volume, path: "/pgs", readOnly: true }],
      memory: 128 << 20,
    });
  }

  private createPrometheus(args: Watched): void {
    const { names, programs, monitoring } = args;
    const volume = this.createVolume("prometheus", names.prometheus);
    this.createContainer("prometheus", args, {
      name: names.prometheus,
      ...args.images.monitoring("prometheus"),
      entrypoint: ["/bin/prometheus"],
      command: [
        "--config.file=/pgs/prometheus.yml",
        "--storage.tsdb.path=/prometheus",
        `--storage.tsdb.retention.time=${monitoring.retention}`,
        `--storage.tsdb.retention.size=${monitoring.size}`,
        "--web.listen-address=:9090",
        "--log.level=warn",
      ],
      env: [digest(JSON.stringify(monitoringFiles(args)))],
      user: "65534:65534",
      mounts: [
        { volume: programs.volume, path: "/pgs", readOnly: true },
        { volume: volume.name, path: "/prometheus" },
      ],
      memory: 1 << 30,
      resolvesNames: monitoring.remoteWrite !== undefined,
    });
  }

  private createVolume(resource: string, name: string, stack?: pulumi.Input<string>): docker.Volume {
    return new docker.Volume(
      resource,
      { name, ...(stack && { labels: [{ label: "pgs.stack", value: stack }] }) },
      {
        parent: this,
        ignoreChanges: ["name", "driver", "driverOpts", "labels"],
        // What was seen, and tried, outlives the containers.
        retainOnDelete: resource !== "relay",
      },
    );
  }

  private createContainer(
    role: string,
    args: Watched,
    own: Omit<
      ConstructorParameters<typeof Container>[1],
      "host" | "stack" | "role" | "networks" | "pids" | "cpuShares" | "stopSeconds" | "resolvesNames"
    > & { resolvesNames?: boolean },
  ): Container {
    const out = own.resolvesNames
      ? [{ ...monitoringNetwork(args), name: args.names.monitoringOut, internal: false }]
      : [];
    return new Container(
      role,
      {
        resolvesNames: false,
        ...own,
        host: args.dockerHost,
        stack: args.stack,
        role,
        networks: [monitoringNetwork(args), ...out],
        pids: 128,
        cpuShares: 128,
        stopSeconds: 10,
      },
      { parent: this, dependsOn: args.proxy.ready },
    );
  }
}

/** Another text is another container. */
function digest(text: string): string {
  return `PROGRAM=${createHash("sha256").update(text).digest("hex").slice(0, 16)}`;
}

function queries(): string {
  return readFileSync(join(__dirname, "..", "monitoring", "queries.yaml"), "utf8");
}

/**
 * What is left has few series, whatever a tenant does: no collector here goes by table, index, application or query text.
 * https://github.com/prometheus-community/postgres_exporter#flags
 */
const exporterArguments = [
  `--web.listen-address=:${exporterPort}`,
  "--log.level=error",
  "--disable-default-metrics",
  "--disable-settings-metrics",
  "--extend.query-path=/pgs/queries.yaml",
  ...[
    "database_wraparound",
    "locks",
    "long_running_transactions",
    "postmaster",
    "stat_checkpointer",
    "stat_statements",
  ].map((name) => `--collector.${name}`),
  "--collector.stat_statements.limit=5",
  "--collector.stat_statements.exclude_databases=postgres,template1",
  ...[
    "replication",
    "replication_slot",
    "roles",
    "stat_progress_vacuum",
    "stat_user_tables",
    "statio_user_tables",
    "statio_user_indexes",
  ].map((name) => `--no-collector.${name}`),
];

/** Files for the volume with programs, by name; none where the stack is not watched. */
export function monitoringFiles(args: Pick<MonitoringArgs, "names" | "monitoring">): Record<string, string> {
  if (!args.monitoring) return {};
  return {
    "monitoring-relay": programText("monitoring-relay"),
    "monitoring-collector": programText("monitoring-collector"),
    "queries.yaml": queries(),
    "prometheus.yml": prometheusConfiguration(args as Watched),
  };
}

/** https://prometheus.io/docs/prometheus/latest/configuration/configuration/ */
function prometheusConfiguration({ names, monitoring }: Watched): string {
  const stack = pulumi.getStack();
  const fixed = (target: string) => [{ targets: [target], labels: { stack } }];
  const limits = { label_value_length_limit: 200, label_limit: 20 };
  return stringify({
    global: { scrape_interval: "15s", scrape_timeout: "10s" },
    scrape_configs: [
      { job_name: "prometheus", static_configs: fixed("localhost:9090") },
      {
        job_name: "pgs",
        honor_labels: true,
        ...limits,
        static_configs: fixed(`${names.collector}:${collectorPort}`),
      },
      {
        job_name: "traefik",
        static_configs: fixed(`${names.proxy}:${metricsPort}`),
        metric_relabel_configs: [
          { source_labels: ["__name__"], regex: "traefik_.*|process_.*", action: "keep" },
        ],
      },
      {
        job_name: "postgres",
        metrics_path: "/probe",
        scrape_interval: "60s",
        scrape_timeout: "12s",
        sample_limit: 150,
        body_size_limit: "1MB",
        ...limits,
        http_sd_configs: [
          { url: `http://${names.collector}:${collectorPort}/targets`, refresh_interval: "5s" },
        ],
        relabel_configs: [
          {
            source_labels: ["tenant"],
            target_label: "__param_target",
            replacement: `postgresql://${monitorRole}@${names.relay}:5432/$1?sslmode=disable`,
          },
          { source_labels: ["tenant"], target_label: "instance" },
          { target_label: "__address__", replacement: `${names.exporter}:${exporterPort}` },
        ],
        metric_relabel_configs: ofOwnDatabase,
      },
    ],
    ...(monitoring.remoteWrite && { remote_write: [{ url: monitoring.remoteWrite }] }),
  });
}

/** Of what goes by database, the tenant's own is kept: it may make any number of others. Its name is the tenant's id. */
const ofOwnDatabase = [
  {
    source_labels: ["__name__"],
    regex: "pg_scrape_.*|pg_exporter_.*|go_.*|.*_stats_reset.*",
    action: "drop",
  },
  {
    source_labels: ["datname", "tenant"],
    separator: ";",
    regex: ";(.+)",
    target_label: "__tmp",
    replacement: "$1",
  },
  { source_labels: ["datname"], regex: "(.+)", target_label: "__tmp", replacement: "$1" },
  { source_labels: ["__tmp"], target_label: "tenant", action: "keepequal" },
  { regex: "__tmp|datid|server|instance", action: "labeldrop" },
];
