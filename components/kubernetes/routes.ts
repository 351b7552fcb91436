import * as pulumi from "@pulumi/pulumi";
import type { KubernetesSettings } from "../../config";
import { clusterService } from "../../kubernetes/names";
import { ClientAddresses } from "../../provider/resources";
import { positionOf, type Tenant } from "../../tenants";
import { poolerHost, poolerSuffix } from "../../tenants/pooler";
import { readOnlySuffix } from "../../tenants/read-only";
import { allowedClients } from "../tenant-clients";
import { Manifest } from "./manifest";
import { entryPoint, type KubernetesProxy } from "./proxy";

export interface RoutesArgs {
  tenant: Tenant;
  /** Of its servers. */
  namespace: pulumi.Output<string>;
  /** The tenant's. */
  host: pulumi.Input<string>;
  /** Addresses and ranges that every client has to come from; undefined: any. */
  allow?: string[];
  kubernetes: Pick<KubernetesSettings, "kubeconfig" | "context" | "exposure">;
  proxy: KubernetesProxy;
}

/** acme.pgs.example.com -> acme-ro.pgs.example.com: its replicas; undefined where it has none. */
export function readOnlyHost(
  { replicas }: Tenant,
  host: pulumi.Input<string>,
): pulumi.Output<string> | undefined {
  if (replicas === 0) return undefined;
  return pulumi.output(host).apply((own) => own.replace(".", `${readOnlySuffix}.`));
}

/**
 * A tenant's routes, to its primary, its replicas and its pooler. They are in the proxy's namespace, which is the only one that the
 * proxy reads.
 */
export function createRoutes(
  name: string,
  args: RoutesArgs,
  opts: { parent: pulumi.Resource; dependsOn: pulumi.Resource[] },
): void {
  const { tenant, host, kubernetes } = args;
  requireAddresses(args);
  if (!tenant.access || tenant.state === "stopped") return;
  const middlewares = createMiddlewares(name, args, opts);
  const all = { ...args, middlewares };
  const routes = [createRoute(name, { ...all, called: tenant.id, to: "rw" }, opts)];
  const replicas = readOnlyHost(tenant, host);
  if (replicas) {
    const called = `${tenant.id}-${readOnlySuffix}`;
    routes.push(createRoute(`${name}/replicas`, { ...all, host: replicas, called, to: "ro" }, opts));
  }
  if (tenant.pooler) {
    const pooler = {
      host: pulumi.output(host).apply(poolerHost),
      called: `${tenant.id}-${poolerSuffix}`,
      to: "pooler",
    } as const;
    routes.push(createRoute(`${name}/pooler`, { ...all, ...pooler }, opts));
  }
  new ClientAddresses(
    name,
    {
      kubeconfig: kubernetes.kubeconfig,
      context: kubernetes.context,
      namespace: args.namespace,
      cluster: tenant.id,
      version: tenant.version,
      allow: allowedClients(args),
    },
    { parent: opts.parent, dependsOn: routes },
  );
}

/** @param args.called in the proxy's namespace @param args.to which service of CloudNativePG's */
function createRoute(
  name: string,
  args: RoutesArgs & { middlewares: Manifest[]; called: string; to: "rw" | "ro" | "pooler" },
  { parent, dependsOn }: { parent: pulumi.Resource; dependsOn: pulumi.Resource[] },
): Manifest {
  const { tenant, host, proxy, middlewares, called, to } = args;
  const metadata = { name: called, namespace: proxy.namespace };
  const service = new Manifest(
    name,
    {
      apiVersion: "v1",
      kind: "Service",
      metadata,
      spec: {
        type: "ExternalName",
        externalName: args.namespace.apply((own) => clusterService(tenant.id, own, to)),
        ports: [{ name: entryPoint, port: 5432 }],
      },
    },
    { parent, dependsOn },
  );
  return new Manifest(
    name,
    {
      apiVersion: "traefik.io/v1alpha1",
      kind: "IngressRouteTCP",
      metadata,
      spec: {
        entryPoints: [entryPoint],
        routes: [
          {
            match: pulumi.interpolate`HostSNI(\`${host}\`)`,
            // Empty lists do not come back from the API server.
            ...(middlewares.length > 0 && {
              middlewares: middlewares.map(({ metadata: made }) => ({ name: made.apply((one) => one.name) })),
            }),
            services: [{ name: called, port: 5432 }],
          },
        ],
        tls: {},
      },
    },
    { parent, dependsOn: [...dependsOn, service] },
  );
}

/** https://doc.traefik.io/traefik/reference/routing-configuration/kubernetes/crd/tcp/middlewaretcp/ */
function createMiddlewares(
  name: string,
  args: RoutesArgs,
  { parent, dependsOn }: { parent: pulumi.Resource; dependsOn: pulumi.Resource[] },
): Manifest[] {
  const { tenant, proxy } = args;
  const sourceRange = allowedClients(args);
  const amount = tenant.maxConnectionsPerClient ?? 0;
  const middleware = (called: string, spec: object) =>
    new Manifest(
      `${name}/${called}`,
      {
        apiVersion: "traefik.io/v1alpha1",
        kind: "MiddlewareTCP",
        metadata: { name: `${tenant.id}--${called}`, namespace: proxy.namespace },
        spec,
      },
      { parent, dependsOn },
    );
  return [
    ...(sourceRange ? [middleware("allow", { ipAllowList: { sourceRange } })] : []),
    ...(amount > 0 ? [middleware("per-client", { inFlightConn: { amount } })] : []),
  ];
}

/** A port of all nodes is reached by way of any node, whose address is then all that the proxy sees. */
function requireAddresses({ tenant, allow, kubernetes: { exposure } }: RoutesArgs): void {
  if (exposure !== "NodePort") return;
  const field = tenant.allow
    ? "allow"
    : tenant.maxConnectionsPerClient
      ? "maxConnectionsPerClient"
      : undefined;
  if (field === undefined && !allow) return;
  const where = field ? `${positionOf(tenant, field)}: tenants.${tenant.id}.${field}` : "pgs:allow";
  throw new pulumi.RunError(
    `${where}: with pgs:kubernetes.exposure NodePort, the proxy does not see clients' addresses: use LoadBalancer or hostPort, or take it out`,
  );
}
