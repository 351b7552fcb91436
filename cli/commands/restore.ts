import { restoreTimeProblem } from "../../tenants/schema";
import { editingCommand } from "../lib/command";
import { copyTenant } from "../lib/edit-tenants";
import { type EditOptions, Stack } from "../lib/edited-stack";
import { CommandError } from "../lib/pulumi";
import { restoreInPlace } from "../lib/restore-in-place";
import { requireDocker, requiredOutputs, type StackConfig } from "../lib/stack";
import { TenantBackups, type UsableBackup } from "../lib/tenant-backups";

interface RestoreOptions extends EditOptions {
  /** As of when; without it, the end of what was received. */
  at?: string;
  /** The new tenant; without it, the tenant itself is put back. */
  as?: string;
}

export const restore = editingCommand(
  "restore",
  "put a tenant back to any second, keeping its current data, or copy it as it was then",
  "./pgs restore acme --at 2026-11-23T10:15:00Z --as acme-copy",
  "./pgs restore acme --as acme-copy                        as it is now",
  "./pgs restore acme --at 2026-11-23T10:15:00Z             in place: asks for the tenant's id",
  "./pgs restore acme --at 2026-11-23T10:15:00Z --yes       for scripts",
)
  .argument("<tenant>", "whose backups; it may have been removed")
  .option("--at <time>", "such as 2026-11-23T10:15:00Z; default: the end of what was backed up")
  .option("--as <tenant>", "a new tenant, with the fields of the other; without it, in place")
  .action((id: string, options: RestoreOptions) =>
    Stack.edit((stack) => {
      if (stack.config.platform === "docker") return restoreTenant(stack, id, options);
      if (options.as === undefined) requireDocker(stack.config, "restore without --as");
      return restoreFromBucket(stack, id, options);
    }),
  );

/** Makes a new tenant of another's backups, with its fields; or puts the tenant itself back. */
async function restoreTenant(
  stack: Stack,
  id: string,
  { at, as, ...options }: RestoreOptions,
): Promise<void> {
  const backups = new TenantBackups(stack.config, (await requiredOutputs()).stack);
  const restoreFrom = { tenant: id, ...(at !== undefined && { at }) };
  if (as === undefined) {
    if (!options.up)
      throw new CommandError("a restore in place is no mere edit: leave --no-up out, or add --as", 2);
    stack.file.tenant(id);
    const problem = at === undefined ? undefined : restoreTimeProblem(at);
    if (problem) throw new CommandError(`--at: ${problem}`, 2);
    fittingBackup(id, await backups.backupsOf(id), at);
    try {
      return await restoreInPlace(id, { at, yes: options.yes }, stack, backups);
    } catch (error) {
      if (error instanceof CommandError) throw error;
      throw new CommandError(`${id}: ${(error as Error).message}\nRe-run the same command to resume.`);
    }
  }
  // A wrong time or name is an error before any container is asked.
  const planned = stack.file.plan([copyTenant(id, as, { restoreFrom })]).tenants;
  const version = await versionOf(id, at, backups, stack.config);
  const sameVersion =
    version === undefined || planned.find((tenant) => tenant.id === as)?.version === version;
  await stack.apply([as], [copyTenant(id, as, { ...(!sameVersion && { version }), restoreFrom })], options);
}

/** The up looks into the bucket: whether there is a base backup, and of which version. */
async function restoreFromBucket(stack: Stack, id: string, { at, as = "", ...options }: RestoreOptions) {
  if (!stack.config.offsite)
    throw new CommandError(
      "backups on Kubernetes are in a bucket, and pgs:backups.destination names none",
      2,
    );
  const restoreFrom = { tenant: id, ...(at !== undefined && { at }) };
  await stack.apply([as], [copyTenant(id, as, { restoreFrom })], options);
}

/** Of the data; undefined when only the copies off the host may have it, which the up asks. */
async function versionOf(
  id: string,
  at: string | undefined,
  tenants: TenantBackups,
  { offsite }: StackConfig,
): Promise<number | undefined> {
  const backups = await tenants.backupsOf(id);
  if (offsite && !backups.some(({ complete }) => at === undefined || complete <= Date.parse(at)))
    return undefined;
  return fittingBackup(id, backups, at).version;
}

/** What a restore to that time begins with. @throws CommandError when there is nothing */
function fittingBackup(id: string, backups: UsableBackup[], at: string | undefined): UsableBackup {
  const [first] = backups;
  if (!first) throw new CommandError(`${id} has no base backup: ./pgs backups lists what there is`, 2);
  const found = backups.findLast(({ complete }) => at === undefined || complete <= Date.parse(at));
  if (found) return found;
  const from = new Date(Math.ceil(first.complete / 1000) * 1000).toISOString().replace(".000Z", "Z");
  throw new CommandError(`${id} can be restored to ${from} and any second after it, not to ${at}`, 2);
}
