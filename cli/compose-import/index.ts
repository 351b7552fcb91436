import { spawnSync } from "node:child_process";
import { dirname, posix } from "node:path";
import type { Tenant } from "../../tenants";
import { tenantIdPattern } from "../../tenants/schema";
import { largestSharedBuffers } from "../../tenants/sizing";
import { addTenant } from "../lib/edit-tenants";
import { confirm, isAttended } from "../lib/prompt";
import { CommandError, ensureStack, feedPulumi, runPulumi } from "../lib/pulumi";
import { type StackConfig, stackConfig } from "../lib/stack";
import { TenantsFile } from "../lib/tenants-file";
import { coloured } from "../lib/terminal";
import { type ComposeServer, readCompose } from "./compose-file";

export interface ImportOptions {
  dryRun?: boolean;
  yes?: boolean;
  up: boolean;
}

/** One server that becomes a tenant. */
interface Move extends Data {
  server: ComposeServer;
  id: string;
  fields: Record<string, unknown>;
  /** The containers that have its volume, running or not. */
  containers: string[];
}

/** PostgreSQL major version of the tenants that are made. */
const version = 18;

/** Where the image of that version has its data, below the volume that the stack mounts. */
const target = `${version}/docker`;

/** In the volume, from when all is checked and agreed to: what a run that is cut off goes on with. */
const note = ".pgs-import";

/**
 * Takes servers of a compose file over as tenants, each with its volume and the data in place. Looks first, and
 * changes nothing before it was told to go on; nothing of the old set-up is ever deleted.
 * @throws CommandError when one of them cannot be taken over as it is: then none is
 */
export async function importCompose(path: string, options: ImportOptions): Promise<void> {
  ensureStack();
  const stack = await readStack();
  const { servers, others } = readCompose(path);
  for (const { service, reason } of others) console.log(`${service}: left alone; ${reason}`);
  if (options.up && !options.dryRun) refuseTakenPort(stack);
  if (servers.length === 0)
    throw new CommandError(`${path} has no PostgreSQL server that can be taken over`, 2);

  const known = new Set(stack.file.tenants().map(({ volume }) => volume));
  const moves: Move[] = [];
  const problems: string[] = [];
  for (const server of servers) {
    if (known.has(server.volume)) {
      console.log(`${server.service}: is a tenant already; its volume is ${server.volume}`);
      continue;
    }
    try {
      moves.push(look(server, stack.image));
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      problems.push(`${server.service}: ${error.message}`);
    }
  }
  if (problems.length > 0) throw new CommandError(`${problems.join("\n")}\nNothing was changed.`, 2);

  const change = stack.file.plan(moves.map(({ id, fields }) => addTenant(id, fields)));
  for (const move of moves) {
    const tenant = change.tenants.find(({ id }) => id === move.id);
    if (tenant) checkFields(move, tenant);
    console.log(described(move, tenant));
  }
  if (change.diff) console.log(`\n${coloured.diff(change.diff)}\n`);
  if (options.dryRun) return;
  if (moves.length > 0 && !options.yes) {
    if (!isAttended()) throw new CommandError("nothing was changed: without a terminal this needs --yes", 2);
    await confirm("Stop these servers and take them over?");
  }
  for (const move of moves) {
    try {
      await takeOver(move, stack);
    } catch (error) {
      const reason = (error as Error).message;
      throw new CommandError(
        `${move.server.service}: ${reason}\nRun the same command again, and it goes on from here. Nothing is lost; what is stopped stays stopped until then.`,
      );
    }
  }
  if (options.up) await runPulumi(["up", "--yes", "--skip-preview"]);
}

interface Stack {
  config: StackConfig;
  file: TenantsFile;
  /** PostgreSQL's image, which looks into the volumes and moves the data. */
  image: string;
}

async function readStack(): Promise<Stack> {
  const config = await stackConfig();
  const image = config.images[version];
  if (!image) throw new CommandError(`pgs:images has no image for PostgreSQL ${version}`, 2);
  // The docker command goes where the stack goes.
  if (config.dockerHost) process.env.DOCKER_HOST = config.dockerHost;
  return { config, file: new TenantsFile(config), image };
}

