/**
 * Where the proxy listens for cancel requests that are passed on, and for the operator's own programs beside it. It is
 * not published, and no limit of clients counts there.
 */
export const innerPort = 5433;

/** Names of all that a stack has on its Docker host. */
export interface ResourceNames {
  /** Container and volume of the proxy. */
  proxy: string;
  /** The proxy's own network; one with a range of IPv6 has it in its name, as another range needs another network. */
  proxyNetwork(ipv6Subnet: string | undefined): string;
  /** Container of what passes cancel requests on. */
  cancel: string;
  /** The one network of all tenants, where `pgs:isolation` is `shared`. */
  sharedNetwork: string;
  /** Container, volume and network of what copies backups off the host. */
  offsite: string;
  /** Volume with the programs that servers start with. */
  programs: string;
  /** Volume with the results of restores that were tried. */
  trials: string;
  /** The network of what watches the stack; the proxy is in it too. */
  monitoring: string;
  /** The network by which Prometheus sends on what it has. */
  monitoringOut: string;
  /** Container and volume of Prometheus. */
  prometheus: string;
  /** Container of postgres_exporter. */
  exporter: string;
  /** Container of what the engine and the host are asked by. */
  collector: string;
  /** Container and volume of what the exporter reaches the servers by. */
  relay: string;
  /** Container, volume and network of a tenant's server. */
  tenant(id: string): string;
  /** Container and volume of a tenant's backups. */
  backup(id: string): string;
  /** Container that pools the connections of a tenant's clients. */
  pooler(id: string): string;
  /** Volume that a restore of a tenant is tried in. */
  trial(id: string): string;
  /** Volume with the data that a tenant had before a restore in place; `stamp` is YYYYMMDDTHHMMSS. */
  before(id: string, stamp: string): string;
}

/**
 * Every name is made here. Tenant ids have no two hyphens in a row and a prefix does not end in one: what has two is no
 * tenant's server.
 */
export function resourceNames(prefix: string): ResourceNames {
  return {
    proxy: `${prefix}-proxy`,
    proxyNetwork: (subnet) =>
      subnet ? `${prefix}--proxy-${subnet.replace(/[^0-9a-z]+/gi, "-")}` : `${prefix}-proxy`,
    cancel: `${prefix}--cancel`,
    sharedNetwork: `${prefix}--tenants`,
    offsite: `${prefix}--offsite`,
    programs: `${prefix}--programs`,
    trials: `${prefix}--trials`,
    monitoring: `${prefix}--monitoring`,
    monitoringOut: `${prefix}--monitoring-out`,
    prometheus: `${prefix}--prometheus`,
    exporter: `${prefix}--exporter`,
    collector: `${prefix}--collector`,
    relay: `${prefix}--relay`,
    tenant: (id) => `${prefix}-${id}`,
    backup: (id) => `${prefix}-${id}--backup`,
    pooler: (id) => `${prefix}-${id}--pooler`,
    trial: (id) => `${prefix}-${id}--trial`,
    before: (id, stamp) => `${prefix}--before-${id}-${stamp}`,
  };
}

/** The container of a restore that works in this volume. */
export function restoreContainer(volume: string): string {
  return `${volume}--restore`;
}

/** A container that is made beside the one that it will replace. */
export function replacementName(container: string): string {
  return `${container}--new`;
}

/** The volume that copies off the host are fetched into for a restore in this volume. */
export function fetchedVolume(volume: string): string {
  return `${volume}--fetched`;
}
