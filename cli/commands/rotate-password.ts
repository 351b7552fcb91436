import { editingCommand, roleOption } from "../lib/command";
import { setField } from "../lib/edit-tenants";
import { type EditOptions, Stack } from "../lib/edited-stack";
import { roleOf } from "../lib/stack";

export const rotatePassword = editingCommand(
  "rotate-password",
  "give a tenant a new random password; its sessions go on",
  "./pgs rotate-password acme && ./pgs url acme",
  "./pgs rotate-password acme --role app",
)
  .argument("<tenant>")
  .option(...roleOption)
  .action((id: string, { role, ...options }: EditOptions & { role?: string }) =>
    Stack.edit(async (stack) => {
      const tenant = stack.file.tenant(id);
      const { passwordVersion } = role === undefined ? tenant : roleOf(tenant.roles, role, id);
      const field = role === undefined ? "passwordVersion" : `roles.${role}.passwordVersion`;
      await stack.apply([id], [setField(id, field, passwordVersion + 1)], options);
    }),
  );
