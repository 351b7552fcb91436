import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { stringify } from "yaml";
import type { AcmeSettings } from "../config";
import { AcmeCertificate, Attachment, Network, TraefikFile } from "../provider/resources";
import {
  type AcmeFiles,
  acmeArguments,
  acmeContents,
  acmeEnvironment,
  acmeResolver,
  acmeStorage,
} from "./acme";
import type { StackMark } from "./stack-mark";
import type { KeyPair, WildcardCertificate } from "./wildcard-certificate";

export interface PostgresProxyArgs {
  /** Names of the container, volume and network start with it. */
  prefix: string;
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
  mark: StackMark;
  /** The Docker host, when it is not the default one. */
  dockerHost?: string;
}

/** Where the proxy watches for routes and the certificate. Recreating the folder would blind the watch. */
export const dynamicFolder = "/etc/traefik/dynamic";

/** The name of the proxy's entry point, which routes refer to. */
export const entryPoint = "postgres";

/**
 * Traefik: the one container with a published port. It terminates TLS and routes by the hostname in the TLS
 * SNI. Its static set-up is its arguments; what changes while it runs are files in a watched volume.
 */
export class PostgresProxy extends pulumi.ComponentResource {
  readonly containerName: string;
  readonly containerId: pulumi.Output<string>;
  /** The proxy's container, with the certificate in place. */
  readonly ready: pulumi.Resource[];

  constructor(name: string, args: PostgresProxyArgs, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:PostgresProxy", name, {}, opts);
    const child = { parent: this };
    const containerName = `${args.prefix}-proxy`;

    const image = new docker.RemoteImage("proxy", { name: args.proxyImage, keepLocally: true }, child);
    const network = new Network(
      "proxy",
      { host: args.dockerHost, name: containerName, internal: false },
      child,
    );
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
    const container = new docker.Container(
      "proxy",
      {
        ...args.mark.of(containerName, { volume: volume.name, image: image.imageId }),
        image: image.imageId,
        command: [
          ...staticConfiguration(),
          ...(acme ? acmeArguments(acme.settings, acme.files, dynamicFolder) : []),
        ],
        envs: acme && acmeEnvironment(acme.files),
        ports: [{ internal: 5432, external: args.port }],
        networksAdvanced: [{ name: network.name }],
        volumes: [{ volumeName: volume.name, containerPath: dynamicFolder }],
        restart: "unless-stopped",
        // A refresh, also that of a preview, would remove a container that somebody stopped: the attachment starts it.
        mustRun: false,
        // Traefik lets connections that are open finish for ten seconds.
        destroyGraceSeconds: 15,
        readOnly: true,
        capabilities: { drops: ["ALL"] },
        securityOpts: ["no-new-privileges:true"],
        healthcheck: { tests: ["CMD", "traefik", "healthcheck", "--ping"], interval: "30s", timeout: "5s" },
        logDriver: "json-file",
        logOpts: { "max-size": "10m", "max-file": "3" },
      },
      child,
    );
    const attachment = new Attachment(
      "proxy",
      { host: args.dockerHost, container: container.id, network: network.name },
      child,
    );
    const ordered = acme && [
      new AcmeCertificate(
        "certificate",
        {
          host: args.dockerHost,
          container: containerName,
          containerId: container.id,
          folder: dynamicFolder,
          resolver: acmeResolver,
          storage: acmeStorage,
          domain: `*.${args.domain}`,
          files: acme.files.contents,
          filesFolder: acme.files.folder,
        },
        // Its DNS provider and its CA are asked over the network.
        { ...child, dependsOn: [attachment] },
      ),
    ];
    const certificate = new TraefikFile(
      "certificate",
      {
        host: args.dockerHost,
        // The plain name: with the container's own output, Pulumi would delete the file before it makes a container anew.
        container: containerName,
        path: `${dynamicFolder}/certificate.yml`,
        content: certificateFile(args.certificate.served),
      },
      // What the proxy shows until then is in this file.
      { ...child, dependsOn: ordered ?? [attachment] },
    );

    this.containerName = containerName;
    this.containerId = container.id;
    this.ready = [container, attachment, certificate];
    this.registerOutputs();
  }

  /** The files themselves are written by AcmeCertificate, into the running proxy. */
  private createAcmeFiles(acme: AcmeSettings, credentials: pulumi.Output<Record<string, string>>): AcmeFiles {
    const contents = acmeContents(acme, credentials);
    const { hex } = new random.RandomId("acme", { byteLength: 4, keepers: contents }, { parent: this });
    return { contents, folder: pulumi.interpolate`${dynamicFolder}/acme-${hex}` };
  }
}

/** https://doc.traefik.io/traefik/reference/install-configuration/configuration-options/ */
function staticConfiguration(): string[] {
  return [
    `--entryPoints.${entryPoint}.address=:5432/tcp`,
    // Clients without TLS, or that never say a word, are let go after this; open sessions are not affected.
    `--entryPoints.${entryPoint}.transport.respondingTimeouts.readTimeout=5s`,
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
