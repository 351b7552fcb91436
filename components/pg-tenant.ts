import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { stringify } from "yaml";
import { PostgresServer, Restore } from "../provider/resources";
import { positionOf, type Tenant } from "../tenants";
import { type BackupPlan, backupPlan, retentionDays } from "../tenants/backup";
import { needsRestart } from "../tenants/postgres-settings";
import { backupSettings, sizedSettings } from "../tenants/sizing";
import type { Backups } from "./backups";
import type { PostgresImages } from "./postgres-images";
import { dynamicFolder, entryPoint, type PostgresProxy } from "./proxy";
import type { StackMark } from "./stack-mark";
import type { TenantNetwork, TenantNetworks } from "./tenant-networks";
import type { WildcardCertificate } from "./wildcard-certificate";

export interface PgTenantArgs {
  tenant: Tenant;
  /** Names of the container, volume and network start with it. */
  prefix: string;
  /** The tenant is reached at HOSTNAME.domain, on `port`. */
  domain: string;
  port: number;
  /** Whether a hostname that follows from the id ends in random characters, so that it cannot be guessed. */
  hostnameSuffix: "none" | "random";
  images: PostgresImages;
  /** The operator's own passwords by tenant id; a tenant without one gets a random one. */
  passwords: pulumi.Output<Record<string, string>>;
  /** Signs the certificate of a server that TLS is passed through to. */
  certificate: WildcardCertificate;
  proxy: PostgresProxy;
  networks: TenantNetworks;
  mark: StackMark;
  /** How tenants are backed up that say nothing else. */
  backups: BackupPlan;
  /** What backs them up; undefined when the stack's backups are off. */
  barman?: Backups;
  /** IPv4 range of the tenants' networks. */
  tenantSubnets: string;
  /** The Docker host, when it is not the default one. */
  dockerHost?: string;
}

/** The role that a tenant logs in as: its server's superuser. */
const role = "postgres";

/** A PostgreSQL server for one tenant, and the route to it. */
export class PgTenant extends pulumi.ComponentResource {
  readonly id: string;
  /** A secret. */
  readonly connectionString: pulumi.Output<string>;
  /** What the stack's output says of the tenant. */
  readonly summary: Record<string, pulumi.Input<string | number | boolean | Record<string, string>>>;

  constructor(name: string, args: PgTenantArgs, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:PgTenant", name, {}, opts);
    const { tenant } = args;
    const host = this.createHost(name, args);
    const password = this.createPassword(name, args);
    const volume = this.createVolume(name, args);
    const network = args.networks.of(tenant.id, this);
    const container =
      tenant.state === "running"
        ? this.createContainer(name, args, volume, network, this.createRestore(name, args, volume))
        : undefined;
    this.createServer(name, args, { container, volume, network, password, host });

    this.id = tenant.id;
    this.connectionString = pulumi.secret(
      pulumi.interpolate`postgresql://${role}:${password.apply(encodeURIComponent)}@${host}:${args.port}/${tenant.id}?sslmode=require`,
    );
    this.summary = {
      host,
      port: args.port,
      database: tenant.id,
      user: role,
      access: tenant.access,
      state: tenant.state,
      tls: tenant.tls,
      version: tenant.version,
      memory: tenant.memory,
      cpus: tenant.cpus,
      backup: { ...backupPlan(tenant, args.backups) },
    };
    this.registerOutputs();
  }

  /** The name that clients connect to. One that the operator wrote is used as it is. */
  private createHost(name: string, args: PgTenantArgs): pulumi.Input<string> {
    const { tenant, domain } = args;
    if (tenant.hostname !== undefined) return `${tenant.hostname}.${domain}`;
    if (args.hostnameSuffix === "none") return `${tenant.id}.${domain}`;
    const suffix = new random.RandomString(
      name,
      { length: 6, special: false, upper: false },
      { parent: this },
    );
    return pulumi.interpolate`${tenant.id}-${suffix.result}.${domain}`;
  }