/** What the file's defaults make of the tenant. @throws CommandError when its data would not run with that */
function checkFields({ server, sharedBuffers = 0 }: Move, tenant: Tenant): void {
  const refuse = (message: string) => {
    throw new CommandError(`${server.service}: ${message}\nNothing was changed.`, 2);
  };
  if (tenant.version !== version)
    refuse(`defaults in tenants.yaml say version ${tenant.version}, and its data is of ${version}`);
  if (sharedBuffers > tenant.memory * largestSharedBuffers) {
    refuse(
      `its shared_buffers are ${mebibytes(sharedBuffers)}, too much for a memory limit of ${mebibytes(tenant.memory)}: raise mem_limit in the compose file, or lower shared_buffers by ALTER SYSTEM and restart it`,
    );
  }
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 1024 ** 2)} MiB`;
}

/** The proxy of the old set-up has most likely the port that the stack's needs. */
function refuseTakenPort({ config: { port, prefix } }: Stack): void {
  const names = lines(docker(["ps", "--filter", `publish=${port}/tcp`, "--format", "{{.Names}}"]));
  const others = names.filter((name) => name !== `${prefix}-proxy`);
  if (others.length === 0) return;
  throw new CommandError(
    `port ${port} is published by ${others.join(", ")}: stop it first (docker update --restart no ${others[0]} && docker stop ${others[0]}), or add --no-up. Nothing was changed.`,
  );
}

/** What can be said before anything is stopped. @throws CommandError that says why not, and what to do */
function look(server: ComposeServer, image: string): Move {
  const { volume, database } = server;
  const own = docker([
    "ps",
    "--all",
    "--filter",
    `volume=${volume}`,
    "--filter",
    "label=pgs.stack",
    "--quiet",
  ]);
  if (own.trim()) throw new CommandError(`the volume ${volume} is that of a tenant already: ./pgs up first`);
  if (docker(["volume", "ls", "--quiet", "--filter", `name=^${volume}$`]).trim() === "") {
    throw new CommandError(`there is no Docker volume ${volume}; docker volume ls shows what there is`);
  }
  const containers = lines(docker(["ps", "--all", "--filter", `volume=${volume}`, "--format", "{{.Names}}"]));
  const running = lines(
    docker(["ps", "--filter", `volume=${volume}`, "--filter", "status=running", "--format", "{{.Names}}"]),
  );
  const fields = fieldsOf(server);
  const move = { server: withPasswordOf("postgres", server), id: database, fields, containers };
  if (running.length > 1) {
    throw new CommandError(`${running.join(" and ")} use the volume ${volume}: stop all but its server`);
  }
  if (running[0]) return { ...move, ...askServer(running[0], move.server, image) };
  const resumed = inVolume(volume, image, `cat ${note} 2>/dev/null || true`).trim();
  if (resumed) return { ...move, source: resumed };
  throw new CommandError(
    `its server does not run, and only a running one can be asked: start it (docker compose start ${server.service}) and run this again`,
  );
}

/** The compose file says the password of the role that the image made; another keeps its own. */
function withPasswordOf(role: string, server: ComposeServer): ComposeServer {
  return server.user === role ? server : { ...server, password: undefined };
}

function fieldsOf({ database, hostname, memory, cpus, settings, volume }: ComposeServer) {
  return {
    volume,
    ...(hostname !== undefined && hostname !== database && { hostname }),
    ...(memory && { memory }),
    ...(cpus && { cpus }),
    ...(Object.keys(settings).length > 0 && { settings }),
  };
}

interface Answer {
  version: number;
  databases: string[];
  /** Whether there is a superuser postgres that may log in. */
  role: boolean;
  dataDirectory: string;
  configFiles: string[];
  tablespaces: number;
  ssl: boolean;
  /** Whether pg_hba.conf has the one line for clients that the image writes, and no other. */
  clients: boolean;
  /** In bytes. */
  sharedBuffers: number;
}

/** What is known of the data of one server. */
interface Data {
  /** Where it is below the volume's root: `.`, `data`, `18/docker` … */
  source: string;
  /** What it starts with the next time, in bytes; unknown once it was stopped. */
  sharedBuffers?: number;
}

/** Asks a server that runs. @throws CommandError when it cannot be taken over as it is */
function askServer(container: string, server: ComposeServer, image: string): Data {
  const { service, user, database, mountedAt, password } = server;
  const sql = `SELECT json_build_object(
    'version', current_setting('server_version_num')::int / 10000,
    'databases', (SELECT json_agg(datname) FROM pg_database),
    'role', EXISTS (SELECT FROM pg_roles WHERE rolname = 'postgres' AND rolsuper AND rolcanlogin),
    'dataDirectory', current_setting('data_directory'),
    'configFiles', json_build_array(current_setting('config_file'), current_setting('hba_file')),
    'tablespaces', (SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')),
    'ssl', current_setting('ssl') = 'on',
    'clients', (SELECT count(*) = 1 AND bool_and(line) FROM (
      SELECT (type, database, user_name, address, auth_method)
        = ('host', ARRAY['all'], ARRAY['all'], 'all', 'scram-sha-256') AS line
      FROM pg_hba_file_rules
      WHERE type <> 'local' AND address IS DISTINCT FROM '127.0.0.1' AND address IS DISTINCT FROM '::1') AS lines),
    'sharedBuffers', pg_size_bytes(current_setting('shared_buffers')))`;
  const psql = ["psql", "--no-psqlrc", "-AtX", "-U", user, "-d", "template1"];
  const answer: Answer = JSON.parse(docker(["exec", "-i", container, ...psql], sql));

  const run = `docker exec -it ${container} psql -U ${user}`;
  const refuse = (message: string): never => {
    throw new CommandError(message);
  };
  if (answer.version !== version) {
    refuse(
      `it is PostgreSQL ${answer.version}, and its data cannot be used by ${version}: make an empty tenant, and copy by pg_dump (docs/moving-in.md)`,
    );
  }
  if (!answer.databases.includes(database)) refuse(`it has no database ${database}; correct POSTGRES_DB`);
  if (!tenantIdPattern.test(database) || database === "postgres" || database === "proxy") {
    refuse(
      `its database is called ${database}, and a tenant's is called like the tenant (lower-case letters, digits, hyphens): rename it, such as by ${run} template1 -c 'ALTER DATABASE "${database}" RENAME TO "${service}"', and set POSTGRES_DB in the compose file`,
    );
  }
  if (!answer.role) {
    refuse(
      `it has no superuser postgres, which a tenant logs in as: ${run} ${database} -c 'CREATE ROLE postgres SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS LOGIN'`,
    );
  }
  if (answer.tablespaces > 0)
    refuse("it has tablespaces, which lie outside of its volume: move their tables back");
  if (answer.ssl) refuse("it has ssl on, and here the proxy has the certificate: ALTER SYSTEM SET ssl = off");
  if (!answer.clients) {
    refuse(
      "its pg_hba.conf lets clients in otherwise than by the image's one line, host all all all scram-sha-256, which is what the stack relies on: put that in place of the others for host, and SELECT pg_reload_conf()",
    );
  }
  const outside = answer.configFiles.find((file) => dirname(file) !== answer.dataDirectory);
  if (outside)
    refuse(`its configuration ${outside} is not with its data: bring its settings in by ALTER SYSTEM`);
  const source = posix.relative(mountedAt, answer.dataDirectory) || ".";
  if (source.startsWith(".."))
    refuse(`its data is in ${answer.dataDirectory}, not in the volume ${server.volume}`);

  const system = (text: string) => text.trim().replace(/^$/, "no glibc");
  const libc = "getconf GNU_LIBC_VERSION 2>/dev/null || true";
  const theirs = system(docker(["exec", container, "sh", "-c", libc]));
  const ours = system(docker(["run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", libc]));
  if (theirs !== ours) {
    refuse(
      `its image has ${theirs} and ${image} has ${ours}: they may sort text differently, and indexes would then be wrong. Set pgs:images to an image on the same system, or copy by pg_dump (docs/moving-in.md)`,
    );
  }
  const owner = docker(["exec", container, "stat", "-c", "%u", answer.dataDirectory]).trim();
  if (owner !== "999")
    refuse(`its data belongs to uid ${owner}, not to 999 as in the official image: copy by pg_dump`);
  const wal = docker([
    "exec",
    container,
    "sh",
    "-c",
    'test -L "$0/pg_wal" && echo link || true',
    answer.dataDirectory,
  ]);
  if (wal.trim()) refuse("its pg_wal is a link to elsewhere: copy by pg_dump");
  if (password !== undefined) checkPassword(container, server, password);
  return { source, sharedBuffers: answer.sharedBuffers };
}

