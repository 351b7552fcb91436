import { readFileSync } from "node:fs";
import { basename, dirname, join, posix, resolve } from "node:path";
import { parse } from "yaml";
import { CommandError } from "../lib/pulumi";

/** A PostgreSQL server as a compose file describes it. */
export interface ComposeServer {
  service: string;
  /** The Docker volume with its data, and where the server has it. */
  volume: string;
  mountedAt: string;
  /** The superuser that the image made. Default: postgres. */
  user: string;
  /** The database that the image made. Default: that of the user's name. */
  database: string;
  /** The superuser's; undefined where the file does not say it. */
  password?: string;
  /** The first label of the name in a label's HostSNI rule. */
  hostname?: string;
  /** As tenants.yaml writes it. */
  memory?: string;
  cpus?: number;
  /** From `-c name=value` of the command. */
  settings: Record<string, string>;
}

interface ComposeFile {
  servers: ComposeServer[];
  /** Services that are left alone, and why. */
  others: { service: string; reason: string }[];
}

type Map = Record<string, unknown>;

/** @throws CommandError when the file cannot be read, or says something that is not understood */
export function readCompose(path: string): ComposeFile {
  const folder = dirname(resolve(path));
  const env = { ...readEnv(join(folder, ".env")), ...process.env };
  let file: Map;
  try {
    file = asMap(interpolated(parse(readFileSync(path, "utf8"), { merge: true }), env));
  } catch (error) {
    // What follows the first line is a piece of the file, which may be a password.
    throw new CommandError(`${path}: ${(error as Error).message.split("\n")[0]}`, 2);
  }
  const project = projectName(file, folder, env);
  const found: ComposeFile = { servers: [], others: [] };
  for (const [service, value] of Object.entries(asMap(file.services))) {
    const definition = asMap(value);
    const image = String(definition.image ?? "");
    if (!/(^|\/)postgres(:|@|$)/.test(image)) {
      found.others.push({ service, reason: image ? `its image is ${image}` : "it is built, not pulled" });
      continue;
    }
    const mount = dataVolume(definition, asMap(file.volumes), project);
    if (mount) found.servers.push(server(service, definition, mount, folder, env));
    else found.others.push({ service, reason: "it has no named volume at /var/lib/postgresql or below" });
  }
  return found;
}

function server(
  service: string,
  definition: Map,
  mount: { volume: string; mountedAt: string },
  folder: string,
  env: NodeJS.ProcessEnv,
): ComposeServer {
  const environment = environmentOf(definition, folder, env);
  const user = environment.POSTGRES_USER || "postgres";
  const limits = asMap(asMap(asMap(definition.deploy).resources).limits);
  return {
    service,
    ...mount,
    user,
    database: environment.POSTGRES_DB || user,
    password: environment.POSTGRES_PASSWORD || undefined,
    hostname: hostnameOf(definition.labels),
    memory: memoryOf(definition.mem_limit ?? limits.memory),
    cpus: Number(definition.cpus ?? limits.cpus) || undefined,
    settings: settingsOf(definition.command),
  };
}

/** The folder's name, unless something else is said, as compose makes it a prefix. */
function projectName(file: Map, folder: string, env: NodeJS.ProcessEnv): string {
  const name = env.COMPOSE_PROJECT_NAME || file.name || basename(folder);
  return String(name)
    .toLowerCase()
    .replace(/[^a-z0-9_-]/g, "")
    .replace(/^[_-]+/, "");
}

