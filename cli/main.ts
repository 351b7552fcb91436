import { resolve } from "node:path";
import { Command, CommanderError } from "commander";
import { backups } from "./backups";
import { addCompletionCommand } from "./completion";
import { connect } from "./connect";
import { doctor } from "./doctor";
import { addEditingCommands } from "./editing-commands";
import { importCompose } from "./import";
import { loginHint } from "./login-hint";
import { logs } from "./logs";
import { CommandError, ensureStack, runPulumi } from "./pulumi";
import { requiredOutputs, stackConfig, tenantOf } from "./stack";
import { tenantStatuses } from "./tenant-status";
import { outcomeTable, tenantsTable } from "./tenants-table";
import { tryRestores } from "./try-restores";

const program = new Command("pgs")
  .description("A PostgreSQL server for every tenant, all behind one public port.")
  .exitOverride()
  .enablePositionalOptions()
  .showHelpAfterError("(./pgs --help lists the commands)");

/** What follows their name is Pulumi's. */
const pulumiCommands = new Set<string>();

function examples(...lines: string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join("\n")}`;
}

/** A command that is Pulumi's own: what follows its name goes to Pulumi as it is. */
function passThrough(
  name: string,
  description: string,
  pulumiArgs: string[],
  example: string[],
  after?: () => Promise<void>,
) {
  pulumiCommands.add(name);
  program
    .command(name)
    .description(description)
    .argument("[pulumi-options...]", `as for \`pulumi ${name}\``)
    .allowUnknownOption()
    .addHelpText("after", examples(...example))
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
  ["./pgs up", "./pgs up --stack prod"],
  async () => {
    const [{ tenants }, { dockerHost }] = await Promise.all([requiredOutputs(), stackConfig()]);
    console.log(`\n${outcomeTable(tenants, terminalWidth())}\n\n${await loginHint(tenants, dockerHost)}`);
  },
);
passThrough("preview", "show what `up` would change", [], ["./pgs preview --diff"]);
passThrough(
  "refresh",
  "take note of what was changed by hand",
  ["--yes", "--skip-preview"],
  ["./pgs refresh"],
);
// The Docker provider ends with an error where it is to delete a container that was removed by hand.
passThrough("destroy", "take everything away but the data", ["--refresh"], ["./pgs destroy"]);

program
  .command("list")
  .description("the tenants, live: state, memory, CPU, size on disk, connections, uptime")
  .option("--json", "for programs: sizes in bytes, times in seconds")
  .addHelpText(
    "after",
    examples("./pgs list", "./pgs list --json | jq '.[] | select(.state != \"running\")'"),
  )
  .action(list);

program
  .command("connect")
  .description("a psql session of a tenant, with TLS; psql's own options follow --")
  .argument("<tenant>")
  .argument("[psql-options...]", "as for psql")
  .passThroughOptions()
  .addHelpText("after", examples("./pgs connect acme", "./pgs connect acme -- -Atc 'SELECT version()'"))
  .action(async (id: string, args: string[]) => {
    process.exitCode = await connect(id, args[0] === "--" ? args.slice(1) : args);
  });

program
  .command("url")
  .description("a tenant's connection string, with its password")
  .argument("<tenant>")
  .addHelpText("after", examples("./pgs url acme"))
  .action(async (id: string) => {
    console.log(await connectionString(id));
  });

program
  .command("password")
  .description("a tenant's password")
  .argument("<tenant>")
  .addHelpText("after", examples("PGPASSWORD=$(./pgs password acme) psql …"))
  .action(async (id: string) => {
    console.log(decodeURIComponent(new URL(await connectionString(id)).password));
  });

program
  .command("logs")
  .description("what a tenant's server wrote to its log")
  .argument("<tenant>")
  .option("-f, --follow", "go on as more is written, until Ctrl-C")
  .option("--tail <lines>", "only the last ones; or all", "all")
  .addHelpText("after", examples("./pgs logs acme --tail 20", "./pgs logs acme -f"))
  .action(logs);

program
  .command("backups")
  .description("how each tenant's backups stand, and what is wrong with them")
  .option("--json", "for programs: sizes in bytes, times in seconds since 1970")
  .addHelpText("after", `${examples("./pgs backups")}\n\nEnds with 1 when one is not as it should be.`)
  .action(async (options: { json?: boolean }) => {
    process.exitCode = (await backups(options)) ? 0 : 1;
  });

program
  .command("try-restores")
  .description(
    "restore the newest backup of tenants where nobody reaches it, read all of it, and take it away",
  )
  .argument("[tenants...]", "without any: all that are backed up")
  .option("--json", "for programs: times in seconds")
  .addHelpText(
    "after",
    `${examples("./pgs try-restores", "./pgs try-restores acme --json")}\n\nEnds with 1 when one cannot be restored.`,
  )
  .action(async (ids: string[], options: { json?: boolean }) => {
    process.exitCode = (await tryRestores(ids, options)) ? 0 : 1;
  });

program
  .command("doctor")
  .description("check engine, proxy, DNS, port, certificate, drift and each tenant's login; say what to do")
  .option("--json", "for programs")
  .option("--quick", "without the search for drift, which is a whole preview")
  .addHelpText(
    "after",
    `${examples("./pgs doctor", "./pgs doctor --quick --json")}\n\nEnds with 1 when something is to be done.`,
  )
  .action(async (options: { json?: boolean; quick?: boolean }) => {
    process.exitCode = (await doctor(options)) ? 0 : 1;
  });

program
  .command("import")
  .description("take the servers of a compose file over as tenants, data in place")
  .argument("<compose-file>")
  .option("--dry-run", "only say what would be done")
  .option("--no-up", "leave the up for later")
  .option("-y, --yes", "do not ask")
  .addHelpText("after", examples("./pgs import ../old/docker-compose.yml --dry-run"))
  .action((file: string, options) =>
    importCompose(resolve(process.env.PGS_CALLED_FROM ?? "", file), options),
  );

addEditingCommands(program);
addCompletionCommand(program);
// ./pgs has chosen the stack by it already.
for (const command of program.commands) {
  if (!pulumiCommands.has(command.name()))
    command.option("-s, --stack <name>", "another stack than the selected one");
}

async function list(options: { json?: boolean }): Promise<void> {
  const [{ tenants }, config] = await Promise.all([requiredOutputs(), stackConfig()]);
  const statuses = await tenantStatuses(tenants, config);
  if (options.json) {
    console.log(JSON.stringify(statuses, undefined, 2));
    return;
  }
  console.log(tenantsTable(statuses, terminalWidth()));
  console.log(`\n${await loginHint(tenants, config.dockerHost)}`);
}

function terminalWidth(): number | undefined {
  return process.stdout.isTTY ? process.stdout.columns : undefined;
}

async function connectionString(id: string): Promise<string> {
  return tenantOf((await requiredOutputs({ secrets: true })).connectionStrings, id);
}

async function main(): Promise<void> {
  try {
    await program.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
    else if (error instanceof CommandError) {
      if (error.message) console.error(error.message);
      process.exitCode = error.exitCode;
    } else throw error;
  }
}

void main();
