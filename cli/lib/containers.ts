import type Docker from "dockerode";
import { dockerClient, engineName } from "../../docker/client";
import { stackContainers, stackLabel } from "../../docker/labels";
import { CommandError } from "./pulumi";
import type { StackConfig, StackOutputs } from "./stack";

/** The stack's containers, running or not, by name: one request. @throws CommandError when the engine does not answer */
export async function containersOf(
  { dockerHost, prefix }: Pick<StackConfig, "dockerHost" | "prefix">,
  { stack }: Pick<StackOutputs, "stack">,
): Promise<Map<string, Docker.ContainerInfo>> {
  try {
    const docker = dockerClient(dockerHost);
    if (stack !== undefined) return await stackContainers(docker, stack);
    const all = await docker.listContainers({ all: true, filters: { label: [stackLabel] } });
    const named = all.map((info): [string, Docker.ContainerInfo] => [info.Names[0]?.slice(1) ?? "", info]);
    return new Map(named.filter(([name]) => name.startsWith(`${prefix}-`)));
  } catch (error) {
    throw new CommandError(
      `the Docker engine at ${engineName(dockerHost)} does not answer (${(error as Error).message}): ./pgs setup --check`,
    );
  }
}