/** Over the network: on its own loopback the image asks for no password. It comes on standard input alone. */
function checkPassword(container: string, { service }: ComposeServer, password: string): void {
  if (!/^[ -~]{1,256}$/.test(password)) {
    throw new CommandError(
      "its POSTGRES_PASSWORD is not 1 to 256 printable ASCII characters: change it first",
    );
  }
  const script =
    'IFS= read -r PGPASSWORD; export PGPASSWORD; psql --no-psqlrc -h "$(hostname -i | cut -d" " -f1)" -U postgres -d template1 -c "SELECT 1"';
  const result = spawnSync("docker", ["exec", "-i", container, "sh", "-c", script], {
    encoding: "utf8",
    input: `${password}\n`,
  });
  if (result.status === 0) return;
  throw new CommandError(
    `the POSTGRES_PASSWORD that the compose file has is not that of its role postgres: correct the file, or the role (docker compose exec ${service} psql …, \\password postgres)`,
  );
}

function described({ server, id, containers, source }: Move, tenant: Tenant | undefined): string {
  const data = source === target ? "stays where it is" : `moves within it, from ${source} to ${target}`;
  const password = server.password === undefined ? "a new, random one" : "as it is";
  return `${server.service}: becomes the tenant ${id}
  volume    ${server.volume}; the data ${data}
  password  ${password}
  limits    ${tenant ? `${mebibytes(tenant.memory)}, ${tenant.cpus} CPU` : "as defaults say"}
  stops     ${containers.join(", ") || "nothing"}; they stay, and do not start by themselves any more`;
}

