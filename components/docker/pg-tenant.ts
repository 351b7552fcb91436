import { relative } from "node:path";
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { stringify } from "yaml";
import type { ResourceNames } from "../../docker/names";
import { monitorRole } from "../../docker/session-options";
import { PostgresServer, type Programs, Restore } from "../../provider/resources";
import { positionOf, type Tenant } from "../../tenants";
import { type BackupPlan, backupPlan, retentionDays } from "../../tenants/backup";
import { extensionSettings } from "../../tenants/extensions";
import { poolerHost } from "../../tenants/pooler";
import { needsRestart } from "../../tenants/postgres-settings";
import {
  backupSettings,
  connectionsPerClient,
  diskSettings,
  guardSettings,
  pooledConnectionsPerClient,
  poolerSettings,
  sizedSettings,
} from "../../tenants/sizing";
import type { TenantOutputs } from "../platform";
import { allowedClients } from "../tenant-clients";
import {
  commonSummary,
  connectionString,
  createHost,
  createPassword,
  createRolePasswords,
  loginOf,
  roleConnectionStrings,
  rolesOf,
  wantedExtensions,
} from "../tenant-login";
import type { WildcardCertificate } from "../wildcard-certificate";
import type { Backups } from "./backups";
import { cancelAddress } from "./cancel-requests";
import { type Monitoring, monitoredRole } from "./monitoring";
import type { PostgresImages } from "./postgres-images";
import { dynamicFolder, entryPoints, type PostgresProxy, tenantNetwork } from "./proxy";

export interface PgTenantArgs {
  tenant: Tenant;
  /** The stack's id, which its containers are labelled with. */
  stack: pulumi.Input<string>;
  names: ResourceNames;
  /** Names of what the stack has start with it. */
  prefix: string;
  /** The tenant is reached at HOSTNAME.domain, on `port`. */
  domain: string;
  port: number;
  /** Whether a hostname that follows from the id ends in random characters, so that it cannot be guessed. */
  hostnameSuffix: "none" | "random";
  images: PostgresImages;
  /** The operator's own passwords by tenant id, and of roles by ID/ROLE; without one, it is random. */
  passwords: pulumi.Output<Record<string, string>>;
  /** Signs the certificate of a server that TLS is passed through to. */
  certificate: WildcardCertificate;
  proxy: PostgresProxy;
  /** What servers start with. */
  programs: Programs;
  /** `network`: the tenant has a network of its own. `shared`: all have one, and each server lets in only the proxy. */
  isolation: "network" | "shared";
  /** How tenants are backed up that say nothing else. */
  backups: BackupPlan;
  /** What they are backed up with; undefined when the stack's backups are off. */
  backupImage?: Backups;
  /** What watches the stack; undefined when nothing does. */
  monitor?: Monitoring;
  /** IPv4 range of the tenants' networks. */
  tenantSubnets: string;
  /** Addresses and ranges that every client has to come from; undefined: any. */
  allow?: string[];
  /** The Docker host, when it is not the default one. */
  dockerHost?: string;
}

/** A PostgreSQL server for one tenant, and the route to it. */
export class PgTenant extends pulumi.ComponentResource implements TenantOutputs {
  readonly id: string;
  readonly connectionString: pulumi.Output<string>;
  readonly roleConnectionStrings: TenantOutputs["roleConnectionStrings"];
  readonly summary: TenantOutputs["summary"];

  constructor(name: string, args: PgTenantArgs, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:PgTenant", name, {}, opts);
    const { tenant } = args;
    const host = createHost(name, args, this);
    const password = createPassword(name, args, tenant, this);
    const rolePasswords = createRolePasswords(name, args, this);
    const volume = this.createVolume(name, args);
    const restore = tenant.state === "running" ? this.createRestore(name, args, volume) : undefined;
    this.createServer(name, args, { restore, volume, password, rolePasswords, host });

    this.id = tenant.id;
    const to = { host, port: args.port, database: tenant.id };
    this.connectionString = connectionString(loginOf(tenant), password, to);
    this.roleConnectionStrings = roleConnectionStrings(rolePasswords, to);
    this.summary = {
      ...commonSummary(tenant, host, args.port),
      ...(tenant.extensions.length > 0 && { extensions: tenant.extensions.map(({ name }) => name) }),
      ...(tenant.disk && { disk: tenant.disk }),
      backup: { ...backupPlan(tenant, args.backups) },
      ...(tenant.pooler && { pooler: pulumi.output(host).apply(poolerHost) }),
    };
    this.registerOutputs();
  }

