import * as pulumi from "@pulumi/pulumi";
import { BackupClient, backupContainer, withBackupVolume } from "../../../backups/client";
import { dockerClient, ensureRunning, ifPresent } from "../../../docker/client";
import { stackLabel } from "../../../docker/labels";
import { isOfStack } from "../../container/ownership";
import {
  type ContainerSpec,
  inspectContainer,
  isAsMade,
  reconcileContainer,
  removeContainer,
} from "../../container/reconcile";
import type { PostgresServerInputs } from "../inputs";
import type { Part } from "../part";

/** What is received is written already; a base backup that is cut off is made again. */
const stopSeconds = 30;

/** The container that receives the tenant's WAL and makes its base backups. It stays while the tenant is stopped. */
export const backup: Part & {
  /** @returns id of the container */
  apply(inputs: PostgresServerInputs, id: string | undefined): Promise<string | undefined>;
  /** No more backups are made; those that there are stay for their retention, and longer until somebody deletes them. */
  remove(inputs: PostgresServerInputs, id: string | undefined): Promise<void>;
} = {
  name: "backup",

  async differs(inputs) {
    const spec = containerOf(inputs);
    if (!spec) return false;
    const info = await inspectContainer(spec);
    if (!info?.State.Running || info.State.Paused) return true;
    return !(await isAsMade(spec, info));
  },

  async apply(inputs, id) {
    const spec = containerOf(inputs);
    if (!spec) return undefined;
    return (await reconcileContainer(spec, id)).containerId;
  },

  async remove(inputs, id) {
    const spec = containerOf(inputs);
    if (!spec || !id) return;
    try {
      await retire(spec, id, inputs.backup?.retention ?? 0);
    } catch (error) {
      await pulumi.log.warn(
        `${spec.name}: its last WAL may be missing in its backups: ${(error as Error).message}`,
      );
    }
    await removeContainer(spec, id);
  },
};

async function retire(spec: ContainerSpec, id: string, retention: number): Promise<void> {
  const { host, name, stack, tenant = "", imageId } = spec;
  const docker = dockerClient(host);
  const container = docker.getContainer(id);
  const info = await ifPresent(container.inspect());
  if (info && isOfStack(info, stack)) {
    await ensureRunning(container, info);
    await new BackupClient(container, tenant).retire(retention);
    return;
  }
  // Somebody removed it. What it had received is in the volume.
  const volume = await ifPresent(docker.getVolume(name).inspect());
  if (volume?.Labels?.[stackLabel] !== stack) return;
  await withBackupVolume(docker, { image: imageId, volume: name, tenant, stack }, (client) =>
    client.retire(retention),
  );
}

function containerOf(inputs: PostgresServerInputs): ContainerSpec | undefined {
  const { host, stack, tenant, container, backup: wanted } = inputs;
  if (!wanted) return undefined;
  const { name, image, imageId, schedule, retention } = wanted;
  const volumes = { serverVolume: container.volume, backupVolume: name };
  return {
    ...{ host, name, stack, tenant, role: "backup", image, imageId, stopSeconds },
    ...backupContainer({ tenant, schedule, retention, ...volumes }),
  };
}
