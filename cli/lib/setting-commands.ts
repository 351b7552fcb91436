import type { Command } from "commander";
import type { Tenant } from "../../tenants";
import { editingCommand } from "./command";
import { setField } from "./edit-tenants";
import { type EditOptions, Stack } from "./edited-stack";
import { isAttended } from "./prompt";
import { CommandError } from "./pulumi";

/** A command that opens or closes routes. */
export function accessCommand(name: string, summary: string, access: boolean): Command {
  return editingCommand(name, summary, `./pgs ${name} acme`, `./pgs ${name} acme globex --yes`)
    .argument("<tenants...>")
    .action((ids: string[], options: EditOptions) => {
      const edits = ids.map((id) => setField(id, "access", access));
      return Stack.edit((stack) => stack.apply(ids, edits, options));
    });
}

/** A command that starts or stops servers; all of them when none is named. */
export function stateCommand(name: string, summary: string, state: Tenant["state"]): Command {
  return editingCommand(name, summary, `./pgs ${name} acme globex`, `./pgs ${name} --yes    all tenants`)
    .argument("[tenants...]", "default: all")
    .action((named: string[], options: EditOptions) =>
      Stack.edit(async (stack) => {
        const ids = named.length > 0 ? named : stack.file.tenants().map(({ id }) => id);
        const stopsAll = named.length === 0 && state === "stopped";
        if (stopsAll && !options.yes && !isAttended())
          throw new CommandError(`this stops all ${ids.length} tenants: name some, or add --yes`, 2);
        const edits = ids.filter((id) => stack.state(id) !== state).map((id) => setField(id, "state", state));
        await stack.apply(ids, edits, options);
      }),
    );
}
