import { createHash } from "node:crypto";
import * as pulumi from "@pulumi/pulumi";
import { stringify } from "yaml";
import { cancelPort, type ResourceNames } from "../../docker/names";
import { Container, type Programs, programText, programVersion, TraefikFile } from "../../provider/resources";
import { barmanVolumes, type PostgresImages } from "./postgres-images";
import { dynamicFolder, entryPoints, type PostgresProxy, proxyNetwork } from "./proxy";

export interface CancelRequestsArgs {
  /** The stack's id, which its containers are labelled with. */
  stack: pulumi.Input<string>;
  names: ResourceNames;
  images: PostgresImages;
  proxy: PostgresProxy;
  programs: Programs;
  /** IPv4 range of the tenants' networks. */
  tenantSubnets: string;
  /** IPv6 range of the proxy's network. */
  ipv6Subnet?: string;
  /** Addresses and ranges that every client has to come from; undefined: any. */
  allow?: string[];
  /** The Docker host, when it is not the default one. */
  dockerHost?: string;
}

/** Connections from one address that may be open at a time: each lives as long as a packet is passed on. */
const connectionsPerAddress = 64;

/**
 * What makes Ctrl-C work: the proxy routes what is not TLS to a container that passes cancel requests on to all tenants'
 * servers, through the proxy (cancel/cancel_requests.py). It reads the routes' files, and knows no secret.
 */
export class CancelRequests extends pulumi.ComponentResource {
  constructor(name: string, args: CancelRequestsArgs, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:CancelRequests", name, {}, opts);
    const child = { parent: this };
    const { dockerHost: host, names, proxy } = args;
    const container = new Container(
      "cancel",
      {
        host,
        stack: args.stack,
        name: names.cancel,
        role: "cancel",
        ...args.images.barman,
        // Isolated: no file or variable of the container has a say in what runs.
        entrypoint: ["python3", "-I", "/pgs/cancel-requests"],
        command: [names.proxy, String(cancelPort), "/routes"],
        env: [programVersion(programText("cancel-requests"))],
        user: "65534:65534",
        mounts: [
          { volume: args.programs.volume, path: "/pgs", readOnly: true },
          { volume: proxy.volume, path: "/routes", readOnly: true },
        ],
        tmpfs: barmanVolumes,
        networks: [proxyNetwork(args)],
        resolvesNames: false,
        memory: 64 << 20,
        pids: 64,
        cpuShares: 64,
        stopSeconds: 1,
      },
      { ...child, dependsOn: proxy.ready },
    );
    new TraefikFile(
      "cancel",
      {
        host,
        container: proxy.containerName,
        path: `${dynamicFolder}/cancel.yml`,
        content: routeFile(args),
      },
      { ...child, dependsOn: container },
    );
    this.registerOutputs();
  }
}

/**
 * Stands for a hostname where there is no TLS to say it: the proxy is told that a cancel request comes from this address,
 * by which it finds the server. No client has such a one: they are of a network (RFC 4193) that is nowhere.
 */
export function cancelAddress(host: string): string {
  const digits = createHash("sha256").update(host).digest("hex");
  return `fd${digits
    .slice(0, 30)
    .replace(/^(..)|(.{4})/g, "$1$2:")
    .slice(0, -1)}`;
}

/** https://doc.traefik.io/traefik/reference/routing-configuration/tcp/router/rules-and-priority/ */
function routeFile({ names, tenantSubnets, allow }: CancelRequestsArgs): string {
  const ipAllowList = allow && { "cancel--allow": { ipAllowList: { sourceRange: allow } } };
  return stringify({
    tcp: {
      routers: {
        "cancel--requests": {
          entryPoints: [entryPoints.clients],
          // Without `tls`, it gets what is not TLS alone.
          rule: `HostSNI(\`*\`) && !ClientIP(\`${tenantSubnets}\`)`,
          middlewares: [...Object.keys(ipAllowList ?? {}), "cancel--requests"],
          service: "cancel--requests",
        },
      },
      middlewares: {
        ...ipAllowList,
        "cancel--requests": { inFlightConn: { amount: connectionsPerAddress } },
      },
      services: {
        "cancel--requests": {
          loadBalancer: {
            servers: [{ address: `${names.cancel}:5432` }],
            serversTransport: "cancel--requests",
          },
        },
      },
      serversTransports: { "cancel--requests": { proxyProtocol: { version: 1 } } },
    },
  });
}