/** The named volume that holds the data, by the name that Docker knows it by. */
function dataVolume(definition: Map, volumes: Map, project: string) {
  const list = Array.isArray(definition.volumes) ? definition.volumes : [];
  for (const entry of list) {
    const [source, target] =
      typeof entry === "string" ? entry.split(":") : [asMap(entry).source, asMap(entry).target];
    if (typeof source !== "string" || typeof target !== "string" || /^[./~]/.test(source)) continue;
    const mountedAt = posix.normalize(target).replace(/\/$/, "");
    if (!/^\/var\/lib\/postgresql(\/|$)/.test(mountedAt)) continue;
    const declared = asMap(volumes[source]);
    const external = declared.external;
    const name = declared.name ?? asMap(external).name ?? (external ? source : `${project}_${source}`);
    return { volume: String(name), mountedAt };
  }
  return undefined;
}

function environmentOf(definition: Map, folder: string, env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const files = [definition.env_file ?? []].flat();
  const fromFiles = files.map((file) =>
    readEnv(resolve(folder, String(typeof file === "string" ? file : asMap(file).path))),
  );
  const { environment } = definition;
  const own = Array.isArray(environment)
    ? environment.map((line): [string, unknown] => {
        const [, name = String(line), value] = /^([^=]*)=([\s\S]*)$/.exec(String(line)) ?? [];
        return [name, value];
      })
    : Object.entries(asMap(environment));
  // A name without a value is taken from where compose runs.
  const set = own.map(([name, value]) => [name, value == null ? env[name] : String(value)]);
  return Object.assign({}, ...fromFiles, Object.fromEntries(set));
}

function hostnameOf(labels: unknown): string | undefined {
  const text = Array.isArray(labels) ? labels.join("\n") : Object.values(asMap(labels)).join("\n");
  return /HostSNI\(`([a-z0-9-]+)\./.exec(text)?.[1];
}

/** `512m` and the like, in powers of 1024. */
function memoryOf(value: unknown): string | undefined {
  const [, number, unit] = /^(\d+)([kmg])b?$/i.exec(String(value ?? "")) ?? [];
  return unit && `${number}${{ k: "Ki", m: "Mi", g: "Gi" }[unit.toLowerCase()]}`;
}

function settingsOf(command: unknown): Record<string, string> {
  const words = Array.isArray(command) ? command.map(String) : String(command ?? "").split(/\s+/);
  const text = words.map((word) => word.replace(/^(-c|--)?(['"]?)(.*)\2$/, "$3"));
  return Object.fromEntries(
    text.flatMap((word) => {
      const [, name, value] = /^([a-z_][a-z0-9_.]*)=(.*)$/.exec(word) ?? [];
      return name ? [[name, (value ?? "").replace(/^(['"])(.*)\1$/, "$2")]] : [];
    }),
  );
}

/** `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?error}`; `$$` is a dollar. */
function interpolated(value: unknown, env: NodeJS.ProcessEnv): unknown {
  if (Array.isArray(value)) return value.map((item) => interpolated(item, env));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, interpolated(item, env)]));
  }
  if (typeof value !== "string") return value;
  return value.replace(
    /\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?)([-?])([^}]*))?\}|)/g,
    (_, dollar, plain, name, colon, kind, word) => {
      if (dollar) return "$";
      // What stands around it may be a password.
      if (!plain && !name) throw new Error("there is a $ that is not understood; a dollar is written $$");
      const found = env[plain ?? name];
      if (found !== undefined && (found !== "" || !colon)) return found;
      if (kind === "-") return word;
      throw new Error(`the variable ${plain ?? name} is not set: neither in .env nor in the environment`);
    },
  );
}

/** `NAME=value` a line; in quotes where it has spaces or a comment's sign. A file that is not there has none. */
function readEnv(path: string): NodeJS.ProcessEnv {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw error;
  }
  return Object.fromEntries(
    text.split(/\r?\n/).flatMap((line) => {
      const [, name, value = ""] = /^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*)$/.exec(line) ?? [];
      const [, , quoted] = /^(['"])(.*?)\1\s*(#.*)?$/.exec(value) ?? [];
      return name ? [[name, quoted ?? value.replace(/\s+#.*$/, "").trim()]] : [];
    }),
  );
}

function asMap(value: unknown): Map {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Map) : {};
}
