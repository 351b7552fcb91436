import { dockerClient, ifPresent } from "../docker/client";

/** On every container of a stack: the stack's own random id. */
export const stackLabel = "pgs.stack";

export interface PartsInputs {
  host?: string;
  /** Name of the container that is to be made of them. */
  container: string;
  volume: string;
  /** Id of the image. */
  image: string;
}

/** The engine would make an empty volume in the place of one that is gone, and PostgreSQL a new database in it. */
export async function demandParts({ host, container, volume, image }: PartsInputs): Promise<object> {
  const docker = dockerClient(host);
  if (!(await ifPresent(docker.getVolume(volume).inspect()))) {
    throw new Error(
      `No such volume: ${volume}. An up makes nothing in the place of one that is gone: bring it back (docs/disaster.md), or say that ${container} may begin without its data: docker volume create ${volume}`,
    );
  }
  if (!(await ifPresent(docker.getImage(image).inspect()))) {
    throw new Error(
      `the image that ${container} is made of was removed from the Docker host: \`pulumi up --refresh\` fetches it again`,
    );
  }
  return {};
}
