import type Docker from "dockerode";

/** On everything of a stack: the stack's own id, such as `dev-5f0c9a3e21b47d68`. */
export const stackLabel = "pgs.stack";

/** On what belongs to one tenant: the tenant's id. */
export const tenantLabel = "pgs.tenant";

/** On each container: what it is to the stack, or to its tenant: `proxy`, `cancel`, `offsite`, `prometheus`,
 * `alertmanager`, `grafana`, `exporter`, `collector`, `relay`, `server`, `backup` or `pooler`. */
export const roleLabel = "pgs.role";

/** On each container: a digest of all that only a new container could change. */
export const digestLabel = "pgs.digest";

/** On a volume with data: the PostgreSQL major version that made it. */
export const versionLabel = "pgs.version";

/** The containers of a stack, running or not, by name: one request. */
export async function stackContainers(
  docker: Docker,
  stack: string,
): Promise<Map<string, Docker.ContainerInfo>> {
  const list = await docker.listContainers({ all: true, filters: { label: [`${stackLabel}=${stack}`] } });
  return new Map(list.map((info) => [(info.Names[0] ?? "").replace(/^\//, ""), info]));
}