/** Each step can be done again, so a run that is cut off is simply run again. */
async function takeOver(
  { server, id, fields, containers, source }: Move,
  { file, image }: Stack,
): Promise<void> {
  const { volume, password } = server;
  inVolume(volume, image, `printf '%s\\n' "$1" >${note}.part && mv ${note}.part ${note} && sync`, source);
  for (const container of containers) {
    // One with `restart: always` would be back after a restart of the engine: two servers on one volume.
    docker(["update", "--restart", "no", container]);
    docker(["stop", "--time", "120", container]);
  }
  inVolume(volume, image, moveData, source, target);
  if (password !== undefined) {
    await feedPulumi(["config", "set", "--secret", "--path", `pgs:passwords.${id}`], password);
  }
  file.plan([addTenant(id, fields)]).write();
  console.log(`${server.service}: its data is ready for the tenant ${id}`);
}

/**
 * Moves the data from $1 to $2 in one file system, file by file where it is the volume's root. PG_VERSION goes first:
 * without it no server starts on the half of the data that a run which is cut off leaves behind, and this goes on with it.
 */
const moveData = `
  exec 9>>${note}; flock 9
  source=$1 target=$2 half=$2.moving
  if [ ! -s "$target/PG_VERSION" ]; then
    if [ ! -e "$half" ]; then
      state=$(LC_ALL=C pg_controldata -D "$source" | sed -n 's/^Database cluster state: *//p')
      [ "$state" = "shut down" ] || { echo "the server was not stopped cleanly (it is: $state): start it, and run this again" >&2; exit 1; }
      mkdir -p "$(dirname "$target")"
      mkdir -m 0700 "$half"
    fi
    for path in "$source/PG_VERSION" "$source"/* "$source"/.[!.]*; do
      name=\${path##*/}
      case $name in "\${target%%/*}" | "\${half##*/}" | ${note} | .in-use | lost+found) continue ;; esac
      if [ -e "$path" ]; then mv -T "$path" "$half/$name"; fi
    done
    chown 999:999 "$half"
    sync
    mv -T "$half" "$target"
  fi
  state=$(LC_ALL=C pg_controldata -D "$target" | sed -n 's/^Database cluster state: *//p')
  [ "$state" = "shut down" ] || { echo "the server was not stopped cleanly (it is: $state): start it, and run this again" >&2; exit 1; }
  chown 999:999 . "\${target%%/*}"
  sync`;

/** Runs a script as root in a volume's root folder, without network. @returns what it prints */
function inVolume(volume: string, image: string, script: string, ...args: string[]): string {
  const limits = ["--rm", "--network", "none", "--user", "0", "--security-opt", "no-new-privileges"];
  const mount = ["--volume", `${volume}:/volume`, "--workdir", "/volume", "--entrypoint", "sh"];
  return docker(["run", ...limits, ...mount, image, "-euc", script, "sh", ...args]);
}

/** @throws CommandError with what the command said */
function docker(args: string[], input?: string): string {
  const result = spawnSync("docker", args, { encoding: "utf8", input: input ?? "" });
  if (result.error) throw new CommandError(`the docker command is needed here: ${result.error.message}`);
  if (result.status !== 0) throw new CommandError(result.stderr.trim() || `docker ${args[0]} failed`);
  return result.stdout;
}

function lines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}