  /** Letters and digits alone, unless the operator chose it: safe in a URL, and in a shell. */
  private createPassword(name: string, { tenant, passwords }: PgTenantArgs): pulumi.Output<string> {
    const password = new random.RandomPassword(
      name,
      { length: 32, special: false, keepers: { version: String(tenant.passwordVersion) } },
      { parent: this },
    );
    return pulumi
      .all([passwords, password.result])
      .apply(([chosen, generated]) =>
        Object.hasOwn(chosen, tenant.id) ? (chosen[tenant.id] as string) : generated,
      );
  }

  /**
   * The data. No edit replaces it: what could is ignored, and what removing the entry does to it counts as
   * it was applied last.
   */
  private createVolume(name: string, { tenant, prefix }: PgTenantArgs): docker.Volume {
    return new docker.Volume(
      name,
      {
        // One that exists is taken up as it is.
        name: tenant.volume ?? `${prefix}-${tenant.id}`,
        // The label of a volume that exists stays as it is, also when an entry takes the volume up again.
        labels: [{ label: "pgs.version", value: String(tenant.version) }],
      },
      {
        parent: this,
        ignoreChanges: ["name", "driver", "driverOpts", "labels"],
        retainOnDelete: tenant.onRemove === "retain",
      },
    );
  }

  /** Only for an entry with `restoreFrom`; it counts when the volume is first made. */
  private createRestore(name: string, args: PgTenantArgs, volume: docker.Volume): Restore | undefined {
    const { tenant, barman } = args;
    const { restoreFrom } = tenant;
    if (!restoreFrom) return undefined;
    if (!barman) {
      throw new pulumi.RunError(
        `${positionOf(tenant, "restoreFrom")}: restoreFrom needs the stack's backups, and pgs:backups.schedule is off: set it, or take restoreFrom out`,
      );
    }
    const { settings, settingsWithRestart, settingsAtNextStart } = settingsByEffect(args);
    return new Restore(
      name,
      {
        host: args.dockerHost,
        volume: volume.name,
        from: restoreFrom.tenant,
        at: restoreFrom.at,
        database: tenant.id,
        version: tenant.version,
        settings: { ...settings, ...settingsWithRestart, ...settingsAtNextStart },
        barman: barman.containerName,
        backups: barman.volumeName,
        barmanImage: barman.imageId,
        offsiteNetwork: barman.offsiteNetwork,
        image: args.images.idOf(tenant.version),
      },
      { parent: this, dependsOn: [barman] },
    );
  }

