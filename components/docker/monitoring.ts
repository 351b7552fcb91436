import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { stringify } from "yaml";
import type { Settings } from "../../config";
import { innerPort, type ResourceNames } from "../../docker/names";
import { monitorRole } from "../../docker/session-options";
import { alertmanagerConfiguration, secretsFolder } from "../../monitoring/alertmanager";
import { grafanaFiles } from "../../monitoring/grafana";
import { ruleFile } from "../../monitoring/rules";
import { Container, type Programs, programText, programVersion, TraefikFile } from "../../provider/resources";
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
  /** What those ask for that alerts are sent to, by name. */
  alertCredentials: Record<string, pulumi.Output<string>>;
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
const prometheusPort = 9090;
const alertmanagerPort = 9093;
/** The user of the official images of Prometheus and what belongs to it. */
const nobody = 65534;
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
    this.createAlertmanager(args);
    this.createGrafana(args);
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
      env: [programVersion(programText("monitoring-relay"))],
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
      command: [
        ...[pulumi.getStack(), stack, names.proxy, String(innerPort), "/routes", "/trials"],
        ...(haste === 1 ? [] : [String(haste)]),
      ],
      env: [programVersion(programText("monitoring-collector"))],
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
      env: [programVersion(queries())],
      user: `${nobody}:${nobody}`,
      mounts: [{ volume: programs.volume, path: "/pgs", readOnly: true }],
      memory: 128 << 20,
    });
  }

  private createPrometheus(args: Watched): void {
    const { names, programs, monitoring } = args;
    const volume = this.createVolume("prometheus", names.prometheus);
    const files = monitoringFiles(args);
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
      configuration: programVersion(JSON.stringify([files["prometheus.yml"], files["rules.yml"]])),
      user: `${nobody}:${nobody}`,
      mounts: [
        { volume: programs.volume, path: "/pgs", readOnly: true },
        { volume: volume.name, path: "/prometheus" },
      ],
      memory: 1 << 30,
      resolvesNames: monitoring.remoteWrite !== undefined,
    });
  }

  /** Its configuration has no secret. Those are files in its volume, and read whenever one is needed. */
  private createAlertmanager(args: Watched): void {
    const { dockerHost: host, names, programs, monitoring, alertCredentials } = args;
    if (!monitoring.alerts) return;
    const volume = this.createVolume("alertmanager", names.alertmanager);
    const container = this.createContainer("alertmanager", args, {
      name: names.alertmanager,
      ...args.images.monitoring("alertmanager"),
      entrypoint: ["/bin/alertmanager"],
      command: [
        "--config.file=/pgs/alertmanager.yml",
        `--storage.path=${secretsFolder}/data`,
        `--web.listen-address=:${alertmanagerPort}`,
        "--cluster.listen-address=",
        "--log.level=warn",
      ],
      configuration: programVersion(JSON.stringify(monitoringFiles(args)["alertmanager.yml"])),
      user: `${nobody}:${nobody}`,
      mounts: [
        { volume: programs.volume, path: "/pgs", readOnly: true },
        { volume: volume.name, path: secretsFolder },
      ],
      memory: 128 << 20,
      resolvesNames: true,
    });
    for (const [name, content] of Object.entries(alertCredentials)) {
      new TraefikFile(
        `alertmanager-${name}`,
        { host, container: names.alertmanager, path: `${secretsFolder}/${name}`, content, owner: nobody },
        { parent: this, dependsOn: container },
      );
    }
  }

  /** For looking only: it knows no user, and nothing leads to it but the Docker host. */
  private createGrafana(args: Watched): void {
    const { names, programs, monitoring } = args;
    if (!monitoring.grafana) return;
    const volume = this.createVolume("grafana", names.grafana);
    this.createContainer("grafana", args, {
      name: names.grafana,
      ...args.images.monitoring("grafana"),
      command: [],
      env: [
        programVersion(JSON.stringify(grafanaFiles(`http://${names.prometheus}:${prometheusPort}`))),
        "GF_PATHS_PROVISIONING=/pgs/grafana",
        "GF_AUTH_ANONYMOUS_ENABLED=true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE=Viewer",
        "GF_AUTH_BASIC_ENABLED=false",
        "GF_AUTH_DISABLE_LOGIN_FORM=true",
        "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION=true",
        "GF_ANALYTICS_REPORTING_ENABLED=false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES=false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES=false",
        "GF_PLUGINS_PREINSTALL_DISABLED=true",
        "GF_LOG_MODE=console",
      ],
      user: "472:0",
      mounts: [
        { volume: programs.volume, path: "/pgs", readOnly: true },
        { volume: volume.name, path: "/var/lib/grafana" },
      ],
      tmpfs: ["/tmp"],
      memory: 256 << 20,
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

function queries(): string {
  return readFileSync(join(__dirname, "..", "..", "monitoring", "queries.yaml"), "utf8");
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
  ...["locks", "stat_checkpointer", "stat_statements"].map((name) => `--collector.${name}`),
  "--collector.stat_statements.limit=5",
  "--collector.stat_statements.exclude_databases=postgres,template1",
  ...[
    "database",
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
export function monitoringFiles(
  args: Pick<MonitoringArgs, "names" | "monitoring" | "alertCredentials">,
): Record<string, string> {
  if (!args.monitoring) return {};
  const { alerts, grafana } = args.monitoring;
  const credentials = Object.keys(args.alertCredentials);
  return {
    "monitoring-relay": programText("monitoring-relay"),
    "monitoring-collector": programText("monitoring-collector"),
    "queries.yaml": queries(),
    "prometheus.yml": prometheusConfiguration(args as Watched),
    "rules.yml": ruleFile({ haste }),
    ...(alerts && { "alertmanager.yml": alertmanagerConfiguration(alerts, { credentials, haste }) }),
    ...(grafana && grafanaFiles(`http://${args.names.prometheus}:${prometheusPort}`)),
  };
}

/** By this all durations of alerts and all intervals are divided: for tests with real faults (CONTRIBUTING.md). */
const haste = Number(process.env.PGS_MONITORING_HASTE ?? 1);

/** An interval for Prometheus. @param least seconds below which even tests do not go, on a busy machine */
function every(seconds: number, least: number): string {
  return `${Math.max(least, Math.round(seconds / haste))}s`;
}

/** https://prometheus.io/docs/prometheus/latest/configuration/configuration/ */
function prometheusConfiguration({ names, monitoring }: Watched): string {
  const stack = pulumi.getStack();
  const fixed = (target: string) => [{ targets: [target], labels: { stack } }];
  const limits = { label_value_length_limit: 200, label_limit: 20 };
  return stringify({
    global: {
      scrape_interval: every(15, 4),
      scrape_timeout: every(10, 4),
      evaluation_interval: every(15, 2),
    },
    rule_files: ["/pgs/rules.yml"],
    ...(monitoring.alerts && {
      alerting: {
        alertmanagers: [{ static_configs: [{ targets: [`${names.alertmanager}:${alertmanagerPort}`] }] }],
      },
    }),
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
        job_name: "exporter",
        static_configs: fixed(`${names.exporter}:${exporterPort}`),
        metric_relabel_configs: [{ source_labels: ["__name__"], regex: "process_.*", action: "keep" }],
      },
      {
        job_name: "postgres",
        metrics_path: "/probe",
        scrape_interval: every(60, 5),
        scrape_timeout: every(12, 5),
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