  /**
   * The data. No edit replaces it: what could is ignored, and what removing the entry does to it counts as
   * it was applied last.
   */
  private createVolume(name: string, { tenant, names, proxy }: PgTenantArgs): docker.Volume {
    return new docker.Volume(
      name,
      {
        // One that exists is adopted as it is.
        name: tenant.volume ?? names.tenant(tenant.id),
        // The label of a volume that exists stays as it is, also when an entry is added again.
        labels: [{ label: "pgs.version", value: String(tenant.version) }],
      },
      {
        parent: this,
        ignoreChanges: ["name", "driver", "driverOpts", "labels"],
        retainOnDelete: tenant.onRemove === "retain",
        // A stack with these names is refused by the proxy before one of its volumes is adopted.
        dependsOn: proxy.ready[0],
      },
    );
  }

  /** Only for an entry with `restoreFrom`; it counts when the volume is first made. */
  private createRestore(name: string, args: PgTenantArgs, volume: docker.Volume): Restore | undefined {
    const { tenant, backupImage } = args;
    const { restoreFrom } = tenant;
    if (!restoreFrom) return undefined;
    if (!backupImage) {
      throw new pulumi.RunError(
        `${positionOf(tenant, "restoreFrom")}: restoreFrom needs the stack's backups, and pgs:backups.schedule is off: set it, or take restoreFrom out`,
      );
    }
    const { live, restart, initial } = settingsByEffect(args);
    return new Restore(
      name,
      {
        host: args.dockerHost,
        volume: volume.name,
        from: restoreFrom.tenant,
        at: restoreFrom.at,
        database: tenant.id,
        version: tenant.version,
        settings: { ...initial, ...live, ...restart },
        stack: args.stack,
        prefix: args.prefix,
        offsite: backupImage.destination !== undefined,
        backupImage: backupImage.image.imageId,
        image: args.images.of(tenant).imageId,
      },
      // The copies off the host may be all that there is.
      { parent: this, dependsOn: backupImage.destination },
    );
  }

  private createServer(
    name: string,
    args: PgTenantArgs,
    parts: {
      /** What makes its data, where that is not the server itself. */
      restore: Restore | undefined;
      volume: docker.Volume;
      password: pulumi.Output<string>;
      rolePasswords: Record<string, pulumi.Output<string>>;
      host: pulumi.Input<string>;
    },
  ): void {
    const { tenant, proxy, names, isolation, tenantSubnets } = args;
    const { restore, volume, password, rolePasswords, host } = parts;
    const { monitor } = args;
    const roles = { ...rolesOf(tenant), ...(monitor && monitoredRole) };
    const passwords = { ...rolePasswords, ...(monitor && { [monitorRole]: monitor.password(tenant.id) }) };
    const hasRoles = Object.keys(roles).length > 0;
    const runs = tenant.state === "running";
    const { positions, ...settings } = settingsByEffect(args);
    const networkName = isolation === "shared" ? names.sharedNetwork : names.tenant(tenant.id);
    const { pool, prefixLength } = tenantNetwork(networkName, tenantSubnets, isolation);
    new PostgresServer(
      name,
      {
        host: args.dockerHost,
        stack: args.stack,
        tenant: tenant.id,
        version: tenant.version,
        state: tenant.state,
        network: { name: networkName, pool, prefixLength, proxy: proxy.containerId },
        container: {
          name: names.tenant(tenant.id),
          ...(runs && args.images.of(tenant)),
          volume: volume.name.apply((present) => adopted(tenant, present)),
          programs: args.programs.volume,
          adopted: tenant.volume !== undefined,
        },
        limits: { memory: tenant.memory, cpus: tenant.cpus },
        settings,
        password,
        user: tenant.superuser === "off" ? loginOf(tenant) : undefined,
        roles: hasRoles ? roles : undefined,
        rolePasswords: hasRoles ? pulumi.secret(passwords) : undefined,
        access: {
          open: tenant.access,
          clients: isolation === "shared" ? "proxy" : "all",
          allow: allowedClients(args),
          monitored: monitor ? true : undefined,
        },
        // As a whole: what is secret only inside of it would be in the clear in the state of a run that fails.
        tls:
          runs && tenant.tls === "passthrough"
            ? pulumi.secret(args.certificate.sign(name, host, this))
            : undefined,
        database: {
          init: tenant.initFiles.map((file) => relative(process.cwd(), file)),
          ...tenant.newDatabase,
        },
        extensions: wantedExtensions(tenant),
        route: {
          proxy: proxy.containerName,
          path: `${dynamicFolder}/route-${tenant.id}.yml`,
          content: pulumi.output(host).apply((known) => routeFile(args, known)),
        },
        backup: backupOf(args),
        pooler: poolerOf(args),
        positions,
        deleteMessage:
          tenant.onRemove === "retain"
            ? pulumi.interpolate`The data of ${tenant.id} stays in the Docker volume ${volume.name}.`
            : `The data of ${tenant.id} is deleted: onRemove is delete.`,
      },
      { parent: this, dependsOn: [...proxy.ready, ...(restore ? [restore] : []), ...(monitor?.ready ?? [])] },
    );
  }
}

