import { editingCommand } from "../lib/command";
import { setField } from "../lib/edit-tenants";
import { type EditOptions, Stack } from "../lib/edited-stack";

export const rotatePassword = editingCommand(
  "rotate-password",
  "give a tenant a new random password; its sessions go on",
  "./pgs rotate-password acme && ./pgs url acme",
)
  .argument("<tenant>")
  .action((id: string, options: EditOptions) =>
    Stack.edit(async (stack) => {
      const { passwordVersion } = stack.file.tenant(id);
      await stack.apply([id], [setField(id, "passwordVersion", passwordVersion + 1)], options);
    }),
  );
