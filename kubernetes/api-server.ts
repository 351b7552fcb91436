import { isIPv6 } from "node:net";
import type { KubernetesClient } from "./client";

/** Where pods reach the API server. */
export interface ApiServer {
  /** Each with a single address. */
  cidrs: string[];
  ports: number[];
}

/**
 * The Service's own address, and those behind it: some networks apply policies before they choose one, some after.
 * https://kubernetes.io/docs/concepts/services-networking/network-policies/#networkpolicy-resource
 */
export async function apiServerOf({ core, discovery }: KubernetesClient): Promise<ApiServer> {
  const namespace = "default";
  const labelSelector = "kubernetes.io/service-name=kubernetes";
  const [{ spec }, { items }] = await Promise.all([
    core.readNamespacedService({ namespace, name: "kubernetes" }),
    discovery.listNamespacedEndpointSlice({ namespace, labelSelector }),
  ]);
  const addresses = [
    ...(spec?.clusterIPs ?? []),
    ...items.flatMap(({ endpoints }) => (endpoints ?? []).flatMap((endpoint) => endpoint.addresses)),
  ];
  const ports = [
    ...(spec?.ports ?? []).map(({ port }) => port),
    ...items.flatMap((slice) => (slice.ports ?? []).flatMap(({ port }) => port ?? [])),
  ];
  const cidrs = addresses.map((address) => `${address}/${isIPv6(address) ? 128 : 32}`);
  return {
    cidrs: [...new Set(cidrs)].sort(),
    ports: [...new Set(ports)].sort((one, other) => one - other),
  };
}
