import { dirname, relative, resolve } from "node:path";
import type { BackupPlan } from "./backup";
import { findProblems } from "./check";
import { type Extension, parseExtension, versionsOf } from "./extensions";
import { initProblem } from "./init-scripts";
import { diskBudget, memoryBytes } from "./memory";
import { readPlainFile } from "./plain-file";
import { type PoolerPlan, poolerPlan } from "./pooler";
import { type Position, type Problem, TenantsFileError } from "./problems";
import { builtInDefaults, settingText, type TenantsFileContent, tenantsFileSchema } from "./schema";
import { readYaml, type YamlData } from "./yaml-data";

/** A tenant as tenants.yaml describes it, checked, with every default applied. */
export interface Tenant {
  /** The key in tenants.yaml: a lower-case DNS label of at most 48 characters. Also the database's name. */
  readonly id: string;
  /** The first label of the name that clients connect to, where the file says it; else it follows from the id. */
  readonly hostname: string | undefined;
  /** PostgreSQL major version. Default: 18. */
  readonly version: number;
  /** Variant of its image. Default: the version's image without a variant. */
  readonly image?: string;
  /** Extensions of its database. Default: none. */
  readonly extensions: readonly Extension[];
  /** Hard memory limit in bytes. Default: 512 MiB. */
  readonly memory: number;
  /** Hard limit of processor time in CPUs, at most two decimals. Default: 1. */
  readonly cpus: number;
  /** How many replicas its server has. Default: 0. */
  readonly replicas: number;
  /** Whether a commit waits for a replica. Default: with two replicas or more. */
  readonly sync: boolean;
  /** How many bytes its volume may take; undefined: any. Default: any. */
  readonly disk: number | undefined;
  /** Whether clients can connect. Default: true. */
  readonly access: boolean;
  /** Whether the server runs. Default: running. */
  readonly state: "running" | "stopped";
  /** Where TLS ends: at the proxy, or at the server. Default: terminate. */
  readonly tls: "terminate" | "passthrough";
  /** Addresses and ranges (CIDR) that clients may connect from; undefined: any. Default: any. */
  readonly allow: readonly string[] | undefined;
  /** How many connections one client address may have; 0: no limit. Default: it follows from max_connections. */
  readonly maxConnectionsPerClient: number | undefined;
  /** How its clients' connections are pooled. Default: they are not. */
  readonly pooler: PoolerPlan | undefined;
  /** How a new database is made, where the file says so. Default: as the image's cluster is. */
  readonly newDatabase: { readonly locale?: string; readonly encoding?: string; readonly icu?: string };
  /** SQL scripts for a new database, as the file names them: relative to its folder. Default: none. */
  readonly init: readonly string[];
  /** The same scripts as absolute paths. */
  readonly initFiles: readonly string[];
  /** Name of the Docker volume that the tenant's data came in. Default: one of the stack's own. */
  readonly volume?: string;
  /** Whose backups the tenant's data is first made from, and as of when (default: their end). Default: none. */
  readonly restoreFrom?: { readonly tenant: string; readonly at?: string };
  /** What differs from the stack's backups, that of `defaults` included. Default: nothing. */
  readonly backup: Readonly<Partial<BackupPlan>>;
  /** PostgreSQL settings, those of `defaults` included; true is "on", false "off". Default: none. */
  readonly settings: Readonly<Record<string, string>>;
  /** Whether it logs in as its server's superuser; else as a role of its id, which owns the database. Default: on. */
  readonly superuser: "on" | "off";
  /** Roles by name, those of `defaults` included. Default: none. */
  readonly roles: Readonly<Record<string, TenantRole>>;
  /** Raised by one for each rotation of the password. Default: 1. */
  readonly passwordVersion: number;
  /** What removing the entry does to the data. Default: retain. */
  readonly onRemove: "retain" | "delete";
  /**
   * Where the file says what, as `tenants.yaml:LINE:COLUMN`: the tenant itself under "", a field under its
   * name, a setting under `settings.NAME`, an extension under `extensions.NAME`, a part of `backup` or `pooler` under `backup.NAME`, a role under `roles.NAME`. What comes from `defaults` is found there, what is built in is
   * not found. Read it with {@link positionOf}. It changes when lines move: a resource that
   * has it must not take that for a change.
   */
  readonly positions: Readonly<Record<string, string>>;
}

