import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { containersByName, networksByName } from "../../docker/cache";
import { dockerClient, ensureRunning, ifPresent, stopCleanly } from "../../docker/client";
import { digestLabel, roleLabel, stackLabel, tenantLabel } from "../../docker/labels";
import { replacementName } from "../../docker/names";
import { type Limits, limitsOf, limitsUpdate, setLimits } from "./limits";
import { isOfStack, takenName } from "./ownership";

/** One container as it should be. */
export interface ContainerSpec {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  name: string;
  /** The stack's id, and the tenant that it is for: labels. */
  stack: string;
  tenant?: string;
  /** What it is to the stack or to the tenant, which has no other of it: a label. */
  role: string;
  /** The image's name and tag, as `docker ps` shows it. */
  image: string;
  /** Id of that image when the plan was made. */
  imageId: string;
  /** The volumes of tenants' backups apart, they must be there: an empty one is no substitute for one that is gone. */
  mounts: Mount[];
  /** Name of its network; undefined: none. */
  network?: string;
  limits: Limits;
  /** Seconds from the stop signal until it is killed. */
  stopSeconds: number;
  /** Everything else that only a new container can change. */
  options: Docker.ContainerCreateOptions;
  /** `NAME=VALUE`, beside those of `options`, that count for new data alone: a change of them replaces nothing. */
  initialEnv?: string[];
}

export interface Mount {
  /** Name of a volume. */
  volume: string;
  /** Absolute path in the container. */
  path: string;
  readOnly?: boolean;
  /** Id of the tenant whose backups are in the volume: it is created where it is missing. */
  backupsOf?: string;
}

/** Of all that only a new container can change. What the engine says of that may be in other words. */
export function digestOf({ imageId, mounts, network, options }: ContainerSpec): string {
  const canonical = JSON.stringify([imageId, mounts, network, options], (_key, value) =>
    value && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)))
      : value,
  );
  return createHash("sha256").update(canonical).digest("hex").slice(0, 16);
}

/** The container under the wanted name, whoever made it. */
export function inspectContainer({
  host,
  name,
}: Pick<ContainerSpec, "host" | "name">): Promise<Docker.ContainerInspectInfo | undefined> {
  return ifPresent(dockerClient(host).getContainer(name).inspect());
}

/** Whether the container is this stack's, made as `spec` says, and in its network. */
export async function isAsMade(spec: ContainerSpec, info: Docker.ContainerInspectInfo): Promise<boolean> {
  return (
    isOfStack(info, spec.stack) &&
    info.Config.Labels[digestLabel] === digestOf(spec) &&
    (await isAttached(spec.host, info, spec.network))
  );
}

/**
 * Makes the container run as `spec` says, but for a memory limit that is to become lower. It is replaced only where
 * nothing else helps; one that an interrupted run left under its name is adopted.
 * @param formerId of the container that the last `up` left, which may have another name
 * @returns its id, and the limits that it has
 */
export async function reconcileContainer(
  spec: ContainerSpec,
  formerId?: string,
): Promise<{ containerId: string; limits: Limits }> {
  const docker = dockerClient(spec.host);
  const present = await findContainer(spec, formerId);
  await removeLeftover(docker, spec.name, spec.stack);
  if (!present || present.Config.Labels[digestLabel] !== digestOf(spec) || !hasMounts(spec, present)) {
    return { containerId: await replaceContainer(docker, spec, present), limits: spec.limits };
  }
  const container = docker.getContainer(present.Id);
  if (!(await isAttached(spec.host, present, spec.network))) {
    await docker.getNetwork(spec.network ?? "").connect({ Container: present.Id });
  }
  await ensureRunning(container, present);
  const limits = limitsOf(present);
  if (spec.limits.memory >= limits.memory) await setLimits(container, limits, spec.limits);
  return { containerId: present.Id, limits };
}

/**
 * Stops a container of this stack cleanly and removes it; its volumes stay. One that is gone, or that is another
 * stack's by now, is no error.
 */
export async function removeContainer(
  { host, stack, stopSeconds }: Pick<ContainerSpec, "host" | "stack" | "stopSeconds">,
  id: string | undefined,
): Promise<void> {
  if (!id) return;
  const docker = dockerClient(host);
  const info = await ifPresent(docker.getContainer(id).inspect());
  if (!info || !isOfStack(info, stack)) return;
  await putAway(docker, info, stopSeconds);
  await removeLeftover(docker, info.Name.slice(1), stack);
}

/** Whether a container is in the network of this name as it is now: one that was made again is another network. */
export async function isAttached(
  host: string | undefined,
  info: Docker.ContainerInspectInfo,
  network: string | undefined,
): Promise<boolean> {
  if (network === undefined) return true;
  const id = (await networksByName(host)).get(network)?.Id;
  return id !== undefined && info.NetworkSettings.Networks[network]?.NetworkID === id;
}

