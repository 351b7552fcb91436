import * as pulumi from "@pulumi/pulumi";
import type { KubernetesSettings } from "../../config";
import { labels, type ObjectNames } from "../../kubernetes/names";
import type { KeyPair, WildcardCertificate } from "../wildcard-certificate";
import { base64, Manifest } from "./manifest";
import type { Operator } from "./operator";

export interface KubernetesProxyArgs {
  /** The stack's id. */
  stack: pulumi.Input<string>;
  names: ObjectNames;
  /** Traefik. */
  proxyImage: string;
  /** That clients connect to. */
  port: number;
  certificate: WildcardCertificate;
  operator: Operator;
  kubernetes: Pick<KubernetesSettings, "exposure" | "proxyReplicas">;
}

/** The entry point for clients, which routes refer to. */
export const entryPoint = "postgres";

const listening = { postgres: 5432, ping: 8080 };
const app = { app: "traefik" };

/**
 * Traefik: terminates TLS and routes by the hostname in the TLS SNI. It reads the objects of its own namespace alone, so
 * it has no way to a tenant's Secret; a route leads to its tenant's namespace by a name in DNS.
 */
export class KubernetesProxy extends pulumi.ComponentResource {
  readonly namespace: pulumi.Output<string>;
  /** Once clients are accepted. */
  readonly ready: pulumi.Resource[];

  constructor(name: string, args: KubernetesProxyArgs, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:KubernetesProxy", name, {}, opts);
    const child = { parent: this };
    const { kubernetes, certificate } = args;
    const onHost = kubernetes.exposure === "hostPort";
    const own = new Manifest(
      name,
      {
        apiVersion: "v1",
        kind: "Namespace",
        metadata: {
          name: args.names.proxy,
          labels: {
            [labels.stack]: args.stack,
            // A port of the node is more than the strict profiles allow.
            "pod-security.kubernetes.io/enforce": onHost ? "privileged" : "restricted",
          },
        },
      },
      { ...child, dependsOn: args.operator.ready },
    );
    this.namespace = own.metadata.apply((metadata) => metadata.name);
    const metadata = { name: "traefik", namespace: this.namespace };
    const object = (kind: string, apiVersion: string, rest: object, called = metadata.name) =>
      new Manifest(
        `${name}/${called}`,
        { apiVersion, kind, metadata: { ...metadata, name: called }, ...rest },
        child,
      );

    const account = object("ServiceAccount", "v1", {});
    const role = object("Role", "rbac.authorization.k8s.io/v1", { rules });
    const binding = object("RoleBinding", "rbac.authorization.k8s.io/v1", {
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: metadata.name },
      subjects: [{ kind: "ServiceAccount", name: metadata.name, namespace: this.namespace }],
    });
    // There is always one: ACME, which would have none here, is not there on a cluster.
    const pair = certificate.served as KeyPair;
    const shown = [
      object(
        "Secret",
        "v1",
        {
          type: "kubernetes.io/tls",
          data: pulumi.secret({
            "tls.crt": base64(pair.chain),
            "tls.key": base64(pair.key),
          }),
        },
        "certificate",
      ),
      object(
        "TLSStore",
        "traefik.io/v1alpha1",
        { spec: { certificates: [{ secretName: "certificate" }] } },
        "default",
      ),
      object(
        "TLSOption",
        "traefik.io/v1alpha1",
        { spec: { minVersion: "VersionTLS12", sniStrict: true, alpnProtocols: ["postgresql"] } },
        "default",
      ),
    ];
    object("NetworkPolicy", "networking.k8s.io/v1", {
      spec: {
        podSelector: {},
        policyTypes: ["Ingress"],
        ingress: [{ ports: [{ protocol: "TCP", port: listening.postgres }] }],
      },
    });
    object("PodDisruptionBudget", "policy/v1", {
      spec: { maxUnavailable: 1, selector: { matchLabels: app } },
    });
    if (!onHost) object("Service", "v1", { spec: serviceOf(args) });
    const deployment = new Manifest(
      `${name}/traefik`,
      { apiVersion: "apps/v1", kind: "Deployment", metadata, spec: deploymentOf(args, onHost) },
      { ...child, dependsOn: [account, role, binding, ...shown] },
    );
    this.ready = [deployment];
    this.registerOutputs();
  }
}