/** What an entry says of its volume counts when the tenant is made: later it would leave the data behind. */
function adopted(tenant: Tenant, name: string): string {
  if (tenant.volume === undefined || tenant.volume === name) return name;
  throw new pulumi.RunError(
    `${positionOf(tenant, "volume")}: tenants.${tenant.id}.volume: the tenant's data is in the volume ${name}, and an edit cannot change that; write volume: ${name}, or leave it out`,
  );
}

/** How this tenant is backed up; undefined when it is not. */
function backupOf(args: PgTenantArgs) {
  const { tenant, names, backups, backupImage } = args;
  const plan = backupPlan(tenant, backups);
  if (plan.schedule === "off" || !backupImage) return undefined;
  const retention = retentionDays(plan);
  return { name: names.backup(tenant.id), ...backupImage.image, schedule: plan.schedule, retention };
}

/** A tenant that is stopped or closed has no pooler: removing it ends the clients' sessions. Its image stays declared. */
function poolerOf({ tenant, names, images }: PgTenantArgs) {
  if (!tenant.pooler) return undefined;
  const pooler = { name: names.pooler(tenant.id), ...images.pooler, ...tenant.pooler };
  return tenant.access && tenant.state === "running" ? pooler : undefined;
}

/** What the operator set, and what follows from the memory limit and the backups, by when a change of it counts. */
function settingsByEffect(args: PgTenantArgs) {
  const { tenant } = args;
  const { version, memory, positions } = tenant;
  const settings = {
    ...tenant.settings,
    ...extensionSettings(tenant.id, tenant.extensions, tenant.settings),
  };
  const restarts = (name: string) => name === "shared_preload_libraries" || needsRestart(version, name);
  const pick = (from: Record<string, string>, keep: (name: string) => boolean) =>
    Object.fromEntries(Object.entries(from).filter(([name]) => keep(name)));
  const implied = {
    ...guardSettings,
    ...sizedSettings(memory),
    ...diskSettings(tenant.disk),
    ...(backupOf(args) && backupSettings(version)),
    ...(tenant.pooler && poolerSettings),
  };
  const [locale] = Object.keys(tenant.newDatabase);
  const sized = pick(implied, (name) => !(name in settings));
  return {
    live: { ...pick(sized, (name) => !restarts(name)), ...pick(settings, (name) => !restarts(name)) },
    restart: pick(settings, restarts),
    initial: pick(sized, restarts),
    positions: Object.fromEntries([
      ...Object.keys(settings).map((name) => [
        name,
        positionOf({ positions }, name in tenant.settings ? `settings.${name}` : "extensions"),
      ]),
      ...Object.entries(positions).filter(([field]) => /^extensions(\.|$)/.test(field)),
      ...(locale ? [["locale", positionOf({ positions }, locale)]] : []),
      ...Object.keys(tenant.roles).map((name) => [
        `roles.${name}`,
        positionOf({ positions }, `roles.${name}`),
      ]),
      ...(tenant.superuser === "off" ? [[`roles.${tenant.id}`, positionOf({ positions }, "superuser")]] : []),
    ]),
  };
}

