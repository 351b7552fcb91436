import type Docker from "dockerode";
import { dockerClient, engineName } from "../../docker/client";
import { stackContainers } from "../../docker/labels";
import { CommandError } from "./pulumi";
import type { StackConfig, StackOutputs } from "./stack";

/** The stack's containers, running or not, by name: one request. @throws CommandError when the engine does not answer */
export async function containersOf(
  { dockerHost }: Pick<StackConfig, "dockerHost">,
  { stack }: Pick<StackOutputs, "stack">,
): Promise<Map<string, Docker.ContainerInfo>> {
  try {
    return await stackContainers(dockerClient(dockerHost), stack);
  } catch (error) {
    throw new CommandError(
      `the Docker engine at ${engineName(dockerHost)} does not answer (${(error as Error).message}): ./pgs setup --check`,
    );
  }
}
