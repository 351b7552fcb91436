import { Command } from "commander";
import { version } from "../../package.json";
import { groups } from "../commands";

const footer = `
Examples:
  ./pgs up                       everything, from a fresh clone on a fresh machine
  ./pgs setup --check            what setup would install
  ./pgs url acme                 a connection string with its password
  eval "$(./pgs env)"            then: pulumi preview, pulumi stack output, ...

Editing commands show the edit and ask at a terminal (--yes does not); --no-up only edits the file.
Every command first makes the machine ready if it is not.

Exit codes: 0 done; 1 failed, or doctor, alerts, backups or try-restores found a problem; 2 wrong usage or a
wrong edit, and nothing was changed; those of Pulumi, psql, pg_dump and pg_restore where one of them ran;
130 after Ctrl-C.
The guide is in docs/; ./pgs COMMAND --help lists the options of a command.`;

/** The `pgs` command with all its commands. */
export const program = assembled();

function assembled(): Command {
  const pgs = new Command("./pgs")
    .description("pgs: a PostgreSQL server for every tenant, all behind one public port.")
    .usage("COMMAND [OPTIONS]")
    .version(version, "-V, --version", "print the version of pgs")
    .exitOverride()
    .enablePositionalOptions()
    .helpCommand(false)
    .configureHelp({ subcommandTerm: (one) => `${one.name()} ${argumentsOf(one)}`.trim() })
    .showHelpAfterError("(./pgs --help lists the commands)")
    .addHelpText("after", footer);
  for (const [title, commands] of Object.entries(groups)) {
    for (const one of commands) {
      one.copyInheritedSettings(pgs).helpGroup(`${title}:`);
      // Pulumi has this option of its own.
      const isPulumis = one.registeredArguments[0]?.name() === "pulumi-options";
      if (!isPulumis && title !== "This machine")
        one.option("-s, --stack <name>", "another stack than the selected one");
      pgs.addCommand(one);
    }
  }
  return pgs;
}

/** `ID…`, as a list of commands has it: options are left to the command's own help. */
function argumentsOf(one: Command): string {
  return one.registeredArguments
    .filter((argument) => !argument.name().endsWith("-options"))
    .map((argument) => {
      const name = argument
        .name()
        .replace(/^(new-)?tenants?$/, "id")
        .toUpperCase();
      const text = `${name}${argument.variadic ? "…" : ""}`;
      return argument.required ? text : `[${text}]`;
    })
    .join(" ");
}

/** As wide as the help is everywhere, so that a file of it (cli/help.txt) does not depend on a terminal. */
const width = 110;

/** The text of ./pgs --help. */
export function helpText(): string {
  let text = "";
  program.configureOutput({
    writeOut: (piece) => {
      text += piece;
    },
    getOutHelpWidth: () => width,
  });
  program.outputHelp();
  return text;
}
