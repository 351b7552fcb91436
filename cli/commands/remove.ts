import { editingCommand } from "../lib/command";
import { removeTenant, setField } from "../lib/edit-tenants";
import { type EditOptions, Stack } from "../lib/edited-stack";
import { ask, isAttended } from "../lib/prompt";
import { CommandError } from "../lib/pulumi";

interface RemoveOptions extends EditOptions {
  deleteData?: boolean;
}

export const remove = editingCommand(
  "remove",
  "remove a tenant; its data stays unless you say --delete-data",
  "./pgs remove hooli",
  "./pgs remove hooli --delete-data          asks for the tenant's id",
  "./pgs remove hooli --delete-data --yes    for scripts",
)
  .argument("<tenant>")
  .option("--delete-data", "delete its data for good: asks for the tenant's id first")
  .action((id: string, options: RemoveOptions) => Stack.edit((stack) => removeTenantOf(stack, id, options)));

async function removeTenantOf(stack: Stack, id: string, options: RemoveOptions): Promise<void> {
  // An earlier run was interrupted between the edit and the end of the up.
  if (stack.state(id) === undefined && stack.applied?.[id] && options.up) {
    console.error(`${id} is not in tenants.yaml any more; removing what the stack still has of it.`);
    return stack.up([id], stack.file.tenants());
  }
  stack.file.tenant(id);
  if (options.deleteData) {
    if (!options.up)
      throw new CommandError("--delete-data needs an up before the entry goes: leave --no-up out", 2);
    if (!options.yes) await confirmDeletion(id);
    // The provider deletes data only when the tenant's last up said so.
    await stack.apply([id], [setField(id, "onRemove", "delete")], { up: true, yes: true });
  }
  await (options.deleteData ? await Stack.read() : stack).apply([id], [removeTenant(id)], {
    ...options,
    yes: options.yes || options.deleteData,
  });
}

async function confirmDeletion(id: string): Promise<void> {
  if (!isAttended()) throw new CommandError("--delete-data without a terminal needs --yes", 2);
  const answer = await ask(`This deletes the data of ${id} for good. Type the tenant's id to go on: `);
  if (answer !== id) throw new CommandError("nothing was changed");
}
