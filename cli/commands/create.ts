import { editingCommand } from "../lib/command";
import { addTenant } from "../lib/edit-tenants";
import { type EditOptions, Stack } from "../lib/edited-stack";
import { readPassword } from "../lib/prompt";
import { feedPulumi } from "../lib/pulumi";

interface CreateOptions extends EditOptions {
  memory?: string;
  cpus?: number;
  init: string[];
  access: boolean;
  password?: string | true;
}

export const create = editingCommand(
  "create",
  "add a tenant",
  "./pgs create hooli",
  "./pgs create hooli --memory 1Gi --cpus 2 --init init/hooli.sql",
  "./pgs create hooli --password                    asks for it, without showing it",
  "./pgs create hooli --yes --password - <FILE      for scripts",
)
  .argument("<new-tenant>", "its id: a lower-case DNS label")
  .option("--memory <size>", "hard limit, such as 1Gi")
  .option("--cpus <number>", "hard limit", Number)
  .option(
    "--init <file>",
    "SQL script for the new database; may be repeated",
    (file: string, files: string[]) => [...files, file],
    [],
  )
  .option("--no-access", "without a route")
  .option("--password [-]", "a password of your own: asked for, or with - read from standard input")
  .action(async (id: string, options: CreateOptions) => {
    const edits = [
      addTenant(id, {
        ...(options.memory && { memory: options.memory }),
        ...(options.cpus !== undefined && { cpus: options.cpus }),
        ...(options.init.length > 0 && { init: options.init }),
        ...(!options.access && { access: false }),
      }),
    ];
    await Stack.edit(async (stack) => {
      // A wrong edit is refused before anybody types a password for it.
      stack.file.plan(edits);
      const password = options.password === undefined ? undefined : await readPassword(options.password);
      await stack.apply([id], edits, options, async () => {
        if (password !== undefined)
          await feedPulumi(["config", "set", "--secret", "--path", `pgs:passwords.${id}`], password);
      });
    });
  });
