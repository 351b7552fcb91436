import { join, resolve } from "node:path";
import { type Command, Option } from "commander";
import { takesTenants } from "./command";
import { projectFolder } from "./pulumi";

/** A command as completion knows it. */
interface Words {
  name: string;
  description: string;
  options: string[];
  /** Whether its arguments are tenants. */
  tenants: boolean;
}

/** A script that the shell sources. */
export function completionScript(shell: string, commands: readonly Command[], tenantsFile: string): string {
  return shells[shell]?.(commands.map(wordsOf), tenantIds(tenantsFile)) ?? "";
}

function wordsOf(command: Command): Words {
  return {
    name: command.name(),
    description: command.description(),
    options: command.options.concat(new Option("--help")).flatMap(({ long }) => (long ? [long] : [])),
    tenants: takesTenants(command),
  };
}

/** A command that prints the tenants' ids, without starting Pulumi. */
function tenantIds(tenantsFile: string): string {
  const yaml = join(projectFolder, "node_modules", "yaml");
  const program = `console.log(Object.keys(require(process.argv[1]).parse(require("fs").readFileSync(process.argv[2],"utf8")).tenants).join("\\n"))`;
  return ["node", "-e", program, resolve(yaml), tenantsFile].map(quoted).join(" ");
}

function quoted(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

export const shells: Record<string, (commands: Words[], ids: string) => string> = {
  bash: (commands, ids) => `# Completion of pgs for bash.
_pgs() {
  local word=\${COMP_WORDS[COMP_CWORD]} options= ids=
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W ${quoted(commands.map(({ name }) => name).join(" "))} -- "$word"))
    return
  fi
  case \${COMP_WORDS[1]} in
${commands.map(({ name, options, tenants }) => `    ${name}) options=${quoted(options.join(" "))}${tenants ? " ids=1" : ""} ;;`).join("\n")}
  esac
  if [[ $word == -* ]]; then COMPREPLY=($(compgen -W "$options" -- "$word"))
  elif [[ -n $ids ]]; then COMPREPLY=($(compgen -W "$(${ids} 2>/dev/null)" -- "$word"))
  else compopt -o default 2>/dev/null
  fi
}
complete -F _pgs pgs ./pgs`,

  zsh: (commands, ids) => `#compdef pgs
# Completion of pgs for zsh.
_pgs() {
  local -a commands
  commands=(
${commands.map(({ name, description }) => `    ${quoted(`${name}:${description.replaceAll(":", "\\:")}`)}`).join("\n")}
  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  local options= ids=
  case $words[2] in
${commands.map(({ name, options, tenants }) => `    ${name}) options=${quoted(options.join(" "))}${tenants ? " ids=1" : ""} ;;`).join("\n")}
  esac
  if [[ $words[CURRENT] == -* ]]; then compadd -- \${=options}
  elif [[ -n $ids ]]; then compadd -- \${(f)"$(${ids} 2>/dev/null)"}
  else _files
  fi
}
compdef _pgs pgs ./pgs`,

  fish: (commands, ids) => `# Completion of pgs for fish.
function __pgs_tenants
  ${ids} 2>/dev/null
end
complete -c pgs -f
${commands
  .flatMap(({ name, description, options, tenants }) => [
    `complete -c pgs -n __fish_use_subcommand -a ${name} -d ${fishQuoted(description)}`,
    ...options.map(
      (option) => `complete -c pgs -n '__fish_seen_subcommand_from ${name}' -l ${option.slice("--".length)}`,
    ),
    ...(tenants ? [`complete -c pgs -n '__fish_seen_subcommand_from ${name}' -a '(__pgs_tenants)'`] : []),
  ])
  .join("\n")}`,
};

function fishQuoted(text: string): string {
  return `'${text.replace(/[\\']/g, "\\$&")}'`;
}