  private createContainer(
    name: string,
    args: PgTenantArgs,
    volume: docker.Volume,
    network: TenantNetwork,
    restore: Restore | undefined,
  ): docker.Container {
    const { tenant } = args;
    const image = args.images.idOf(tenant.version);
    return new docker.Container(
      name,
      {
        ...args.mark.of(containerName(args), { volume: volume.name, image }),
        image,
        networksAdvanced: [{ name: network.name }],
        // Engines before 23.0.11 and 25.0.4 would ask the host's own resolver for names outside: a way out.
        dns: ["0.0.0.0"],
        dnsOpts: ["timeout:1", "attempts:1"],
        volumes: [
          {
            volumeName: volume.name.apply((present) => adopted(tenant, present)),
            containerPath: "/var/lib/postgresql",
          },
        ],
        entrypoints: ["sh", "-c", tenant.volume ? startOnAdopted : startServer, "sh"],
        command: ["postgres"],
        // The image insists on a password for a new data directory: one that nobody can know. The real one
        // is set on the running server, so that no secret is part of a container.
        envs: [
          "POSTGRES_PASSWORD_FILE=/proc/sys/kernel/random/uuid",
          `POSTGRES_INITDB_ARGS=${initdbArgs(args)}`,
        ],
        restart: "unless-stopped",
        // A refresh, also that of a preview, would remove a container that somebody stopped, with its log. The
        // server resource starts it.
        mustRun: false,
        // PostgreSQL's fast shutdown, and time to write what is in memory before the engine kills it.
        stopSignal: "SIGINT",
        destroyGraceSeconds: 120,
        // Rare on purpose: with 50 tenants, a check every second alone kept two cores busy.
        healthcheck: {
          tests: ["CMD", "pg_isready", "-q", "-U", role],
          interval: "30s",
          timeout: "5s",
          startPeriod: "1m0s",
        },
        user: "999:999",
        readOnly: true,
        tmpfs: { "/tmp": "", "/var/run/postgresql": "mode=1777" },
        capabilities: { drops: ["ALL"] },
        securityOpts: ["no-new-privileges:true"],
        // Parallel queries share memory here; the tenant's memory limit counts it.
        shmSize: 16384,
        logDriver: "json-file",
        logOpts: { "max-size": "10m", "max-file": "3" },
      },
      {
        parent: this,
        // The server resource sets these live; here a change of some would replace the container.
        // The environment counts only when the data directory is first made.
        ignoreChanges: ["memory", "memorySwap", "memoryReservation", "cpuShares", "cpuSet", "envs"],
        // The Docker provider says that it updated these, and changes nothing.
        replaceOnChanges: ["healthcheck", "tmpfs"],
        dependsOn: restore,
      },
    );
  }

  private createServer(
    name: string,
    args: PgTenantArgs,
    parts: {
      /** Undefined for a tenant that is stopped. */
      container: docker.Container | undefined;
      volume: docker.Volume;
      network: TenantNetwork;
      password: pulumi.Output<string>;
      host: pulumi.Input<string>;
    },
  ): void {
    const { tenant, proxy } = args;
    const { container, volume, network, password, host } = parts;
    const barman = keeperOf(args);
    const plan = backupPlan(tenant, args.backups);
    const pair =
      container && tenant.tls === "passthrough" ? args.certificate.sign(name, host, this) : undefined;
    new PostgresServer(
      name,
      {
        host: args.dockerHost,
        // The plain name: with the container's own output, Pulumi would delete the server, and with it the route,
        // before it makes a container anew.
        container: containerName(args),
        containerId: container?.id,
        database: tenant.id,
        password,
        init: [...tenant.initFiles],
        version: tenant.version,
        volume: volume.name,
        memory: tenant.memory,
        cpus: tenant.cpus,
        ...settingsByEffect(args),
        access: tenant.access,
        clients: network.clients,
        network: network.name,
        certificate: pair?.chain,
        key: pair?.key,
        barmanPassword: barman?.passwordFor(tenant),
        backup: barman && {
          barman: barman.containerId,
          schedule: plan.schedule,
          retention: retentionDays(plan),
          stopped: !container,
        },
        route: {
          container: proxy.containerName,
          path: `${dynamicFolder}/route-${tenant.id}.yml`,
          content:
            container && tenant.access
              ? pulumi.output(host).apply((known) => routeFile(args, known))
              : `# ${tenant.id} is not reachable\n`,
        },
        farewell:
          tenant.onRemove === "retain"
            ? pulumi.interpolate`The data of ${tenant.id} stays in the Docker volume ${volume.name}.`
            : `The data of ${tenant.id} is deleted: onRemove is delete.`,
      },
      { parent: this, dependsOn: proxy.ready },
    );
  }
}

/**
 * The image takes a data directory for good as soon as initdb has begun to fill it. Here one counts as half-made
 * until the server has answered for the first time (provider/postgres-server/psql.ts takes the note
 * away, before there is a password that anybody knows): when a first start is cut off, by a full disk or
 * a crash of the host, the next one begins anew.
 *
 * Two servers on one volume would destroy its data, and PostgreSQL sees no process of another container: the
 * lock is the kernel's, for as long as any process of this container lives.
 */