/** The engine's create options, without the name. */
export function createOptions(spec: ContainerSpec, image: string): Docker.ContainerCreateOptions {
  const { options, initialEnv = [], mounts, network, limits } = spec;
  return {
    ...options,
    Env: options.Env || initialEnv.length > 0 ? [...(options.Env ?? []), ...initialEnv] : undefined,
    Image: image,
    Labels: {
      [stackLabel]: spec.stack,
      ...(spec.tenant && { [tenantLabel]: spec.tenant }),
      [roleLabel]: spec.role,
      [digestLabel]: digestOf(spec),
    },
    HostConfig: {
      ...options.HostConfig,
      ...limitsUpdate(limits),
      NetworkMode: network ?? "none",
      Mounts: mounts.map(({ volume, path, readOnly = false }) => ({
        Type: "volume",
        Source: volume,
        Target: path,
        ReadOnly: readOnly,
      })),
    },
  };
}

/** A container whose volume was removed and made again by hand still has the old one. */
function hasMounts({ mounts }: ContainerSpec, { Mounts }: Docker.ContainerInspectInfo): boolean {
  return mounts.every(({ volume, path }) =>
    Mounts.some(({ Name, Destination }) => Name === volume && Destination === path),
  );
}

/** By its name or, where it has another one, by its id or its labels: then it gets its name back. */
async function findContainer(
  spec: ContainerSpec,
  formerId: string | undefined,
): Promise<Docker.ContainerInspectInfo | undefined> {
  const present = await inspectContainer(spec);
  if (present && !isOfStack(present, spec.stack)) {
    throw new Error(takenName("container", spec.name, present.Config.Labels?.[stackLabel]));
  }
  if (present) return present;
  const inspect = (id: string | undefined) =>
    id ? ifPresent(dockerClient(spec.host).getContainer(id).inspect()) : undefined;
  const info = (await inspect(formerId)) ?? (await inspect((await findByLabels(spec))[0]?.Id));
  if (!info || !isOfStack(info, spec.stack)) return undefined;
  await dockerClient(spec.host).getContainer(info.Id).rename({ name: spec.name });
  return info;
}

/** Containers by what they are for: also those that a killed run has made under another name. */
export async function findByLabels({
  host,
  stack,
  tenant,
  role,
}: Pick<ContainerSpec, "host" | "stack" | "tenant" | "role">): Promise<Docker.ContainerInfo[]> {
  return [...(await containersByName(host)).values()].filter(
    ({ Labels }) =>
      Labels[stackLabel] === stack && Labels[tenantLabel] === tenant && Labels[roleLabel] === role,
  );
}

async function putAway(
  docker: Docker,
  { Id, State }: Docker.ContainerInspectInfo,
  stopSeconds: number,
): Promise<void> {
  const container = docker.getContainer(Id);
  // The stop signal would wait until somebody else ends the pause.
  if (State.Paused) await container.unpause();
  if (State.Running || State.Restarting) await stopCleanly(container, stopSeconds);
  await ifPresent(container.remove({ force: true, v: false }));
}

/**
 * The new container is made before the old one is stopped, so that a refusal of the engine disturbs nothing.
 * @returns its id
 */
async function replaceContainer(
  docker: Docker,
  spec: ContainerSpec,
  former: Docker.ContainerInspectInfo | undefined,
): Promise<string> {
  await Promise.all(spec.mounts.map((mount) => provideVolume(docker, mount, spec)));
  const image = await imageToUse(docker, spec);
  const name = former ? replacementName(spec.name) : spec.name;
  const made = await docker.createContainer({ name, ...createOptions(spec, image) });
  if (former) {
    try {
      await putAway(docker, former, spec.stopSeconds);
      await made.rename({ name: spec.name });
    } catch (error) {
      // The next `up` may want another name, and would not find it.
      await made.remove({ force: true, v: false }).catch(() => {});
      throw error;
    }
  }
  await made.start();
  return made.id;
}

/**
 * What a run that was killed left beside a container that it was to replace. It was never started, but the engine would
 * not remove its volumes.
 */
async function removeLeftover(docker: Docker, name: string, stack: string): Promise<void> {
  const info = await ifPresent(docker.getContainer(replacementName(name)).inspect());
  if (info && isOfStack(info, stack)) {
    await ifPresent(docker.getContainer(info.Id).remove({ force: true, v: false }));
  }
}

async function provideVolume(
  docker: Docker,
  { volume, backupsOf }: Mount,
  { stack, name }: ContainerSpec,
): Promise<void> {
  if (await ifPresent(docker.getVolume(volume).inspect())) return;
  if (backupsOf !== undefined) {
    await docker.createVolume({ Name: volume, Labels: { [stackLabel]: stack, [tenantLabel]: backupsOf } });
    return;
  }
  throw new Error(
    `No such volume: ${volume}. An up does not replace a volume that is gone: restore it (docs/disaster.md), or let ${name} begin without its data: docker volume create ${volume}`,
  );
}

/** By name, so that `docker ps` shows it; by its id where the tag has moved to another image since the plan. */
async function imageToUse(docker: Docker, { name, image, imageId }: ContainerSpec): Promise<string> {
  const tagged = await ifPresent(docker.getImage(image).inspect());
  if (tagged?.Id === imageId) return image;
  if (await ifPresent(docker.getImage(imageId).inspect())) return imageId;
  throw new Error(
    `the image of ${name}, ${image}, was removed from the Docker host: \`pulumi up --refresh\` fetches it again`,
  );
}
