import type Docker from "dockerode";
import { containersByName } from "../../docker/cache";
import { stackLabel } from "../../docker/labels";

/** Whether this stack made it. */
export function isOfStack(info: Docker.ContainerInspectInfo, stack: string): boolean {
  return info.Config.Labels?.[stackLabel] === stack;
}

/**
 * Why a container of this name cannot be this stack's; undefined where nothing is in the way.
 * @param stack undefined while it is not known, in the preview of a new stack: then nothing can be its own yet
 */
export async function nameProblem(
  host: string | undefined,
  name: string,
  stack: string | undefined,
): Promise<string | undefined> {
  const present = (await containersByName(host)).get(name);
  if (!present) return undefined;
  const owner = present.Labels?.[stackLabel];
  if (owner !== undefined && owner === stack) return undefined;
  return takenName("container", name, owner);
}

/** Nothing of another's is adopted or removed. @param owner the other stack; undefined when it is none of pgs */
export function takenName(
  kind: "container" | "network" | "volume",
  name: string,
  owner: string | undefined,
): string {
  const whose = owner === undefined ? "was not made by pgs" : `belongs to the pgs stack ${owner}`;
  return (
    `the ${kind} ${name} on the Docker host ${whose}: give this stack names of its own ` +
    `(pulumi config set pgs:prefix …), or remove the ${kind}${owner === undefined ? "" : " from that stack"}`
  );
}
