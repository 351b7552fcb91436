import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { stringify } from "yaml";
import type { AcmeSettings } from "../../config";
import { cancelPort, innerPort, type ResourceNames } from "../../docker/names";
import { AcmeCertificate, Container, TraefikFile } from "../../provider/resources";
import { allBut } from "../../tenants/addresses";
import type { KeyPair, WildcardCertificate } from "../wildcard-certificate";
import {
  type AcmeFiles,
  acmeArguments,
  acmeContents,
  acmeEnvironment,
  acmeResolver,
  acmeStorage,
} from "./acme";

export interface PostgresProxyArgs {
  /** The stack's id, which its containers are labelled with. */
  stack: pulumi.Input<string>;
  names: ResourceNames;
  /** Traefik, at least 3.7.13: earlier ones have known holes. */
  proxyImage: string;
  /** Published on all addresses of the Docker host. */
  port: number;
  /** The proxy serves `*.domain`. */
  domain: string;
  certificate: WildcardCertificate;
  /** Set when the proxy is to get the certificate by itself. */
  acme?: AcmeSettings;
  /** What the DNS provider asks for, by the names of environment variables: a secret. */
  acmeCredentials: pulumi.Output<Record<string, string>>;
  /** `shared`: the proxy is in the one network that all tenants have. */
  isolation: "network" | "shared";
  /** IPv4 range from which the tenants' networks are taken. */
  tenantSubnets: string;
  /** IPv6 range of the proxy's network; without it, clients of IPv6 come in by the Docker host's address. */
  ipv6Subnet?: string;
  /** Set when the stack is watched: the proxy then has metrics, on the network of monitoring alone. */
  monitoring?: unknown;
  /** The Docker host, when it is not the default one. */
  dockerHost?: string;
}

/** Where the proxy watches for routes and the certificate. Recreating the folder would blind the watch. */
export const dynamicFolder = "/etc/traefik/dynamic";

/** The names of the proxy's entry points, which routes refer to. */
export const entryPoints = {
  /** The public one, for clients. */
  clients: "postgres",
  /** On `innerPort`. */
  inner: "inner",
  /** On `cancelPort`. */
  cancel: "cancel",
  /** On `metricsPort`. */
  metrics: "metrics",
};

/** Where the proxy has its own metrics, for the network of monitoring alone. It is not published. */
export const metricsPort = 8082;

/**
 * Traefik: the one container with a published port. It terminates TLS and routes by the hostname in the TLS
 * SNI. Its static set-up is its arguments; what changes while it runs are files in a watched volume.
 */
export class PostgresProxy extends pulumi.ComponentResource {
  readonly containerName: string;
  /** Name of the volume with its routes. */
  readonly volume: pulumi.Output<string>;
  readonly containerId: pulumi.Output<string>;
  readonly imageId: pulumi.Output<string>;
  /** The proxy's container. Not its certificate: where that cannot be had, the tenants keep the one that is there. */
  readonly ready: pulumi.Resource[];

  constructor(name: string, args: PostgresProxyArgs, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:PostgresProxy", name, {}, opts);
    const child = { parent: this };
    const { dockerHost: host, stack, proxyImage } = args;
    const containerName = args.names.proxy;

    const image = new docker.RemoteImage("proxy", { name: proxyImage, keepLocally: true }, child);
    // As with a tenant's: no edit replaces it.
    const volume = new docker.Volume(
      "proxy",
      { name: containerName },
      { ...child, ignoreChanges: ["name", "driver", "driverOpts", "labels"] },
    );
    const acme = args.acme && {
      settings: args.acme,
      files: this.createAcmeFiles(args.acme, args.acmeCredentials),
    };
    const container = new Container(
      "proxy",
      {
        host,
        stack,
        name: containerName,
        role: "proxy",
        image: proxyImage,
        imageId: image.imageId,
        command: [
          ...staticConfiguration(args),
          ...(args.monitoring ? metricsArguments : []),
          ...(acme ? acmeArguments(acme.settings, acme.files, dynamicFolder) : []),
        ],
        env: acme && acmeEnvironment(acme.files),
        ports: [{ internal: 5432, external: args.port }],
        networks: networksOf(args),
        mounts: [{ volume: volume.name, path: dynamicFolder }],
        resolvesNames: true,
        memory: 1 << 30,
        pids: 1024,
        // Traefik lets connections that are open finish for ten seconds.
        stopSeconds: 15,
      },
      child,
    );
    const ordered = acme && [
      new AcmeCertificate(
        "certificate",
        {
          host,
          container: containerName,
          containerId: container.containerId,
          folder: dynamicFolder,
          resolver: acmeResolver,
          storage: acmeStorage,
          domain: `*.${args.domain}`,
          files: acme.files.contents,
          filesFolder: acme.files.folder,
        },
        child,
      ),
    ];
    new TraefikFile(
      "certificate",
      {
        host,
        // The plain name: with the container's own output, Pulumi would delete the file before it replaces a container.
        container: containerName,
        path: `${dynamicFolder}/certificate.yml`,
        content: certificateFile(args.certificate.served),
      },
      // What the proxy shows until then is in this file.
      { ...child, dependsOn: ordered ?? [container] },
    );

    this.containerName = containerName;
    this.volume = volume.name;
    this.containerId = container.containerId;
    this.imageId = image.imageId;
    this.ready = [container];
    this.registerOutputs();
  }

