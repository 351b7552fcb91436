import type Docker from "dockerode";
import { stackLabel, versionLabel } from "../docker/labels";
import { restoreContainer } from "../docker/names";
import type { Restored } from ".";
import { runScript } from "./run-script";

/** How far a restore in place is. */
export interface Progress {
  /** When it was begun, as YYYYMMDDTHHMMSS: the volume with the data from before is named after it. */
  stamp: string;
  /** What the tenant's entry said before it. */
  state: "running" | "stopped" | "unset";
  /** Whether the restored data is in its place already. */
  exchanged: boolean;
}

/** How far an earlier run that was cut off came; without one, the volume gets a note that a restore begins. */
export async function readProgress(
  docker: Docker,
  restored: Restored,
  begin: Omit<Progress, "exchanged">,
): Promise<Progress> {
  const output = await run(docker, restored, "read-progress.sh", [begin.stamp, begin.state]);
  const [, stamp, state] = /^note (\d{8}T\d{6}) (running|stopped|unset)( done)?$/m.exec(output) ?? [];
  if (!stamp || !state) throw new Error(`the volume ${restored.volume} has a note that is not understood`);
  return { stamp, state: state as Progress["state"], exchanged: /^exchanged$/m.test(output) };
}

/** Copies the current data of a stopped server into a volume of its own, and compares the two. */
export async function copyCurrentData(docker: Docker, restored: Restored, copy: string): Promise<void> {
  const { stack, version, volume, image, onProgress } = restored;
  await docker.createVolume({ Name: copy, Labels: { [versionLabel]: String(version), [stackLabel]: stack } });
  await runScript(docker, {
    script: ["progress.sh", "copy-current-data.sh"],
    args: [String(version)],
    name: restoreContainer(volume),
    stack,
    image,
    version,
    binds: [`${volume}:/tenant:ro`, `${copy}:/var/lib/postgresql`],
    onProgress,
  });
}

/** Puts the recovered data in the place of the current data, in one step. */
export async function exchange(docker: Docker, restored: Restored, copy: string): Promise<void> {
  await run(docker, restored, "exchange.sh", [String(restored.version)], [`${copy}:/copy:ro`]);
}

/** Removes the data from before from the tenant's volume, and the note of {@link readProgress}. */
export async function finish(docker: Docker, restored: Restored, copy: string): Promise<void> {
  await run(docker, restored, "finish.sh", [String(restored.version)], [`${copy}:/copy:ro`]);
}

/** Removes what lies beside the current data and, where that is wanted, the note of {@link readProgress}. */
export async function discard(
  docker: Docker,
  restored: Restored,
  options: { note?: boolean } = {},
): Promise<void> {
  await run(docker, restored, "discard.sh", options.note ? ["note"] : []);
}

/** In the backup containers' image, which has Python, without any backups. */
function run(docker: Docker, restored: Restored, script: string, args: string[] = [], binds: string[] = []) {
  const { stack, version, volume, backupImage } = restored;
  return runScript(docker, {
    script,
    args,
    name: restoreContainer(volume),
    stack,
    image: backupImage,
    version,
    binds: [`${volume}:/var/lib/postgresql`, ...binds],
  });
}
