import type { Command } from "commander";
import { parse } from "yaml";
import type { Tenant } from "../tenants";
import { addTenant, removeTenant, setField } from "./edit-tenants";
import { type EditOptions, Stack } from "./edited-stack";
import { ask, isAttended, readPassword } from "./prompt";
import { CommandError, feedPulumi } from "./pulumi";
import { restore } from "./restore";

/** The commands that edit tenants.yaml and bring the edit about. */
export function addEditingCommands(program: Command): void {
  const editing = (name: string, description: string, example: string) =>
    program
      .command(name)
      .description(description)
      .option("--no-up", "only edit tenants.yaml")
      .option("-y, --yes", "do not ask")
      .addHelpText("after", `\nExamples:\n${example.replace(/^/gm, "  ")}`);

  editing(
    "create",
    "add a tenant to tenants.yaml, and run up",
    `./pgs create hooli
./pgs create hooli --memory 1Gi --cpus 2 --init init/hooli.sql
./pgs create hooli --password                    asks for it, without showing it
./pgs create hooli --yes --password - <FILE      for scripts`,
  )
    .argument("<tenant>", "its id: a lower-case DNS label")
    .option("--memory <size>", "hard limit, such as 1Gi")
    .option("--cpus <number>", "hard limit", Number)
    .option(
      "--init <file>",
      "SQL script for the new database; may be repeated",
      (file, files: string[]) => [...files, file],
      [],
    )
    .option("--no-access", "without a route")
    .option("--password [-]", "a password of your own: asked for, or with - read from standard input")
    .action(async (id: string, options) => {
      const fields = {
        ...(options.memory && { memory: options.memory }),
        ...(options.cpus !== undefined && { cpus: options.cpus }),
        ...(options.init.length > 0 && { init: options.init }),
        ...(!options.access && { access: false }),
      };
      const edits = [addTenant(id, fields)];
      const stack = await Stack.read();
      // A wrong edit is refused before anybody types a password for it.
      stack.file.plan(edits);
      const password = options.password === undefined ? undefined : await readPassword(options.password);
      await stack.apply([id], edits, options, async () => {
        if (password !== undefined)
          await feedPulumi(["config", "set", "--secret", "--path", `pgs:passwords.${id}`], password);
      });
    });

  editing(
    "remove",
    "take a tenant out of tenants.yaml, and run up; its data stays",
    `./pgs remove hooli
./pgs remove hooli --delete-data          asks for the tenant's id
./pgs remove hooli --delete-data --yes    for scripts`,
  )
    .argument("<tenant>")
    .option("--delete-data", "delete its data for good: asks for the tenant's id first")
    .action(remove);

  const settingField = (name: string, description: string, field: string, value: unknown) =>
    editing(name, description, `./pgs ${name} acme\n./pgs ${name} acme globex --yes`)
      .argument("<tenants...>")
      .action(async (ids: string[], options: EditOptions) => {
        const stack = await Stack.read();
        await stack.apply(
          ids,
          ids.map((id) => setField(id, field, value)),
          options,
        );
      });

  settingField("enable-access", "open the routes of tenants", "access", true);
  settingField("disable-access", "close the routes of tenants and end their sessions", "access", false);

  const settingState = (name: string, description: string, state: Tenant["state"]) =>
    editing(name, description, `./pgs ${name} acme globex\n./pgs ${name} --yes    all tenants`)
      .argument("[tenants...]", "without any: all")
      .action(async (named: string[], options: EditOptions) => {
        const stack = await Stack.read();
        const ids = named.length > 0 ? named : stack.file.tenants().map(({ id }) => id);
        const stopsAll = named.length === 0 && state === "stopped";
        if (stopsAll && !options.yes && !isAttended())
          throw new CommandError(`this stops all ${ids.length} tenants: name some, or add --yes`, 2);
        await stack.apply(
          ids,
          ids.filter((id) => stack.state(id) !== state).map((id) => setField(id, "state", state)),
          options,
        );
      });

  settingState("start", "run the servers of tenants again", "running");
  settingState("stop", "shut the servers of tenants down; their data stays", "stopped");

  editing(
    "rotate-password",
    "give a tenant a new random password; its sessions go on",
    "./pgs rotate-password acme && ./pgs url acme",
  )
    .argument("<tenant>")
    .action(async (id: string, options: EditOptions) => {
      const stack = await Stack.read();
      const { passwordVersion } = stack.file.tenant(id);
      await stack.apply([id], [setField(id, "passwordVersion", passwordVersion + 1)], options);
    });

  editing(
    "restore",
    "put a tenant back to any second, or make another one of its backups, and run up",
    `./pgs restore acme --at 2026-11-23T10:15:00Z --as acme-copy
./pgs restore acme --as acme-copy                        as it is now
./pgs restore acme --at 2026-11-23T10:15:00Z             in place: asks for the tenant's id
./pgs restore acme --at 2026-11-23T10:15:00Z --yes       for scripts`,
  )
    .argument("<tenant>", "whose backups; it may have been removed")
    .option("--at <time>", "such as 2026-11-23T10:15:00Z; default: the end of what was backed up")
    .option("--as <tenant>", "a new tenant, with the fields of the other; without it, in place")
    .action(restore);

  editing(
    "set",
    "change one field of a tenant",
    `./pgs set acme memory 1Gi
./pgs set acme settings.work_mem 16MB
./pgs set acme hostname customers --no-up`,
  )
    .argument("<tenant>")
    .argument("<field>", "such as memory or settings.work_mem")
    .argument("<value>", "as tenants.yaml has it")
    .action(async (id: string, field: string, value: string, options: EditOptions) => {
      const stack = await Stack.read();
      await stack.apply([id], [setField(id, field, parse(value))], options);
    });
}

/** Goes on where an earlier call of it was cut off. */
async function remove(id: string, options: EditOptions & { deleteData?: boolean }): Promise<void> {
  const stack = await Stack.read();
  if (stack.state(id) === undefined && stack.applied?.[id] && options.up) {
    console.error(`${id} is not in tenants.yaml any more; what the stack has of it goes now.`);
    return stack.up([id], stack.file.tenants());
  }
  stack.file.tenant(id);
  if (options.deleteData) {
    if (!options.up)
      throw new CommandError("--delete-data needs an up before the entry goes: leave --no-up out", 2);
    if (!options.yes) await confirmDeletion(id);
    // Only what was applied while the tenant exists counts.
    await stack.apply([id], [setField(id, "onRemove", "delete")], { up: true, yes: true });
  }
  await stack.apply([id], [removeTenant(id)], { ...options, yes: options.yes || options.deleteData });
}

async function confirmDeletion(id: string): Promise<void> {
  if (!isAttended()) throw new CommandError("--delete-data without a terminal needs --yes", 2);
  const answer = await ask(`This deletes the data of ${id} for good. Type the tenant's id to go on: `);
  if (answer !== id) throw new CommandError("nothing was changed");
}
