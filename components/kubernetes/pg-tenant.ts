import * as pulumi from "@pulumi/pulumi";
import { cnpg, labels, type ObjectNames, restoredFrom } from "../../kubernetes/names";
import { ClusterRollout, TenantData } from "../../provider/resources";
import { positionOf, type Tenant } from "../../tenants";
import { backupPlan } from "../../tenants/backup";
import { extensionSettings, imageKey } from "../../tenants/extensions";
import { formatMemory } from "../../tenants/memory";
import { poolerHost } from "../../tenants/pooler";
import { listElements, needsRestart } from "../../tenants/postgres-settings";
import {
  budgetSetting,
  diskSettings,
  guardSettings,
  poolerSettings,
  sizedSettings,
} from "../../tenants/sizing";
import type { TenantOutputs } from "../platform";
import {
  commonSummary,
  connectionString,
  createHost,
  createPassword,
  createRolePasswords,
  loginOf,
  roleConnectionStrings,
} from "../tenant-login";
import { bucketPorts, restoredFromOf, TenantBackup, type TenantBackupArgs } from "./backup";
import { createDatabase, newServer } from "./database";
import { base64, Manifest } from "./manifest";
import type { Operator } from "./operator";
import { createPooler } from "./pooler";
import type { KubernetesProxy } from "./proxy";
import { createRoutes, readOnlyHost } from "./routes";

export interface KubernetesTenantArgs extends TenantBackupArgs {
  /** The stack's id. */
  stack: pulumi.Input<string>;
  names: ObjectNames;
  /** The tenant is reached at HOSTNAME.domain, on `port`. */
  domain: string;
  port: number;
  /** Whether a hostname that follows from the id ends in random characters, so that it cannot be guessed. */
  hostnameSuffix: "none" | "random";
  /** PostgreSQL's images by major version, or one with a variant. */
  postgresImages: Map<string, string>;
  /** PgBouncer's. */
  poolerImage: string;
  /** Addresses and ranges that every client has to come from; undefined: any. */
  allow?: string[];
  /** The operator's own passwords by tenant id, and of roles by ID/ROLE; without one, it is random. */
  passwords: pulumi.Output<Record<string, string>>;
  operator: Operator;
  proxy: KubernetesProxy;
}

/** Of the volume of a tenant whose entry says nothing of it. */
const defaultDisk = 10 * 2 ** 30;

/** A PostgreSQL server for one tenant, with its replicas, in a namespace of its own, and the route to it. */
export class PgTenant extends pulumi.ComponentResource implements TenantOutputs {
  readonly id: string;
  readonly connectionString: pulumi.Output<string>;
  readonly roleConnectionStrings: TenantOutputs["roleConnectionStrings"];
  readonly summary: TenantOutputs["summary"];

  constructor(name: string, args: KubernetesTenantArgs, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:PgTenant", name, {}, opts);
    const { tenant, port } = args;
    const host = createHost(name, args, this);
    const password = createPassword(name, args, tenant, this);
    const rolePasswords = createRolePasswords(name, args, this);
    const data = this.createData(name, args);
    const namespace = this.createNamespace(name, args, data);
    const secret = this.createLogin(name, namespace, tenant, password);
    const policy = this.createNetworkPolicy(name, args, namespace);
    const backup = new TenantBackup(name, args, namespace, this, { image: imageOf(args), policy });
    const cluster = this.createCluster(name, args, namespace, backup, [secret, policy]);
    const pooler = createPooler(
      name,
      { tenant, namespace: nameOf(namespace), image: args.poolerImage },
      { parent: this, dependsOn: cluster },
    );
    const rollout = this.createRollout(name, args, cluster, pooler);
    const own = { ...args, namespace: nameOf(namespace) };
    const database = createDatabase(name, { ...own, password, rolePasswords, rollout }, this);
    backup.createSchedule(database);
    const reachable = { parent: this, dependsOn: [database, ...args.proxy.ready] };
    createRoutes(name, { ...own, host }, reachable);

    this.id = tenant.id;
    const to = { host, port, database: tenant.id };
    this.connectionString = connectionString(loginOf(tenant), password, to);
    this.roleConnectionStrings = roleConnectionStrings(rolePasswords, to);
    this.summary = {
      ...commonSummary(tenant, host, port),
      disk: diskOf(tenant),
      backup: { ...backupPlan(tenant, args.backups) },
      replicas: tenant.replicas,
      sync: tenant.sync,
      ...(tenant.extensions.length > 0 && { extensions: tenant.extensions.map(({ name }) => name) }),
      ...(tenant.replicas > 0 && { readOnly: readOnlyHost(tenant, host) }),
      ...(tenant.pooler && { pooler: pulumi.output(host).apply(poolerHost) }),
    };
    this.registerOutputs();
  }

