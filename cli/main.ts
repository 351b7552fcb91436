import { Command, CommanderError } from "commander";
import { askPulumi, CommandError, ensureStack, runPulumi } from "./pulumi";
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
