import type { MissingFields } from "../tenants";

/** Where a stack's tenants run. */
export type Platform = "docker" | "kubernetes";

/** What a platform does not have, and what to do there. */
export interface Missing {
  /** Shown behind what it is about. */
  instead: string;
  /** The one value that means the same there. Default: none. */
  only?: string | boolean;
}

/** Of the keys of a stack's configuration: those that a platform does not have. A key at its default is no mistake. */
export const missingKeys: Readonly<Record<Platform, Readonly<Record<string, Missing>>>> = {
  docker: {
    kubernetes: { instead: "only a stack with pgs:platform kubernetes has it" },
  },
  kubernetes: {
    tenantSubnets: { instead: "NetworkPolicies keep tenants apart there" },
    isolation: { instead: "NetworkPolicies keep tenants apart there" },
    ipv6Subnet: { instead: "the cluster's own network decides on IPv6" },
    diskReserve: { instead: "each tenant has a volume of its own; disk is its size" },
    acme: { instead: "name the files of a certificate by pgs:certificate" },
    acmeCredentials: { instead: "name the files of a certificate by pgs:certificate" },
    monitoring: { instead: "watch the servers by the metrics of CloudNativePG" },
    alertCredentials: { instead: "watch the servers by the metrics of CloudNativePG" },
  },
};

/** Of the fields of tenants.yaml: those that a platform does not have. */
const missingFields: Readonly<Record<Platform, Readonly<Record<string, Missing>>>> = {
  docker: {
    replicas: { instead: "a tenant is one server on one host there; pgs:platform kubernetes has replicas" },
    sync: { instead: "a tenant is one server on one host there; pgs:platform kubernetes has replicas" },
  },
  kubernetes: {
    tls: { only: "terminate", instead: "TLS ends at the proxy there" },
    disk: { instead: "a volume has a size there, such as 10Gi" },
    locale: { instead: "a new database has the locale C.UTF-8; make another one by SQL" },
    encoding: { instead: "a new database has the encoding UTF8; make another one by SQL" },
    icu: { instead: "make a database with it by SQL" },
    volume: { instead: "load a dump by psql or pg_restore" },
  },
};

export const platformNames: Readonly<Record<Platform, string>> = {
  docker: "Docker",
  kubernetes: "Kubernetes",
};

/** For the check of tenants.yaml. */
export function missingOn(platform: Platform): MissingFields {
  return { on: platformNames[platform], fields: missingFields[platform] };
}
