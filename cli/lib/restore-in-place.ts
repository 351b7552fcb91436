import { ifPresent, stopCleanly } from "../../docker/client";
import { adoptTimeline, archiveWal, layOut, type Restored, recover } from "../../restore";
import {
  copyCurrentData,
  discard,
  exchange,
  finish,
  type Progress,
  readProgress,
} from "../../restore/in-place";
import { removeField, setField } from "./edit-tenants";
import { Stack } from "./edited-stack";
import { ask, isAttended } from "./prompt";
import { CommandError } from "./pulumi";
import type { StackConfig } from "./stack";
import type { TenantBackups } from "./tenant-backups";
import { progressReporter } from "./terminal";
import { commandInTurn } from "./turn";

/**
 * Puts a tenant back to a time. Its data stays as it is until the restored is complete; then the two are exchanged, and
 * the previous data is kept in a volume of its own. Re-run to resume an interrupted one.
 */
export async function restoreInPlace(
  id: string,
  options: { at?: string; yes?: boolean },
  stack: Stack,
  backups: TenantBackups,
): Promise<void> {
  const { docker, names } = backups;
  const { version, image: variant, state, volume = names.tenant(id) } = stack.file.tenant(id);
  const given = stack.file.sets(id, "state") ? state : "unset";
  const restored = backups.restored({
    from: id,
    at: options.at,
    version,
    variant,
    volume,
    onProgress: progressReporter(id),
  });
  if (!options.yes) await agree(id, options.at);

  const progress = await readProgress(docker, restored, { stamp: now(), state: given });
  const kept = names.before(id, progress.stamp);
  const edit = (wanted: Progress["state"]) =>
    wanted === "unset" ? removeField(id, "state") : setField(id, "state", wanted);
  // Each up leaves another state behind than the one before it found.
  const apply = async (wanted: Progress["state"]) =>
    (await Stack.read()).apply([id], [edit(wanted)], { up: true, yes: true });

  // Its backups still receive: PostgreSQL ends only when all its WAL has arrived there.
  await stopCleanly(docker.getContainer(names.tenant(id)));
  await apply("stopped");
  if (progress.exchanged) {
    console.error(`A restore of ${id} that was cut off had exchanged the data already: it is completed now.`);
  } else {
    try {
      await discardBefore(restored, backups, kept);
      console.log(`Laying out the data of ${id} beside the current data.`);
      await archiveWal(docker, restored);
      await layOut(docker, restored, { beside: true });
      await recover(docker, restored, id, "", { beside: true });
      console.log(`Copying the current data to the volume ${kept}.`);
      await copyCurrentData(docker, restored, kept);
      await exchange(docker, restored, kept);
    } catch (error) {
      if ((await readProgress(docker, restored, progress)).exchanged) throw again(error as Error);
      await discardBefore(restored, backups, kept);
      await apply(progress.state);
      await discard(docker, restored, { note: true });
      throw new CommandError(`${id}: ${(error as Error).message}\nNothing of its data was changed.`);
    }
  }
  try {
    await adoptTimeline(docker, restored);
    // With the end of this restore, what the tenant was before it is known from tenants.yaml alone.
    const back = await Stack.read();
    await back.apply([id], [edit(progress.state)], { up: false });
    await finish(docker, restored, kept);
    await back.up([id], back.file.tenants());
  } catch (error) {
    throw again(error as Error);
  }
  console.log(
    `\nThe data that ${id} had before is in the volume ${kept}. When it is no longer needed:\n  docker volume rm ${kept}`,
  );
}

/** What brings a stopped tenant back: a command, or the end of the restore in place that stopped it. */
export function wayBack(id: string, config: Pick<StackConfig, "tenantsFile">): string {
  const holder = restoreUnderWay(id, config);
  return holder ? `it is being restored by process ${holder.pid}, wait for that to end` : `./pgs start ${id}`;
}

/** The process that restores a tenant in place, if it may be this one. */
export function restoreUnderWay(
  id: string,
  { tenantsFile }: Pick<StackConfig, "tenantsFile">,
): { pid: number } | undefined {
  const holder = commandInTurn(tenantsFile);
  // Of a command, its first argument is known: an option may come before the tenant.
  const restores = /^\.\/pgs restore (-.*|(.*))$/.exec(holder?.command ?? "");
  return holder && restores && [undefined, id].includes(restores[2]) ? holder : undefined;
}

function again(error: Error): CommandError {
  return new CommandError(
    `${error.message}\nThe restored data is in its place, and the data from before is kept. Re-run the same command to complete it.`,
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

/** Of an earlier run, or of this one: what was laid out, and the copy of data that is still in its place. */
async function discardBefore(restored: Restored, { docker }: TenantBackups, kept: string): Promise<void> {
  await discard(docker, restored);
  await ifPresent(docker.getVolume(kept).remove());
}

/** YYYYMMDDTHHMMSS, UTC. */
function now(): string {
  return new Date().toISOString().replace(/[-:]|\.\d+Z$/g, "");
}
