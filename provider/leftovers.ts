import { engine, ifPresent } from "./engine";

/** On every container of a stack: the stack's own random id. */
const stackLabel = "pgs.stack";

/**
 * Removes containers that carry the stack's id and are not in its state: a run that was cut off left them, or
 * somebody made one anew by hand. Each is stopped cleanly first. Volumes stay.
 * @param known asked for the ids of the containers in the state, when there are any containers at all
 * @returns the names of what was removed
 */
export async function removeLeftovers(
  host: string | undefined,
  stack: string,
  known: () => Promise<Set<string>>,
): Promise<string[]> {
  const docker = engine(host);
  const label = `${stackLabel}=${stack}`;
  const found = await docker.listContainers({ all: true, filters: { label: [label] } });
  if (found.length === 0) return [];
  const ids = await known();
  const leftovers = found.filter(({ Id }) => !ids.has(Id));
  await Promise.all(
    leftovers.map(async ({ Id, State }) => {
      const container = docker.getContainer(Id);
      if (State === "running") await ifPresent(container.stop({ t: 120 }));
      await ifPresent(container.remove({ force: true, v: false }));
    }),
  );
  return leftovers.map(({ Names }) => (Names[0] ?? "").replace(/^\//, ""));
}