/** Other tenants could reach this one through the proxy's address in their own network: they may not. */
function routeFile(args: PgTenantArgs, host: string): string {
  const { id, state, access } = args.tenant;
  const clients = state === "running" && access ? [clientRoutes(args, host)] : [];
  const monitors = args.monitor ? [monitoringRoute(args, host)] : [];
  const noted = args.monitor ? `# monitoring: ${JSON.stringify(noteFor(args, host))}\n` : "";
  const routes = state === "running" ? [...clients, ...monitors] : [];
  if (routes.length === 0) return `${noted}# ${id} is not reachable\n`;
  const all = (part: "routers" | "middlewares" | "services") =>
    Object.assign({}, ...routes.map((one) => one[part]));
  const middlewares = all("middlewares");
  return (
    noted +
    stringify({
      tcp: {
        routers: all("routers"),
        ...(Object.keys(middlewares).length > 0 && { middlewares }),
        services: all("services"),
      },
    })
  );
}

/** For the relay and the collector, which read the first line of each route. */
function noteFor({ tenant }: PgTenantArgs, host: string) {
  const { id, version, state, access, tls } = tenant;
  return { tenant: id, host, version, state, access, tls };
}

/**
 * For the network of monitoring alone, which no other route is open to; also where clients may not come in. What passes
 * cancel requests on does not take it for one of its own: those are written as HostSNI.
 */
function monitoringRoute({ tenant, names }: PgTenantArgs, host: string) {
  const name = `${tenant.id}--monitoring`;
  return {
    routers: {
      [name]: {
        entryPoints: [entryPoints.inner],
        rule: `HostSNIRegexp(\`^${host.replaceAll(".", "\\.")}$\`) && ClientIP(\`network:${names.monitoring}\`)`,
        service: name,
        tls: tenant.tls === "passthrough" ? { passthrough: true } : {},
      },
    },
    middlewares: {},
    services: { [name]: { loadBalancer: { servers: [{ address: `${names.tenant(tenant.id)}:5432` }] } } },
  };
}

/** Those of its clients. */
function clientRoutes(args: PgTenantArgs, host: string) {
  const { id, tls, memory, settings, maxConnectionsPerClient, pooler } = args.tenant;
  const { max_connections } = { ...sizedSettings(memory), ...settings };
  const perClient = maxConnectionsPerClient ?? connectionsPerClient(Number(max_connections), tls);
  const routes = [route(args, { name: id, host, server: args.names.tenant(id), perClient })];
  if (pooler) {
    const name = `${id}--pooler`;
    const mostPooled = maxConnectionsPerClient ?? pooledConnectionsPerClient;
    const server = args.names.pooler(id);
    routes.push(route(args, { name, host: poolerHost(host), server, perClient: mostPooled }));
  }
  const all = (part: "routers" | "middlewares" | "services") =>
    Object.assign({}, ...routes.map((one) => one[part]));
  return { routers: all("routers"), middlewares: all("middlewares"), services: all("services") };
}

function route(
  args: PgTenantArgs,
  { name, host, server, perClient }: { name: string; host: string; server: string; perClient: number },
) {
  const sourceRange = allowedClients(args);
  const middlewares = {
    ...(sourceRange && { [`${name}--allow`]: { ipAllowList: { sourceRange } } }),
    ...(perClient > 0 && { [name]: { inFlightConn: { amount: perClient } } }),
  };
  const router = {
    rule: `HostSNI(\`${host}\`) && !ClientIP(\`${args.tenantSubnets}\`)`,
    service: name,
    tls: args.tenant.tls === "passthrough" ? { passthrough: true } : {},
  };
  return {
    routers: {
      [name]: {
        entryPoints: [entryPoints.clients],
        ...router,
        ...(Object.keys(middlewares).length > 0 && { middlewares: Object.keys(middlewares) }),
      },
      [`${name}--inner`]: { entryPoints: [entryPoints.inner], ...router },
      [`${name}--cancel`]: {
        entryPoints: [entryPoints.cancel],
        rule: `HostSNI(\`*\`) && ClientIP(\`${cancelAddress(host)}\`)`,
        service: name,
      },
    },
    middlewares,
    services: { [name]: { loadBalancer: { servers: [{ address: `${server}:5432` }] } } },
  };
}