  /**
   * Made first and removed last: it refuses, before anything changes, what would harm data that is there, and shuts down the
   * servers of an entry that is removed.
   */
  private createData(name: string, { tenant, names, stack, operator, kubernetes }: KubernetesTenantArgs) {
    return new TenantData(
      name,
      {
        kubeconfig: kubernetes.kubeconfig,
        context: kubernetes.context,
        stack,
        tenant: tenant.id,
        namespace: names.tenant(tenant.id),
        version: tenant.version,
        disk: diskOf(tenant),
        onRemove: tenant.onRemove,
        restoredFrom: restoredFromOf(tenant),
        positions: {
          version: positionOf(tenant, "version"),
          disk: positionOf(tenant, "disk"),
          restoreFrom: positionOf(tenant, "restoreFrom"),
        },
      },
      { parent: this, dependsOn: operator.ready },
    );
  }

  /** With the volumes in it: it stays with them. No edit takes a tenant to another one. */
  private createNamespace(name: string, { tenant, stack }: KubernetesTenantArgs, data: TenantData): Manifest {
    return new Manifest(
      name,
      {
        apiVersion: "v1",
        kind: "Namespace",
        metadata: {
          name: data.namespace,
          labels: {
            [labels.stack]: stack,
            [labels.tenant]: tenant.id,
            "pod-security.kubernetes.io/enforce": "restricted",
          },
        },
      },
      { parent: this, retainOnDelete: tenant.onRemove === "retain" },
    );
  }

  /** What the tenant logs in with. The operator gives it to the server. */
  private createLogin(
    name: string,
    namespace: Manifest,
    tenant: Tenant,
    password: pulumi.Output<string>,
  ): Manifest {
    return new Manifest(
      name,
      {
        apiVersion: "v1",
        kind: "Secret",
        metadata: {
          name: loginName(tenant),
          namespace: nameOf(namespace),
          labels: { [cnpg.reload]: "true" },
        },
        type: "kubernetes.io/basic-auth",
        data: pulumi.secret({ username: base64(loginOf(tenant)), password: base64(password) }),
      },
      { parent: this, additionalSecretOutputs: ["data"] },
    );
  }

  /**
   * In: clients by the proxy, the operator, and the tenant's own servers. Out: these, names, and the API server, which each
   * server tells who it is. And any address at the port of the bucket, whose addresses are not known.
   */
  private createNetworkPolicy(name: string, args: KubernetesTenantArgs, namespace: Manifest): Manifest {
    const { tenant, names } = args;
    const { apiServer } = args.operator;
    const tcp = (...ports: number[]) => ports.map((port) => ({ protocol: "TCP", port }));
    const itself = { podSelector: {} };
    const inNamespace = (other: string) => ({
      namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": other } },
    });
    const operator = {
      namespaceSelector: {},
      podSelector: { matchLabels: { "app.kubernetes.io/name": "cloudnative-pg" } },
    };
    return new Manifest(
      name,
      {
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: { name: "tenant", namespace: nameOf(namespace) },
        spec: {
          podSelector: {},
          policyTypes: ["Ingress", "Egress"],
          ingress: [
            { from: [inNamespace(names.proxy)], ports: tcp(5432) },
            { from: [operator], ports: tcp(5432, 8000) },
            { from: [itself], ports: tcp(5432, 8000) },
          ],
          egress: [
            { to: [itself], ports: tcp(5432, 8000) },
            { to: [{ namespaceSelector: {} }], ports: [{ protocol: "UDP", port: 53 }, ...tcp(53)] },
            {
              to: apiServer.apply(({ cidrs }) => cidrs.map((cidr) => ({ ipBlock: { cidr } }))),
              ports: apiServer.apply(({ ports }) => tcp(...ports)),
            },
            ...bucketPorts(args).map((port) => ({ ports: tcp(port) })),
          ],
        },
      },
      // It stays with the servers, which end after it would have gone.
      { parent: this, retainOnDelete: tenant.onRemove === "retain" },
    );
  }