/** In its own namespace. https://doc.traefik.io/traefik/reference/dynamic-configuration/kubernetes-crd/#rbac */
const rules = [
  { apiGroups: [""], resources: ["services", "secrets", "configmaps"], verbs: ["get", "list", "watch"] },
  { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["get", "list", "watch"] },
  {
    apiGroups: ["traefik.io"],
    resources: [
      ...["ingressroutes", "ingressroutetcps", "ingressrouteudps", "middlewares", "middlewaretcps"],
      ...["serverstransports", "serverstransporttcps", "tlsoptions", "tlsstores", "traefikservices"],
    ],
    verbs: ["get", "list", "watch"],
  },
];

function serviceOf({ kubernetes: { exposure }, port }: KubernetesProxyArgs) {
  const onNodes = exposure === "NodePort";
  return {
    type: exposure,
    // The proxy sees clients' own addresses; a port of all nodes has to be reached on any of them.
    ...(!onNodes && { externalTrafficPolicy: "Local" }),
    selector: app,
    ports: [
      {
        name: entryPoint,
        port: onNodes ? listening.postgres : port,
        targetPort: listening.postgres,
        ...(onNodes && { nodePort: port }),
      },
    ],
  };
}

function deploymentOf({ kubernetes, proxyImage, names, port }: KubernetesProxyArgs, onHost: boolean) {
  return {
    replicas: kubernetes.proxyReplicas,
    selector: { matchLabels: app },
    // Two pods cannot have one port of a node: there, one makes room for its successor.
    strategy: {
      rollingUpdate: onHost ? { maxSurge: 0, maxUnavailable: 1 } : { maxSurge: 1, maxUnavailable: 0 },
    },
    template: {
      metadata: { labels: app },
      spec: {
        serviceAccountName: "traefik",
        terminationGracePeriodSeconds: 30,
        // Names of servers are whole ones.
        dnsConfig: { options: [{ name: "ndots", value: "1" }] },
        securityContext: {
          runAsNonRoot: true,
          runAsUser: 65532,
          runAsGroup: 65532,
          seccompProfile: { type: "RuntimeDefault" },
        },
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: "kubernetes.io/hostname",
            whenUnsatisfiable: "ScheduleAnyway",
            labelSelector: { matchLabels: app },
          },
        ],
        containers: [
          {
            name: "traefik",
            image: proxyImage,
            args: argumentsOf(names),
            ports: [
              {
                name: entryPoint,
                containerPort: listening.postgres,
                protocol: "TCP",
                ...(onHost && { hostPort: port }),
              },
            ],
            readinessProbe: { httpGet: { path: "/ping", port: listening.ping }, periodSeconds: 2 },
            resources: { requests: { cpu: "50m", memory: "64Mi" }, limits: { memory: "1Gi" } },
            securityContext: {
              allowPrivilegeEscalation: false,
              readOnlyRootFilesystem: true,
              capabilities: { drop: ["ALL"] },
            },
          },
        ],
      },
    },
  };
}

/** https://doc.traefik.io/traefik/reference/install-configuration/configuration-options/ */
function argumentsOf(names: ObjectNames): string[] {
  return [
    `--entryPoints.${entryPoint}.address=:${listening.postgres}/tcp`,
    // Clients without TLS, or that never say a word, are let go after this; open sessions are not affected.
    `--entryPoints.${entryPoint}.transport.respondingTimeouts.readTimeout=5s`,
    // A pod that ends is still sent clients for a moment.
    `--entryPoints.${entryPoint}.transport.lifeCycle.requestAcceptGraceTimeout=5s`,
    `--entryPoints.traefik.address=:${listening.ping}/tcp`,
    "--ping=true",
    "--providers.kubernetesCRD=true",
    `--providers.kubernetesCRD.namespaces=${names.proxy}`,
    "--providers.kubernetesCRD.allowExternalNameServices=true",
    "--providers.kubernetesCRD.disableClusterScopeResources=true",
    "--providers.providersThrottleDuration=50ms",
    "--log.level=WARN",
    "--global.checkNewVersion=false",
    "--global.sendAnonymousUsage=false",
  ];
}
