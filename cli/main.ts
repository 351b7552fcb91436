import { createInterface } from "node:readline/promises";
import { text } from "node:stream/consumers";
import { Command, CommanderError } from "commander";
import { parse } from "yaml";
import { addTenant, type Edit, removeTenant, setField } from "./edit-tenants";
import { askPulumi, CommandError, ensureStack, feedPulumi, runPulumi } from "./pulumi";
import { TenantsFile } from "./tenants-file";
import { loginHint, type TenantSummaries, tenantsTable } from "./tenants-table";

const program = new Command("pgs")
  .description("A PostgreSQL server for every tenant, all behind one public port.")
  .exitOverride()
  .showHelpAfterError("(./pgs --help lists the commands)");

/** A command that is Pulumi's own: what follows its name goes to Pulumi as it is. */
function passThrough(name: string, description: string, pulumiArgs: string[], after?: () => Promise<void>) {
  program
    .command(name)
    .description(description)
    .argument("[pulumi-options...]", `as for \`pulumi ${name}\``)
    .allowUnknownOption()
    .action(async (args: string[]) => {
      ensureStack();
      await runPulumi([name, ...pulumiArgs, ...args]);
      await after?.();
    });
}

passThrough(
  "up",
  "bring the Docker host to what tenants.yaml says",
  ["--yes", "--skip-preview"],
  showTenants,
);
passThrough("preview", "show what `up` would change", []);
passThrough("refresh", "take note of what was changed by hand", ["--yes", "--skip-preview"]);
passThrough("destroy", "take everything away but the data", []);

program.command("list").description("the tenants of the stack").action(showTenants);

program
  .command("url")
  .description("a tenant's connection string, with its password")
  .argument("<tenant>")
  .action((id: string) => {
    console.log(connectionString(id));
  });

program
  .command("password")
  .description("a tenant's password")
  .argument("<tenant>")
  .action((id: string) => {
    console.log(decodeURIComponent(new URL(connectionString(id)).password));
  });

program
  .command("create")
  .description("add a tenant to tenants.yaml, and run up")
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
  .option("--password <->", "a password of your own, read from standard input: only - is accepted")
  .option("--no-up", "only edit tenants.yaml")
  .addHelpText("after", "\nExample: ./pgs create hooli --memory 1Gi --init init/hooli.sql")
  .action(async (id: string, options) => {
    const password = options.password === undefined ? undefined : await readPassword(options.password);
    const fields = {
      ...(options.memory && { memory: options.memory }),
      ...(options.cpus !== undefined && { cpus: options.cpus }),
      ...(options.init.length > 0 && { init: options.init }),
      ...(!options.access && { access: false }),
    };
    await edit([addTenant(id, fields)], { up: false });
    if (password !== undefined)
      feedPulumi(["config", "set", "--secret", "--path", `pgs:passwords.${id}`], password);
    if (options.up) await up();
  });

program
  .command("remove")
  .description("take a tenant out of tenants.yaml, and run up; its data stays")
  .argument("<tenant>")
  .option("--delete-data", "delete its data for good: asks for the tenant's id first")
  .option("--yes", "do not ask")
  .option("--no-up", "only edit tenants.yaml")
  .action(async (id: string, options) => {
    TenantsFile.ofStack().tenant(id);
    if (options.deleteData) {
      if (!options.up)
        throw new CommandError("--delete-data needs an up before the entry goes: leave --no-up out", 2);
      if (!options.yes) await confirmDeletion(id);
      // Only what was applied while the tenant exists counts.
      await edit([setField(id, "onRemove", "delete")], { up: true });
    }
    await edit([removeTenant(id)], options);
  });

/** A command that sets one field of some tenants. */
function fieldCommand(name: string, description: string, field: string, value: unknown) {
  program
    .command(name)
    .description(description)
    .argument("<tenants...>")
    .option("--no-up", "only edit tenants.yaml")
    .action((ids: string[], options) =>
      edit(
        ids.map((id) => setField(id, field, value)),
        options,
      ),
    );
}

fieldCommand("start", "run the servers of tenants again", "state", "running");
fieldCommand("stop", "shut the servers of tenants down; their data stays", "state", "stopped");
fieldCommand("enable-access", "open the routes of tenants", "access", true);
fieldCommand("disable-access", "close the routes of tenants and end their sessions", "access", false);

program
  .command("rotate-password")
  .description("give a tenant a new random password; its sessions go on")
  .argument("<tenant>")
  .option("--no-up", "only edit tenants.yaml")
  .action((id: string, options) => {
    const { passwordVersion } = TenantsFile.ofStack().tenant(id);
    return edit([setField(id, "passwordVersion", passwordVersion + 1)], options);
  });

program
  .command("set")
  .description("change one field of a tenant")
  .argument("<tenant>")
  .argument("<field>", "such as memory or settings.work_mem")
  .argument("<value>", "as tenants.yaml has it")
  .option("--no-up", "only edit tenants.yaml")
  .addHelpText("after", "\nExample: ./pgs set acme settings.work_mem 16MB")
  .action((id: string, field: string, value: string, options) =>
    edit([setField(id, field, parse(value))], options),
  );

/** Edits tenants.yaml, shows the change, and brings it about. */
async function edit(edits: Edit[], options: { up: boolean }): Promise<void> {
  const change = TenantsFile.ofStack().edit(edits);
  if (change) console.log(change);
  else console.error("tenants.yaml says so already.");
  if (options.up) await up();
}

async function up(): Promise<void> {
  ensureStack();
  await runPulumi(["up", "--yes", "--skip-preview"]);
}

/** Never from an argument: those are in the shell's history and in the list of processes. */
async function readPassword(source: string): Promise<string> {
  if (source !== "-")
    throw new CommandError("--password takes - only: the password is read from standard input", 2);
  const password = (await text(process.stdin)).replace(/\r?\n$/, "");
  if (!/^[ -~]{1,256}$/.test(password)) {
    throw new CommandError("the password on standard input is not 1 to 256 printable ASCII characters", 2);
  }
  return password;
}

async function confirmDeletion(id: string): Promise<void> {
  if (!process.stdin.isTTY) throw new CommandError("--delete-data without a terminal needs --yes", 2);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(
    `This deletes the data of ${id} for good. Type the tenant's id to go on: `,
  );
  terminal.close();
  if (answer !== id) throw new CommandError("nothing was changed");
}

async function showTenants(): Promise<void> {
  const tenants = askPulumi<TenantSummaries>(["stack", "output", "tenants", "--json"]);
  console.log(`\n${tenantsTable(tenants)}\n\n${await loginHint(tenants)}`);
}

function connectionString(id: string): string {
  const all = askPulumi<Record<string, string>>([
    "stack",
    "output",
    "connectionStrings",
    "--json",
    "--show-secrets",
  ]);
  const found = all[id];
  if (!found)
    throw new CommandError(`no tenant ${id}: there are ${Object.keys(all).join(", ") || "none"}`, 2);
  return found;
}

async function main(): Promise<number> {
  try {
    await program.parseAsync();
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (!(error instanceof CommandError)) throw error;
    if (error.message) console.error(error.message);
    return error.exitCode;
  }
}

void main().then((code) => {
  process.exitCode = code;
});
