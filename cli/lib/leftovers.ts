import type Docker from "dockerode";
import { roleLabel, stackLabel, tenantLabel } from "../../docker/labels";
import { type ResourceNames, resourceNames } from "../../docker/names";
import type { Finding } from "./doctor";
import type { StackConfig } from "./stack";
import { firstOf } from "./terminal";

/**
 * Containers and networks that a killed run made under another prefix. An `up` adopts what a killed run left under the
 * names that it uses itself; after a change of the prefix it uses others.
 * @param containers the stack's, by name @param tenants ids of those that there are
 */
export async function leftoverFindings(
  docker: Docker,
  { prefix, ipv6Subnet }: Pick<StackConfig, "prefix" | "ipv6Subnet">,
  stack: string,
  containers: Map<string, Docker.ContainerInfo>,
  tenants: string[],
): Promise<Finding[]> {
  const names = resourceNames(prefix);
  // With another prefix that no `up` has applied yet, all that there is has other names.
  if (!containers.has(names.proxy)) return [];
  const stopped = [...containers].filter(
    ([name, { State, Labels }]) => State !== "running" && Labels[roleLabel] && name !== wanted(names, Labels),
  );
  const own = { filters: JSON.stringify({ label: [`${stackLabel}=${stack}`] }) };
  const networks = [
    names.proxyNetwork(ipv6Subnet),
    names.offsite,
    names.sharedNetwork,
    names.monitoring,
    names.monitoringOut,
    ...tenants.map(names.tenant),
  ];
  const others = (await docker.listNetworks(own))
    .map(({ Name }) => Name)
    .filter((name) => !networks.includes(name));
  return [
    ...finding(
      "containers",
      "docker rm",
      stopped.map(([name]) => name),
    ),
    ...finding("networks", "docker network rm", others),
  ];
}

/** The name that the container would have now. */
function wanted(names: ResourceNames, labels: Record<string, string>): string | undefined {
  const tenant = labels[tenantLabel] ?? "";
  const byRole: Record<string, string> = {
    proxy: names.proxy,
    cancel: names.cancel,
    offsite: names.offsite,
    prometheus: names.prometheus,
    exporter: names.exporter,
    collector: names.collector,
    relay: names.relay,
    server: names.tenant(tenant),
    backup: names.backup(tenant),
    pooler: names.pooler(tenant),
  };
  return byRole[labels[roleLabel] ?? ""];
}

function finding(what: string, command: string, names: string[]): Finding[] {
  if (names.length === 0) return [];
  const sorted = names.sort();
  return [
    {
      check: "leftovers",
      level: "note",
      message: `${what} of a run that was killed, which nothing uses: ${firstOf(sorted)}`,
      advice: `while no up runs: ${command} ${sorted.join(" ")}`,
    },
  ];
}
