import { parse } from "yaml";
import { editingCommand } from "../lib/command";
import { setField } from "../lib/edit-tenants";
import { type EditOptions, Stack } from "../lib/edited-stack";

export const set = editingCommand(
  "set",
  "change one field of a tenant, such as memory or settings.work_mem",
  "./pgs set acme memory 1Gi",
  "./pgs set acme settings.work_mem 16MB",
  "./pgs set acme hostname customers --no-up",
)
  .argument("<tenant>")
  .argument("<field>", "such as memory or settings.work_mem")
  .argument("<value>", "as in tenants.yaml")
  .action((id: string, field: string, value: string, options: EditOptions) =>
    Stack.edit((stack) => stack.apply([id], [setField(id, field, parse(value))], options)),
  );
