import * as pulumi from "@pulumi/pulumi";
import { dockerClient, ifPresent } from "../docker/client";
import { adoptTimeline, archiveWal, layOut, recover } from "../restore";
import { otherSource } from "./made-from";
import type { ResourceType } from "./resource-type";
import { alter } from "./server/parts/settings";

/** A new tenant's data, made from another's backups before its server first starts. */
export interface RestoreInputs {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  /** The stack's id. */
  stack: string;
  /** Names of what the stack has on the host start with it. */
  prefix: string;
  /** The new tenant's volume. */
  volume: string;
  /** Id of the tenant whose backups are restored; it may be gone. */
  from: string;
  /** As of when: ISO 8601 with a time zone. Without one, the end of what was streamed. */
  at?: string;
  /** The new tenant's database. */
  database: string;
  /** PostgreSQL major version of the new tenant: the backup's own. */
  version: number;
  /** Settings that the new server starts with. */
  settings: Record<string, string>;
  /** Whether backups are copied off the host. */
  offsite: boolean;
  /** Id of the backup containers' image. */
  backupImage: string;
  /** Id of the new server's image. */
  image: string;
}

export const Restore: ResourceType<RestoreInputs> = {
  updatable: [],
  replacing: ["host", "volume"],

  check: otherSource,

  async create(inputs) {
    const docker = dockerClient(inputs.host);
    // Not kept: of hundreds of them, the end of an up would list each again.
    const onProgress = (progress: string) =>
      void pulumi.log.info(`${inputs.volume}: ${progress}`, undefined, undefined, true);
    const restored = { ...inputs, onProgress };
    const settings = Object.entries(inputs.settings).map(alter);
    try {
      await archiveWal(docker, restored);
      await layOut(docker, restored);
      await recover(docker, restored, inputs.database, settings.join("\n"));
      // Its own backups continue, as of a tenant that is restored in place.
      if (inputs.from === inputs.database) await adoptTimeline(docker, restored);
    } catch (error) {
      throw new Error(`restore of ${inputs.from} into ${inputs.volume}: ${(error as Error).message}`);
    }
    return { id: inputs.volume, state: inputs };
  },

  async read(_id, state) {
    // A volume that was removed by hand is made again, and its data with it.
    return (await ifPresent(dockerClient(state.host).getVolume(state.volume).inspect())) ? state : undefined;
  },

  async update(_id, _state, inputs) {
    return inputs;
  },

  async delete() {
    // The data is the volume's.
  },
};
