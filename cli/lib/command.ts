import { Command } from "commander";

/** A command whose help ends with examples. */
export function command(name: string, summary: string, ...examples: string[]): Command {
  const lines = examples.map((line) => `  ${line}`).join("\n");
  return new Command(name).description(summary).addHelpText("after", `\nExamples:\n${lines}`);
}

/** Says in a command's help when it ends with 1 though nothing failed. */
export function exitNote(one: Command, note: string): Command {
  return one.addHelpText("after", `\nExits with 1 ${note}.`);
}

/** A command that is Pulumi's: options it does not know go to Pulumi as they are. */
export function pulumiCommand(name: string, summary: string, ...examples: string[]): Command {
  return command(name, summary, ...examples)
    .argument("[pulumi-options...]", `as for \`pulumi ${name}\``)
    .allowUnknownOption();
}

/** A command that takes one of the roles of a tenant's entry. */
export const roleOption = ["--role <role>", "one of the tenant's roles (default: its superuser)"] as const;

/** A command that edits tenants.yaml and applies the edit. */
export function editingCommand(name: string, summary: string, ...examples: string[]): Command {
  return command(name, summary, ...examples)
    .option("--no-up", "only edit tenants.yaml")
    .option("-y, --yes", "do not ask")
    .option("--verbose", "Pulumi's own full output");
}

/** Whether the arguments of a command are tenants that exist. */
export function takesTenants(one: Command): boolean {
  return one.registeredArguments[0]?.name().startsWith("tenant") === true;
}
