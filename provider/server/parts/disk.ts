import type Docker from "dockerode";
import { dockerClient, ifPresent } from "../../../docker/client";
import { parseDiskUse } from "../../../docker/disk-use";
import { execDetached } from "../../../docker/exec";
import { formatMemory } from "../../../tenants/memory";
import { budgetSetting } from "../../../tenants/sizing";
import type { PostgresServerInputs } from "../inputs";
import type { Inside } from "../inside";
import type { Part, RunningServer } from "../part";
import { programsFolder } from "./container";

/**
 * That the server's disk is watched: by a program beside it, which each start of its container starts. An earlier pgs
 * started none, and a tenant can end it. Being read-only for want of room is no difference.
 */
export const disk: Part & { apply(server: RunningServer): Promise<void> } = {
  name: "disk",

  differs(_inputs, { inside }) {
    return inside !== undefined && inside.disk === null;
  },

  async apply({ container, inside }) {
    // A second one ends at once.
    if (inside.disk === null) await execDetached(container, [`${programsFolder}/watch-disk`]);
  },
};

/** In bytes; undefined: it has none. */
export function budgetOf({ settings }: Pick<PostgresServerInputs, "settings">): number | undefined {
  const text = settings.live[budgetSetting];
  return text === undefined ? undefined : Number(text);
}

/** What a plan says of a budget that is changed. */
export async function budgetWarnings(
  state: PostgresServerInputs,
  inputs: PostgresServerInputs,
  inside: Inside | undefined,
): Promise<string[]> {
  const [before, after] = [budgetOf(state), budgetOf(inputs)];
  if (after === undefined || before === after) return [];
  const { name } = inputs.container;
  const found = parseDiskUse(inside?.disk);
  const warnings = [];
  if (found && found.used > after * 0.95) {
    warnings.push(
      `${name} becomes read-only at once: it uses ${rounded(found.used)}, and its disk budget is to be ${formatMemory(after)}`,
    );
  }
  return before === undefined ? [...warnings, ...(await softBudget(inputs))] : warnings;
}

/** What a plan says of a budget that is new. */
export async function softBudget({
  host,
  tenant,
  container,
  settings,
}: Partial<PostgresServerInputs>): Promise<string[]> {
  if (!settings || budgetOf({ settings }) === undefined) return [];
  const volume = container && (await ifPresent(dockerClient(host).getVolume(container.volume).inspect()));
  if (volume && isSized(volume)) return [];
  return [`${container?.name ?? tenant}: its disk budget is soft on this host: watched and acted on`];
}

/** Made by hand with a size, which Docker enforces on XFS. https://docs.docker.com/reference/cli/docker/volume/create/ */
function isSized({ Options }: Docker.VolumeInspectInfo): boolean {
  return Options?.size !== undefined;
}

/** In whole MiB. */
function rounded(bytes: number): string {
  return formatMemory(Math.ceil(bytes / 2 ** 20) * 2 ** 20);
}