/** A role of the tenant's that can log in. What is undefined is left as it is in a role that somebody made by hand. */
export interface TenantRole {
  /** What it may do in the tenant's database. Default: nothing. */
  readonly grants?: "readonly" | "readwrite" | "owner";
  /** How many sessions it may have; -1: no limit. */
  readonly connectionLimit?: number;
  /** Until when it may log in. */
  readonly validUntil?: string;
  /** Of its sessions; true is "on", false "off". */
  readonly settings: Readonly<Record<string, string>>;
  /** Other roles that it is a member of. */
  readonly inRoles: readonly string[];
  /** Raised by one for each rotation of its password. Default: 1. */
  readonly passwordVersion: number;
}

export interface ParseOptions {
  /** The file's name in messages. Default: `tenants.yaml`. */
  file?: string;
  /** The folder that init scripts are relative to. Default: the folder of `file`. */
  folder?: string;
  /** PostgreSQL's images by their keys in pgs:images: a major version, or one with a variant. Default: 18 only. */
  images?: readonly string[];
  /** Fields that the stack's platform does not have. Default: none. */
  missing?: MissingFields;
}

/** By field: what to do instead, and the one value that means the same there. */
export interface MissingFields {
  /** What the fields are missing on, such as Kubernetes. */
  readonly on: string;
  readonly fields: Readonly<Record<string, { readonly instead: string; readonly only?: unknown }>>;
}

/**
 * Reads tenants.yaml from disk.
 * @param path absolute, or relative to the working directory
 * @returns the tenants, in the order of the file
 * @throws TenantsFileError when the file cannot be read, or naming everything that is wrong with it
 */
export function readTenants(path: string, options: Pick<ParseOptions, "images" | "missing"> = {}): Tenant[] {
  const fromHere = relative("", path);
  const file = fromHere === "" || fromHere.startsWith("..") ? path : fromHere;
  return parseTenants(readText(path, file), { ...options, file, folder: dirname(resolve(path)) });
}

/**
 * Checks the text of a tenants.yaml. Of the disk it looks only at the init scripts.
 * @returns the tenants, in the order of the text
 * @throws TenantsFileError naming everything that is wrong
 */
export function parseTenants(text: string, options: ParseOptions = {}): Tenant[] {
  const { file = "tenants.yaml", images = [String(builtInDefaults.version)] } = options;
  const versions = versionsOf(images);
  const folder = resolve(options.folder ?? dirname(file));
  const schema = tenantsFileSchema({ versions, initProblem: (path) => initProblem(folder, path) });

  const yaml = readYaml(text);
  if (yaml.data === undefined && yaml.problems.length > 0) throw new TenantsFileError(file, yaml.problems);
  if (yaml.data === undefined || yaml.data === null) throw new TenantsFileError(file, [emptyFile]);

  const problems = [
    ...yaml.problems,
    ...findProblems(yaml, schema, images, options.missing).filter(isElsewhere(yaml.problems)),
  ];
  if (problems.length > 0) throw new TenantsFileError(file, problems);

  const content = yaml.data as TenantsFileContent;
  return Object.keys(content.tenants).map((id) => ({
    ...toTenant(id, content, folder),
    positions: positionsOf(id, content, yaml, file),
  }));
}

/**
 * Where the file says a field of a tenant, for later messages about it: `tenants.yaml:12:7`.
 * @param field a field's name, or `settings.NAME`, `extensions.NAME` or `backup.NAME`; where the file does not say it, the tenant itself is given
 */
export function positionOf(tenant: Pick<Tenant, "positions">, field = ""): string {
  const { positions } = tenant;
  return (Object.hasOwn(positions, field) ? positions[field] : positions[""]) ?? "";
}

/** What cannot be read is no proper value either; one message about a place is enough. */
function isElsewhere(others: readonly Problem[]) {
  const place = ({ line, column }: Problem) => `${line}:${column}`;
  const places = new Set(others.map(place));
  return (problem: Problem) => !places.has(place(problem));
}

const emptyFile: Problem = {
  line: 1,
  column: 1,
  path: "",
  message: "the file is empty; write `tenants: { acme: {} }` for one tenant, or `tenants: {}` for none",
};

