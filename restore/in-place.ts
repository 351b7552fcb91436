import type Docker from "dockerode";
import { containerName, type Restored } from ".";
import { runScript } from "./run-script";

/** What a restore in place is at. */
export interface Progress {
  /** When it was begun, as YYYYMMDDTHHMMSS: the volume with the former data is called after it. */
  stamp: string;
  /** What the tenant was before it. */
  state: "running" | "stopped";
  /** Whether the restored data is in its place already. */
  exchanged: boolean;
}

/** What an earlier run that was cut off is at; without one, it is noted that one begins. */
export async function look(
  docker: Docker,
  restored: Restored,
  begin: Omit<Progress, "exchanged">,
): Promise<Progress> {
  const said = await run(docker, restored, "look.sh", [begin.stamp, begin.state]);
  const [, stamp, state] = /^note (\d{8}T\d{6}) (running|stopped)( done)?$/m.exec(said) ?? [];
  if (!stamp || !state) throw new Error(`the volume ${restored.volume} has a note that is not understood`);
  return { stamp, state: state as Progress["state"], exchanged: /^exchanged$/m.test(said) };
}

/** Copies the present data of a stopped server into a volume of its own, and compares the two. */
export async function keepFormer(docker: Docker, restored: Restored, kept: string): Promise<void> {
  await docker.createVolume({ Name: kept, Labels: { "pgs.version": String(restored.version) } });
  await runScript(docker, {
    script: ["progress.sh", "keep-former.sh"],
    args: [String(restored.version)],
    name: containerName(restored.volume),
    image: restored.image,
    version: restored.version,
    binds: [`${restored.volume}:/tenant:ro`, `${kept}:/var/lib/postgresql`],
    tell: restored.tell,
  });
}

/** Puts what was recovered beside the present data in its place, in one step. */
export async function exchange(docker: Docker, restored: Restored, kept: string): Promise<void> {
  await run(docker, restored, "exchange.sh", [String(restored.version)], [`${kept}:/kept:ro`]);
}

/** Removes the former data from the tenant's volume, and the note of {@link look}. */
export async function finish(docker: Docker, restored: Restored, kept: string): Promise<void> {
  await run(docker, restored, "finish.sh", [String(restored.version)], [`${kept}:/kept:ro`]);
}

/** Takes away what lies beside the present data and, where that is asked for, the note of {@link look}. */
export async function abandon(
  docker: Docker,
  restored: Restored,
  options: { note?: boolean } = {},
): Promise<void> {
  await run(docker, restored, "abandon.sh", options.note ? ["note"] : []);
}

/** In Barman's image, which has no server in it, without Barman's volume. */
function run(docker: Docker, restored: Restored, script: string, args: string[] = [], binds: string[] = []) {
  return runScript(docker, {
    script,
    args,
    name: containerName(restored.volume),
    image: restored.barmanImage,
    version: restored.version,
    binds: [`${restored.volume}:/var/lib/postgresql`, ...binds],
  });
}
