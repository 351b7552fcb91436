import type Docker from "dockerode";
import { dockerClient, ifPresent, stopCleanly } from "../docker/client";
import { lookInside } from "./postgres-server";
import { stackLabel } from "./stack-container";

/** On those that are the Docker provider's: which making of it this is. One that was removed by hand is made anew with another. */
const generationLabel = "pgs.generation";

export interface StockInputs {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  /** The stack's random id. */
  stack: string;
  /** Ids of the containers in the stack's state. Given in an `up`, which then is made able to go on from what there is. */
  inState?: {
    /** Resources of the Docker provider. */
    docker: string[];
    /** Those of tenants' servers. */
    servers: string[];
  };
}

export interface Stock {
  /** By name of each of the stack's containers that is there: its generation; empty when it was made without one. */
  generations: Record<string, string>;
  /** Names of containers that were removed. */
  removed: string[];
  /** Ids of the Docker provider's containers that are in the state and were gone. */
  gone: string[];
}

/**
 * Looks which of the stack's containers are there: the Docker provider itself sees that only in a refresh, which takes
 * a third of a second for each tenant.
 */
export async function takeStock(inputs: StockInputs): Promise<Stock> {
  const docker = dockerClient(inputs.host);
  const found = await containersOf(docker, inputs.stack);
  if (!inputs.inState) return { generations: generationsOf(found), removed: [], gone: [] };
  const servers = new Set(inputs.inState.servers);
  const inState = new Set([...inputs.inState.docker, ...servers]);
  // In the order in which they were made, which is mostly that of the plan.
  const ours = found.filter(({ Id }) => inState.has(Id)).reverse();
  const removed = await removeLeftovers(
    docker,
    found.filter(({ Id }) => !inState.has(Id)),
  );
  const gone = inputs.inState.docker.filter((id) => !found.some(({ Id }) => Id === id));
  await standIn(docker, inputs.stack, gone);
  lookInside(
    docker,
    ours.filter(({ Id, State }) => servers.has(Id) && State === "running").map(({ Id }) => Id),
  );
  return { generations: generationsOf(ours), removed, gone };
}

async function containersOf(docker: Docker, stack: string): Promise<Docker.ContainerInfo[]> {
  return docker.listContainers({ all: true, filters: { label: [`${stackLabel}=${stack}`] } });
}

function generationsOf(containers: Docker.ContainerInfo[]): Record<string, string> {
  return Object.fromEntries(
    containers.map((container) => [nameOf(container), container.Labels[generationLabel] ?? ""]),
  );
}

function nameOf({ Names }: Docker.ContainerInfo): string {
  return (Names[0] ?? "").replace(/^\//, "");
}

/**
 * A run that was cut off left them, or somebody made one anew by hand: the next has the same name and volume. Each is
 * stopped cleanly first. Volumes stay.
 */
async function removeLeftovers(docker: Docker, leftovers: Docker.ContainerInfo[]): Promise<string[]> {
  await Promise.all(
    leftovers.map(async ({ Id, State }) => {
      const container = docker.getContainer(Id);
      if (State === "running") await stopCleanly(container);
      await ifPresent(container.remove({ force: true, v: false }));
    }),
  );
  return leftovers.map(nameOf).filter((name) => !isStandIn(name));
}

/** It is called like an id. */
function isStandIn(name: string): boolean {
  return /^[0-9a-f]{64}$/.test(name);
}

/**
 * The Docker provider ends with an error when it is to delete a container that is gone. The engine finds containers by
 * name as well as by id: an empty one that is called like the id is what it deletes instead.
 * One that nothing came to delete, as in an `up` of other tenants alone, is a leftover to the next `up`.
 */
async function standIn(docker: Docker, stack: string, gone: string[]): Promise<void> {
  if (gone.length === 0) return;
  const images = await Promise.all(
    (await docker.listImages()).map(({ Id }) => docker.getImage(Id).inspect()),
  );
  // One that asks for a volume would leave it behind.
  const image = images.find(({ Config }) => Object.keys(Config.Volumes ?? {}).length === 0) ?? images[0];
  if (!image) {
    throw new Error(
      "none of the stack's containers and no image are on this Docker host: is it another one? `pulumi up --refresh` begins with what is there",
    );
  }
  await Promise.all(
    gone.map((id) =>
      docker.createContainer({
        name: id,
        Image: image.Id,
        Cmd: ["true"],
        Labels: {
          [stackLabel]: stack,
          "pgs.note": "in the place of a container that is gone: the next up removes it",
        },
        HostConfig: { NetworkMode: "none" },
      }),
    ),
  );
}