const startServer = `
  exec 9>/var/lib/postgresql/.in-use
  flock -n 9 || [ $? -ne 1 ] || { echo "another container uses this volume" >&2; exit 1; }
  note=$PGDATA.unfinished
  if [ -e "$note" ]; then rm -rf "$PGDATA"; fi
  if [ ! -s "$PGDATA/PG_VERSION" ]; then mkdir -p "$(dirname "$note")"; : >"$note"; fi
  exec docker-entrypoint.sh "$@"`;

/**
 * The server that made an adopted volume's data knows nothing of that lock. A note in the volume says that the
 * check was passed once: from then on what a crash leaves is this server's own.
 */
const startOnAdopted = `
  note=/var/lib/postgresql/.pgs-adopted
  if [ ! -e "$note" ]; then
    if [ -e "$PGDATA/postmaster.pid" ] || [ ! -s "$PGDATA/PG_VERSION" ]; then
      echo "the volume's data is in use by another server, was not stopped cleanly, or is not in $PGDATA" >&2
      exit 1
    fi
    : >"$note" && sync "$note"
  fi${startServer}`;

/** What an entry says of its volume counts when the tenant is made: later it would leave the data behind. */
function adopted(tenant: Tenant, name: string): string {
  if (tenant.volume === undefined || tenant.volume === name) return name;
  throw new pulumi.RunError(
    `${positionOf(tenant, "volume")}: tenants.${tenant.id}.volume: the tenant's data is in the volume ${name}, and an edit cannot change that; write volume: ${name}, or leave it out`,
  );
}

/** What backs this tenant up; undefined when it has no backups. */
function keeperOf({ tenant, backups, barman }: PgTenantArgs): Backups | undefined {
  return backupPlan(tenant, backups).schedule === "off" ? undefined : barman;
}

function containerName({ prefix, tenant }: PgTenantArgs): string {
  return `${prefix}-${tenant.id}`;
}

/** A new server starts with the sizes that it would be given next, and need not be restarted for them. */
function initdbArgs(args: PgTenantArgs): string {
  const { settingsAtNextStart } = settingsByEffect(args);
  return Object.entries(settingsAtNextStart)
    .map(([name, value]) => `--set ${name}=${value}`)
    .join(" ");
}

/** What the operator set, and what follows from the memory limit and the backups, by when a change of it counts. */
function settingsByEffect(args: PgTenantArgs) {
  const { tenant } = args;
  const { settings, version, memory, positions } = tenant;
  const restarts = (name: string) => needsRestart(version, name);
  const pick = (from: Record<string, string>, keep: (name: string) => boolean) =>
    Object.fromEntries(Object.entries(from).filter(([name]) => keep(name)));
  const implied = { ...sizedSettings(memory), ...(keeperOf(args) && backupSettings(version)) };
  const sized = pick(implied, (name) => !(name in settings));
  return {
    settings: { ...pick(sized, (name) => !restarts(name)), ...pick(settings, (name) => !restarts(name)) },
    settingsWithRestart: pick(settings, restarts),
    settingsAtNextStart: pick(sized, restarts),
    positions: Object.fromEntries(
      Object.keys(settings).map((name) => [name, positionOf({ positions }, `settings.${name}`)]),
    ),
  };
}

/** Other tenants could reach this one through the proxy's address in their own network: they may not. */
function routeFile(args: PgTenantArgs, host: string): string {
  const { id, tls } = args.tenant;
  return stringify({
    tcp: {
      routers: {
        [id]: {
          entryPoints: [entryPoint],
          rule: `HostSNI(\`${host}\`) && !ClientIP(\`${args.tenantSubnets}\`)`,
          service: id,
          tls: tls === "passthrough" ? { passthrough: true } : {},
        },
      },
      services: { [id]: { loadBalancer: { servers: [{ address: `${containerName(args)}:5432` }] } } },
    },
  });
}
