import { archiveWal, layOut, type Restored, recover, takeUpTimeline } from "../../restore";
import { abandon, exchange, finish, keepFormer, look } from "../../restore/in-place";
import { unlessGone } from "../../restore/run-script";
import type { Barman } from "./barman";
import { setField } from "./edit-tenants";
import { Stack } from "./edited-stack";
import { ask, isAttended } from "./prompt";
import { CommandError } from "./pulumi";
import { progressReporter } from "./terminal";

/**
 * Puts a tenant back to a time. Its data stays as it is until the restored is complete; then the two are exchanged, and
 * the former is kept in a volume of its own. A run that is cut off is gone on with by the same command.
 */
export async function restoreInPlace(
  id: string,
  options: { at?: string; yes?: boolean },
  stack: Stack,
  barman: Barman,
): Promise<void> {
  const { prefix } = stack.config;
  const { version, state, volume = `${prefix}-${id}` } = stack.file.tenant(id);
  const restored = barman.restored(
    { from: id, at: options.at, version, volume, tell: progressReporter(id) },
    stack.config,
  );
  if (!options.yes) await agree(id, options.at);

  const { docker } = barman;
  const progress = await look(docker, restored, { stamp: now(), state });
  const kept = `${prefix}--before-${id}-${progress.stamp}`;
  // Each up leaves another state behind than the one before it found.
  const bring = async (wanted: "running" | "stopped", up = true) =>
    (await Stack.read()).apply([id], [setField(id, "state", wanted)], { up, yes: true });

  await shutDown(barman, `${prefix}-${id}`);
  await bring("stopped");
  if (progress.exchanged) {
    console.error(
      `A restore of ${id} that was cut off had exchanged the data already: that one is completed now.`,
    );
  } else {
    try {
      await abandonedBefore(restored, barman, kept);
      console.log(`Laying out the data of ${id} beside the present.`);
      await archiveWal(docker, restored);
      await layOut(docker, restored, { beside: true });
      await recover(docker, restored, id, "", { beside: true });
      console.log(`Copying the present data to the volume ${kept}.`);
      await keepFormer(docker, restored, kept);
      await exchange(docker, restored, kept);
    } catch (error) {
      if ((await look(docker, restored, progress)).exchanged) throw again(error as Error);
      await abandonedBefore(restored, barman, kept);
      await bring(progress.state);
      await abandon(docker, restored, { note: true });
      throw new CommandError(`${id}: ${(error as Error).message}\nNothing of its data was changed.`);
    }
  }
  try {
    await takeUpTimeline(docker, restored);
    // With the end of this restore, what the tenant was before it is known from tenants.yaml alone.
    await bring(progress.state, false);
    await finish(docker, restored, kept);
    await bring(progress.state);
  } catch (error) {
    throw again(error as Error);
  }
  console.log(
    `\nThe data that ${id} had before is in the volume ${kept}. When nobody needs it any more:\n  docker volume rm ${kept}`,
  );
}

function again(error: Error): CommandError {
  return new CommandError(
    `${error.message}\nThe restored data is in its place, and the former is kept. Run the same command again to complete it.`,
  );
}

async function agree(id: string, at: string | undefined): Promise<void> {
  if (!isAttended()) throw new CommandError("a restore in place without a terminal needs --yes", 2);
  const when = at === undefined ? "the end of its backups" : at;
  const answer = await ask(
    `This stops ${id} and puts it back to ${when}; what it has now is kept in a volume. Type the tenant's id to go on: `,
  );
  if (answer !== id) throw new CommandError("nothing was changed");
}

/** While Barman still listens: PostgreSQL ends only when all its WAL has arrived there. */
async function shutDown({ docker }: Barman, name: string): Promise<void> {
  try {
    await docker.getContainer(name).stop({ t: 120 });
  } catch (error) {
    // 304: it was stopped already.
    const { statusCode } = error as { statusCode?: number };
    if (statusCode !== 304 && statusCode !== 404) throw error;
  }
}

/** Of an earlier run, or of this one: what was laid out, and the copy of data that is still in its place. */
async function abandonedBefore(restored: Restored, { docker }: Barman, kept: string): Promise<void> {
  await abandon(docker, restored);
  await unlessGone(docker.getVolume(kept).remove());
}

/** YYYYMMDDTHHMMSS, UTC. */
function now(): string {
  return new Date().toISOString().replace(/[-:]|\.\d+Z$/g, "");
}