  /** https://cloudnative-pg.io/documentation/1.28/cloudnative-pg.v1/#clusterspec */
  private createCluster(
    name: string,
    args: KubernetesTenantArgs,
    namespace: Manifest,
    backup: TenantBackup,
    dependsOn: pulumi.Resource[],
  ): Manifest {
    const { tenant, kubernetes } = args;
    const { id, superuser } = tenant;
    const login = { name: loginName(tenant) };
    const limits = limitsOf(tenant);
    const libraries = listElements(ownSettings(tenant).shared_preload_libraries ?? "");
    return new Manifest(
      name,
      {
        apiVersion: "postgresql.cnpg.io/v1",
        kind: "Cluster",
        metadata: {
          name: id,
          namespace: nameOf(namespace),
          labels: { [labels.version]: String(tenant.version) },
          annotations: {
            [cnpg.hibernation]: tenant.state === "stopped" ? "on" : "off",
            ...(tenant.restoreFrom && { [restoredFrom]: restoredFromOf(tenant) }),
          },
        },
        spec: {
          instances: 1 + tenant.replicas,
          imageName: imageOf(args),
          enableSuperuserAccess: superuser === "on",
          ...(superuser === "on" && { superuserSecret: login }),
          ...(backup.bootstrap(superuser === "off" ? { secret: login } : {}) ?? {
            bootstrap: {
              initdb: {
                database: id,
                owner: id,
                // The operator's own is C, which knows no letters beyond ASCII.
                localeCollate: "C.UTF-8",
                localeCType: "C.UTF-8",
                ...(superuser === "off" && { secret: login }),
                postInitSQL: [newServer(id)],
              },
            },
          }),
          ...backup.spec,
          storage: {
            size: formatMemory(diskOf(tenant)),
            ...(kubernetes.storageClass && { storageClass: kubernetes.storageClass }),
          },
          resources: { requests: limits, limits },
          // Clients are not waited for: as on Docker, their sessions end.
          smartShutdownTimeout: 1,
          postgresql: {
            parameters: settingsOf(tenant),
            // Empty lists do not come back from the API server.
            ...(libraries.length > 0 && { shared_preload_libraries: libraries }),
            // pgs asks in the database as the tenant, not as the superuser that the tenant is not.
            ...(superuser === "off" && { pg_ident: [`local postgres ${loginOf(tenant)}`] }),
            // The route goes last, so that no client comes back while sessions are ended.
            ...(!tenant.access && { pg_hba: [closed] }),
            // A replica takes over only where it is known to have every commit.
            ...(tenant.sync && { synchronous: { method: "any", number: 1, failoverQuorum: true } }),
          },
        },
      },
      {
        parent: this,
        dependsOn: [...args.operator.ready, ...backup.dependsOn, ...dependsOn],
        retainOnDelete: tenant.onRemove === "retain",
        // They count for new volumes.
        ignoreChanges: ["spec.storage.storageClass", "spec.bootstrap", "spec.externalClusters"],
      },
    );
  }

  /** Waits until the operator has done it. */
  private createRollout(
    name: string,
    args: KubernetesTenantArgs,
    cluster: Manifest,
    pooler: Manifest | undefined,
  ): ClusterRollout {
    const { tenant, kubernetes } = args;
    return new ClusterRollout(
      name,
      {
        kubeconfig: kubernetes.kubeconfig,
        context: kubernetes.context,
        namespace: cluster.metadata.apply(({ namespace = "" }) => namespace),
        cluster: tenant.id,
        generation: cluster.metadata.apply(({ generation = 0 }) => generation),
        state: tenant.state,
        version: tenant.version,
        instances: 1 + tenant.replicas,
        image: imageOf(args),
        limits: limitsOf(tenant),
        settings: byEffect(tenant),
        sync: tenant.sync,
        disk: diskOf(tenant),
        closed: tenant.access ? undefined : closed,
        restoredFrom: tenant.restoreFrom?.tenant,
        onRemove: tenant.onRemove,
        pooler: pooler && {
          generation: pooler.metadata.apply(({ generation = 0 }) => generation),
          image: args.poolerImage,
        },
      },
      { parent: this, dependsOn: [cluster, ...(pooler ? [pooler] : [])] },
    );
  }
}

/** A line of pg_hba.conf, before the one that lets clients log in. */
const closed = "host all all all reject";

function nameOf(namespace: Manifest): pulumi.Output<string> {
  return namespace.metadata.apply(({ name }) => name);
}

function loginName({ id }: Tenant): string {
  return `${id}-login`;
}

function diskOf({ disk = defaultDisk }: Tenant): number {
  return disk;
}

/** As Kubernetes writes them. Requests are the same: what a server may use is kept for it. */
function limitsOf({ memory, cpus }: Tenant): { memory: string; cpu: string } {
  return {
    memory: formatMemory(memory),
    cpu: Number.isInteger(cpus) ? String(cpus) : `${Math.round(cpus * 1000)}m`,
  };
}

function imageOf({ tenant, postgresImages }: KubernetesTenantArgs): string {
  const key = imageKey(tenant.version, tenant.image);
  const image = postgresImages.get(key);
  if (!image) throw new pulumi.RunError(`pgs:kubernetes.images has no image for PostgreSQL ${key}`);
  return image;
}

/** The tenant's own, and what follows from its limits. Libraries are a field of their own in a Cluster. */
function settingsOf(tenant: Tenant): Record<string, string> {
  const { shared_preload_libraries: _, ...own } = ownSettings(tenant);
  const { [budgetSetting]: __, ...disk } = diskSettings(diskOf(tenant));
  const pooled = tenant.pooler ? poolerSettings : {};
  return { ...guardSettings, ...sizedSettings(tenant.memory), ...disk, ...pooled, ...own };
}

/** With those that its extensions need. */
function ownSettings({ id, settings, extensions }: Tenant): Record<string, string> {
  return { ...settings, ...extensionSettings(id, extensions, settings) };
}

/** By when a change of them counts. */
function byEffect(tenant: Tenant) {
  const all = Object.entries(settingsOf(tenant));
  const restarts = ([name]: [string, string]) => needsRestart(tenant.version, name);
  return {
    live: Object.fromEntries(all.filter((setting) => !restarts(setting))),
    restart: Object.fromEntries(all.filter(restarts)),
  };
}