  /** The files themselves are written by AcmeCertificate, into the running proxy. */
  private createAcmeFiles(acme: AcmeSettings, credentials: pulumi.Output<Record<string, string>>): AcmeFiles {
    const contents = acmeContents(acme, credentials);
    const { hex } = new random.RandomId("acme", { byteLength: 4, keepers: contents }, { parent: this });
    return { contents, folder: pulumi.interpolate`${dynamicFolder}/acme-${hex}` };
  }
}

/** The proxy's own network, which leads out. */
export function proxyNetwork({ names, ipv6Subnet }: Pick<PostgresProxyArgs, "names" | "ipv6Subnet">) {
  return { name: names.proxyNetwork(ipv6Subnet), internal: false, ipv6Subnet };
}

/** Its own, and the tenants' where that is one. */
function networksOf(args: PostgresProxyArgs) {
  const { names, isolation, tenantSubnets: pool } = args;
  const own = proxyNetwork(args);
  return [
    own,
    ...(isolation === "shared" ? [tenantNetwork(names.sharedNetwork, pool, isolation)] : []),
    ...(args.monitoring ? [monitoringNetwork(args)] : []),
  ];
}

/** Of what watches the stack: no way out, and the proxy attached. */
export function monitoringNetwork({
  names,
  tenantSubnets: pool,
}: Pick<PostgresProxyArgs, "names" | "tenantSubnets">) {
  return { name: names.monitoring, internal: true, pool, prefixLength: 28 };
}

/** A network that tenants' servers are in: no way out, and the proxy attached. */
export function tenantNetwork(name: string, pool: string, isolation: "network" | "shared") {
  return { name, internal: true, pool, prefixLength: isolation === "shared" ? 20 : 29 };
}

/** Whom it answers there is in a file that Monitoring writes. */
const metricsArguments = [
  `--entryPoints.${entryPoints.metrics}.address=:${metricsPort}/tcp`,
  "--metrics.prometheus=true",
  "--metrics.prometheus.manualRouting=true",
  "--metrics.prometheus.addEntryPointsLabels=true",
];

/** https://doc.traefik.io/traefik/reference/install-configuration/configuration-options/ */
function staticConfiguration({ tenantSubnets }: PostgresProxyArgs): string[] {
  return [
    `--entryPoints.${entryPoints.clients}.address=:5432/tcp`,
    // Clients without TLS, or that never say a word, are let go after this; open sessions are not affected.
    `--entryPoints.${entryPoints.clients}.transport.respondingTimeouts.readTimeout=5s`,
    `--entryPoints.${entryPoints.inner}.address=:${innerPort}/tcp`,
    `--entryPoints.${entryPoints.inner}.transport.respondingTimeouts.readTimeout=5s`,
    `--entryPoints.${entryPoints.cancel}.address=:${cancelPort}/tcp`,
    `--entryPoints.${entryPoints.cancel}.transport.respondingTimeouts.readTimeout=5s`,
    // What says there whom it is for is believed, but by no tenant's server: it would reach the others without TLS.
    `--entryPoints.${entryPoints.cancel}.proxyProtocol.trustedIPs=${allBut(tenantSubnets).join(",")}`,
    `--providers.file.directory=${dynamicFolder}`,
    "--providers.file.watch=true",
    // A changed route counts after this time; the default is two seconds.
    "--providers.providersThrottleDuration=50ms",
    // For the health check alone: by default tenants could reach it.
    "--entryPoints.traefik.address=127.0.0.1:8080/tcp",
    "--ping=true",
    "--log.level=WARN",
    "--global.checkNewVersion=false",
    "--global.sendAnonymousUsage=false",
  ];
}

/**
 * libpq from version 17 on offers the ALPN protocol `postgresql`, with direct TLS and with STARTTLS; a server
 * that does not know it would be refused. https://www.postgresql.org/docs/18/protocol-flow.html
 */
function certificateFile(certificate: KeyPair | undefined): pulumi.Output<string> {
  return pulumi.secret(
    pulumi.output(certificate).apply((pair) =>
      stringify({
        tls: {
          certificates: pair && [{ certFile: pair.chain, keyFile: pair.key }],
          options: {
            default: { minVersion: "VersionTLS12", sniStrict: true, alpnProtocols: ["postgresql"] },
          },
        },
      }),
    ),
  );
}