function readText(path: string, file: string): string {
  try {
    return readPlainFile(path);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason =
      code === "ENOENT"
        ? `there is no such file (looked for ${resolve(path)}); create it, or name another with \`pulumi config set pgs:tenantsFile PATH\``
        : code === "EISDIR"
          ? "this is a folder; expected the file that lists the tenants"
          : `the file cannot be read: ${message}`;
    throw new TenantsFileError(file, [{ line: 1, column: 1, path: "", message: reason }]);
  }
}

function toTenant(id: string, content: TenantsFileContent, folder: string): Omit<Tenant, "positions"> {
  const own = content.tenants[id] ?? {};
  const fields = { ...builtInDefaults, ...content.defaults, ...own };
  const init = own.init ?? [];
  return {
    id,
    hostname: own.hostname,
    version: fields.version,
    image: fields.image,
    extensions: (fields.extensions ?? []).map(parseExtension),
    memory: memoryBytes(fields.memory),
    cpus: fields.cpus,
    disk: diskBudget(fields.disk),
    replicas: fields.replicas,
    sync: fields.sync === undefined ? fields.replicas >= 2 : fields.sync === "on",
    access: fields.access,
    state: fields.state,
    tls: fields.tls,
    allow: fields.allow,
    maxConnectionsPerClient: fields.maxConnectionsPerClient,
    pooler: poolerPlan(own.pooler, content.defaults?.pooler),
    newDatabase: {
      ...(fields.locale && { locale: fields.locale }),
      ...(fields.encoding && { encoding: fields.encoding }),
      ...(fields.icu && { icu: fields.icu }),
    },
    init,
    initFiles: init.map((path) => resolve(folder, path)),
    volume: own.volume,
    restoreFrom: own.restoreFrom,
    backup: { ...content.defaults?.backup, ...own.backup },
    settings: mapValues({ ...content.defaults?.settings, ...own.settings }, settingText),
    superuser: fields.superuser,
    roles: rolesOf(content.defaults?.roles ?? {}, own.roles ?? {}),
    passwordVersion: fields.passwordVersion,
    onRemove: fields.onRemove,
  };
}

type RoleEntries = NonNullable<NonNullable<TenantsFileContent["defaults"]>["roles"]>;

/** Field by field, and in `settings` name by name. */
function rolesOf(shared: RoleEntries, own: RoleEntries): Record<string, TenantRole> {
  return Object.fromEntries(
    Object.keys({ ...shared, ...own }).map((name) => {
      const [before, after] = [shared[name] ?? {}, own[name] ?? {}];
      const {
        inRoles = [],
        passwordVersion = builtInDefaults.passwordVersion,
        ...role
      } = { ...before, ...after };
      const settings = mapValues({ ...before.settings, ...after.settings }, settingText);
      return [name, { ...role, settings, inRoles: [...new Set(inRoles)], passwordVersion }];
    }),
  );
}

function positionsOf(id: string, content: TenantsFileContent, yaml: YamlData, file: string) {
  const format = ({ line, column }: Position) => `${file}:${line}:${column}`;
  const sources = [
    { path: ["defaults"], fields: content.defaults ?? {} },
    { path: ["tenants", id], fields: content.tenants[id] ?? {} },
  ];
  const positions: Record<string, string> = { "": format(yaml.keyPosition(["tenants", id])) };
  for (const { path, fields } of sources) {
    for (const field of Object.keys(fields)) {
      positions[field] = format(yaml.valuePosition([...path, field]));
    }
    for (const [index, text] of (fields.extensions ?? []).entries()) {
      const position = format(yaml.valuePosition([...path, "extensions", index]));
      positions[`extensions.${parseExtension(text).name}`] = position;
    }
    for (const group of ["settings", "backup", "pooler", "roles"] as const) {
      for (const name of Object.keys(fields[group] ?? {})) {
        positions[`${group}.${name}`] = format(yaml.valuePosition([...path, group, name]));
      }
    }
  }
  return positions;
}

function mapValues<From, To>(
  map: Readonly<Record<string, From>>,
  change: (value: From) => To,
): Record<string, To> {
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [key, change(value)]));
}
