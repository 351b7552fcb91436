import * as pulumi from "@pulumi/pulumi";
import { Network } from "../provider/resources";
import type { PostgresProxy } from "./proxy";

export interface TenantNetworksArgs {
  /** Names of the networks start with it. */
  prefix: string;
  /**
   * `network`: each tenant has a network of its own. `shared`: all have one, and each server lets nobody in
   * but the proxy, whose restart then takes a second however many tenants there are.
   */
  isolation: "network" | "shared";
  /** IPv4 range from which the networks are taken. */
  tenantSubnets: string;
  proxy: PostgresProxy;
  /** The Docker host, when it is not the default one. */
  dockerHost?: string;
}

/** Where a tenant's server lives, and from where it lets clients in. */
export interface TenantNetwork {
  name: pulumi.Output<string>;
  /** A CIDR, or `all`. */
  clients: pulumi.Input<string>;
}

/** The internal networks of the tenants, with the proxy attached: no way out, and none to another tenant. */
export class TenantNetworks extends pulumi.ComponentResource {
  private readonly shared: Network | undefined;

  constructor(
    name: string,
    private readonly args: TenantNetworksArgs,
    opts?: pulumi.ComponentResourceOptions,
  ) {
    super("pgs:index:TenantNetworks", name, {}, opts);
    if (args.isolation === "shared") {
      // Two hyphens: no tenant's network has such a name.
      this.shared = this.create("tenants", "-tenants", 20, { parent: this });
    }
    this.registerOutputs();
  }

  /** The network for one tenant; one of its own becomes a child of `parent`. */
  of(tenant: string, parent: pulumi.Resource): TenantNetwork {
    if (this.shared) {
      return { name: this.shared.name, clients: pulumi.interpolate`${this.shared.proxyAddress}/32` };
    }
    return { name: this.create(tenant, tenant, 29, { parent }).name, clients: "all" };
  }

  private create(
    name: string,
    suffix: string,
    prefixLength: number,
    opts: pulumi.CustomResourceOptions,
  ): Network {
    return new Network(
      name,
      {
        host: this.args.dockerHost,
        name: `${this.args.prefix}-${suffix}`,
        internal: true,
        pool: this.args.tenantSubnets,
        prefixLength,
        proxy: this.args.proxy.containerId,
      },
      // One of another name is made beside the old, which goes when the servers have left it.
      { ...opts, deleteBeforeReplace: false },
    );
  }
}
