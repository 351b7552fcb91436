import type Docker from "dockerode";
import { z } from "zod";
import { ifPresent } from "../docker/client";
import { getFolder, putFile } from "../docker/files";
import { stackLabel } from "../docker/labels";

const trialSchema = z.object({
  /** When the restore was tried, in seconds since 1970. */
  at: z.int().nonnegative(),
  /** From the first step of the restore until its server was ready. */
  seconds: z.number().nonnegative(),
  ok: z.boolean(),
  /** Barman's name of the base backup; empty without one. */
  backup: z.string(),
  /** Why it failed; empty when it did not. */
  reason: z.string(),
});

/** The result of the last restore of a tenant that was tried. */
export type TriedRestore = z.infer<typeof trialSchema>;

/** Where results are kept: a volume that no tenant's container has. */
export interface TrialsVolume {
  name: string;
  /** Value of the stack's label. */
  stack: string;
  /** Any image that the engine has: nothing of it runs. */
  image: string;
}

/** By tenant id. */
export async function readTrials(docker: Docker, trials: TrialsVolume): Promise<Map<string, TriedRestore>> {
  if (!(await ifPresent(docker.getVolume(trials.name).inspect()))) return new Map();
  const files = await withVolume(docker, trials, (container) => getFolder(container, folder));
  return new Map(
    [...(files ?? [])].flatMap(([name, { content }]) => {
      const [, tenant] = /^(.+)\.json$/.exec(name) ?? [];
      const trial = trialSchema.safeParse(parsed(content));
      return tenant && trial.success ? [[tenant, trial.data] as const] : [];
    }),
  );
}

export async function noteTrial(
  docker: Docker,
  trials: TrialsVolume,
  tenant: string,
  trial: TriedRestore,
): Promise<void> {
  await docker.createVolume({ Name: trials.name, Labels: { [stackLabel]: trials.stack } });
  const { at, seconds, ok, backup, reason } = trial;
  const content = `${JSON.stringify({ at, seconds, ok, backup, reason })}\n`;
  await withVolume(docker, trials, (container) => putFile(container, folder, `${tenant}.json`, content));
}

/** What the last search for drift found, beside the tenants' results: no tenant id begins with a hyphen. */
export async function noteDrift(docker: Docker, trials: TrialsVolume, found: boolean): Promise<void> {
  const content = `${JSON.stringify({ at: Math.floor(Date.now() / 1000), found })}\n`;
  await docker.createVolume({ Name: trials.name, Labels: { [stackLabel]: trials.stack } });
  await withVolume(docker, trials, (container) => putFile(container, folder, "--drift.json", content));
}

const folder = "/trials";

/** A container that is never started: the engine reads and writes its volume. */
async function withVolume<T>(
  docker: Docker,
  { name, stack, image }: TrialsVolume,
  use: (container: Docker.Container) => Promise<T>,
): Promise<T> {
  const container = await docker.createContainer({
    Image: image,
    Labels: { [stackLabel]: stack },
    HostConfig: { NetworkMode: "none", Binds: [`${name}:${folder}`] },
  });
  try {
    return await use(container);
  } finally {
    await ifPresent(container.remove({ force: true, v: true }));
  }
}

/** Undefined when it is not JSON, as after a full disk. */
function parsed(content: string): unknown {
  try {
    return JSON.parse(content);
  } catch {
    return undefined;
  }
}
