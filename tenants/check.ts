import { normalize } from "node:path";
import type { z } from "zod";
import { imageKey, versionsOf } from "./extensions";
import { memoryBytes, memoryPattern } from "./memory";
import type { MissingFields } from "./parse";
import { poolerPlan, poolerSuffix, type WrittenPooler } from "./pooler";
import { roleSettingProblem, settingNames, settingProblem, sizeInBytes } from "./postgres-settings";
import { formatKey, formatPath, type Problem, show } from "./problems";
import { readOnlySuffix } from "./read-only";
import {
  builtInDefaults,
  encodings,
  roleSchema,
  settingName,
  settingText,
  settingValue,
  type tenantsFileSchema,
} from "./schema";
import { largestDiskShare, largestSharedBuffers, sizedSettings } from "./sizing";
import { type Suggest, suggestions } from "./suggest";
import type { YamlData } from "./yaml-data";

type Schema = ReturnType<typeof tenantsFileSchema>;

/**
 * Everything that is wrong with the data of tenants.yaml. The rules about more than one field also look at
 * a file whose fields are wrong, so that one run names every problem.
 */
export function findProblems(
  yaml: YamlData,
  schema: Schema,
  images: readonly string[],
  missing?: MissingFields,
): Problem[] {
  const tenants = tenantEntries(yaml.data);
  const suggest = suggestions();
  return [
    ...schemaProblems(yaml, schema, suggest),
    ...repeatedInitScripts(yaml, tenants),
    ...sharedHostnames(yaml, tenants),
    ...poolerProblems(yaml, tenants),
    ...sharedVolumes(yaml, tenants),
    ...deletedVolumes(yaml, tenants),
    ...missingImages(yaml, tenants, images, suggest),
    ...settingProblems(yaml, tenants, suggest),
    ...restoreProblems(yaml, tenants),
    ...localeProblems(yaml, tenants),
    ...withoutSuperuserProblems(yaml, tenants),
    ...syncProblems(yaml, tenants),
    ...(missing ? missingFieldProblems(yaml, tenants, missing) : []),
  ];
}

/** Fields that the stack's platform does not have, at their keys. */
function missingFieldProblems(
  yaml: YamlData,
  tenants: [string, TenantEntry][],
  { on, fields }: MissingFields,
): Problem[] {
  const maps: [string[], TenantEntry][] = [
    [["defaults"], defaultsOf(yaml)],
    ...tenants.map(([id, entry]): [string[], TenantEntry] => [["tenants", id], entry]),
  ];
  return maps.flatMap(([at, entry]) =>
    Object.entries(entry).flatMap(([field, value]) => {
      const found = Object.hasOwn(fields, field) ? fields[field] : undefined;
      const fits = field === "disk" ? value !== "off" : found?.only !== undefined && value === found.only;
      if (!found || fits) return [];
      const path = [...at, field];
      return [
        {
          ...yaml.keyPosition(path),
          path: formatPath(path),
          message: `there is no ${field}${found.only === undefined && field !== "disk" ? "" : `: ${show(value)}`} on ${on}: ${found.instead}`,
        },
      ];
    }),
  );
}

/** A commit that waits for a replica that is not there would wait for ever. */
function syncProblems(yaml: YamlData, tenants: [string, TenantEntry][]): Problem[] {
  const defaults = defaultsOf(yaml);
  return tenants.flatMap(([id, entry]) => {
    const { sync, replicas = 0 } = { ...defaults, ...entry };
    if (sync !== "on" || replicas !== 0) return [];
    const own = ["tenants", id, "sync"];
    const path = valueAt(yaml.data, own) === undefined ? ["defaults", "sync"] : own;
    return [
      {
        ...yaml.valuePosition(path),
        path: formatPath(path),
        message: `sync: on needs a replica, and ${id} has none; write replicas: 1 or more, or leave sync out`,
      },
    ];
  });
}

function schemaProblems(yaml: YamlData, schema: Schema, suggest: Suggest): Problem[] {
  const problemsOf = (part: z.ZodType, value: unknown, at: readonly PropertyKey[]): Problem[] =>
    (part.safeParse(value).error?.issues ?? []).flatMap((issue) => {
      const path = [...at, ...issue.path];
      if (issue.code === "unrecognized_keys") {
        return issue.keys.map((key) => unknownField(yaml, schema, path, key, suggest));
      }
      if (issue.code === "invalid_key") {
        const key = { ...yaml.keyPosition(path), path: formatPath(path) };
        // Zod does not look at the value of a wrong key; the operator wants to hear of both at once.
        const valueSchema =
          path.at(-2) === "settings"
            ? settingValue
            : path.at(-2) === "roles"
              ? roleSchema.nullable()
              : schema.shape.tenants.valueType;
        return [
          ...issue.issues.map(({ message }) => ({ ...key, message })),
          ...problemsOf(valueSchema, valueAt(yaml.data, path), path),
        ];
      }
      return [{ ...yaml.valuePosition(path), path: formatPath(path), message: issue.message }];
    });
  return problemsOf(schema, yaml.data, []);
}

function unknownField(
  yaml: YamlData,
  schema: Schema,
  at: readonly PropertyKey[],
  key: string,
  suggest: Suggest,
): Problem {
  const path = [...at, key];
  const tenantShape = schema.shape.tenants.valueType.unwrap().shape;
  const tenantFields = Object.keys(tenantShape);
  const sharedFields = Object.keys(schema.shape.defaults.unwrap().unwrap().shape);
  // `tenants.ID.FIELD` or `defaults.FIELD`, when the key is in a map of its own.
  const depth = at[0] === "defaults" ? 1 : 2;
  const field = at[depth];
  const allowed =
    at.length === 0
      ? Object.keys(schema.shape)
      : field === "backup" || field === "pooler" || field === "restoreFrom"
        ? Object.keys(tenantShape[field].unwrap().shape)
        : field === "roles" && at.length === depth + 2
          ? Object.keys(roleSchema.shape)
          : at[0] === "defaults"
            ? sharedFields
            : tenantFields;
  const meant = suggest(key, allowed);
  const message =
    at.length === 1 && at[0] === "defaults" && tenantFields.includes(key)
      ? `${key} belongs to one tenant; write it there`
      : `there is no field ${formatKey(key)}${meant ? `; did you mean ${meant}?` : ""}`;
  return {
    ...yaml.keyPosition(path),
    path: formatPath(path),
    message: `${message} (allowed: ${allowed.join(", ")})`,
  };
}

function repeatedInitScripts(yaml: YamlData, tenants: [string, TenantEntry][]): Problem[] {
  return tenants.flatMap(([id, { init }]) => {
    if (!Array.isArray(init)) return [];
    const seen = new Set<string>();
    return init.flatMap((given, index) => {
      const script = typeof given === "string" ? normalize(given) : undefined;
      if (script === undefined || !seen.has(script)) {
        if (script !== undefined) seen.add(script);
        return [];
      }
      const path = ["tenants", id, "init", index];
      const message = "this script is in the list already; each runs once";
      return [{ ...yaml.valuePosition(path), path: formatPath(path), message }];
    });
  });
}

/** The name of a pooler, or of replicas, counts as their tenant's: else clients of one tenant would reach another. */
function sharedHostnames(yaml: YamlData, tenants: [string, TenantEntry][]): Problem[] {
  const owners = new Map<unknown, string>();
  const defaults = defaultsOf(yaml);
  const others = new Map<string, { of: string; what: string }>();
  for (const [id, entry] of tenants) {
    const { hostname = id, replicas = defaults.replicas } = entry;
    if (poolerOf(yaml, entry)) {
      others.set(`${hostname}${poolerSuffix}`, { of: id, what: "the pooler of " });
    }
    if (replicas) others.set(`${hostname}${readOnlySuffix}`, { of: id, what: "the replicas of " });
  }
  return tenants.flatMap(([id, { hostname = id }]) => {
    const other = others.get(String(hostname));
    const owner = owners.get(hostname) ?? other?.of;
    if (owner === undefined) owners.set(hostname, id);
    if (owner === undefined || typeof hostname !== "string") return [];
    const path = ["tenants", id, "hostname"];
    const written = valueAt(yaml.data, path) !== undefined;
    const { line } = yaml.keyPosition(["tenants", owner]);
    return [
      {
        ...(written ? yaml.valuePosition(path) : yaml.keyPosition(["tenants", id])),
        path: formatPath(path),
        message: `the hostname ${formatKey(hostname)} is that of ${other?.of === owner ? other.what : ""}${formatPath(["tenants", owner])} (line ${line}) already; each tenant needs its own`,
      },
    ];
  });
}

/** What a pooler asks of the tenant's other fields. */
function poolerProblems(yaml: YamlData, tenants: [string, TenantEntry][]): Problem[] {
  const defaults = defaultsOf(yaml);
  return tenants.flatMap(([id, entry]) => {
    const pooler = poolerOf(yaml, entry);
    if (!pooler) return [];
    const problem = (field: string, message: string) => {
      const at = ["tenants", id, ...field.split(".")];
      const written = valueAt(yaml.data, at) !== undefined;
      const position = written ? yaml.valuePosition(at) : yaml.keyPosition(["tenants", id]);
      return { ...position, path: formatPath(at), message };
    };
    const problems: Problem[] = [];
    const { hostname, tls = defaults.tls } = entry;
    if (id === "pgbouncer") {
      problems.push(problem("pooler", "PgBouncer keeps the database pgbouncer, this tenant's, for itself"));
    }
    if (tls === "passthrough") {
      problems.push(
        problem(
          "pooler",
          "a pooler needs tls: terminate, since TLS that is passed through ends at the server",
        ),
      );
    }
    if (typeof hostname === "string" && hostname.length + poolerSuffix.length > 63) {
      const most = 63 - poolerSuffix.length;
      problems.push(
        problem(
          "hostname",
          `the hostname of a tenant with a pooler has at most ${most} characters, as the pooler's is ${poolerSuffix} longer`,
        ),
      );
    }
    const memory = memoryOf(entry) ?? memoryOf(defaults) ?? memoryBytes(builtInDefaults.memory);
    const settings = { ...asMap(defaults.settings), ...asMap(entry.settings) };
    const connections = Number(settings.max_connections ?? sizedSettings(memory).max_connections);
    const most = connections - keptConnections;
    if (pooler.size > most) {
      problems.push(
        problem(
          "pooler.size",
          `the pooler may have at most ${most} connections, ${keptConnections} fewer than the server's max_connections of ${connections}; lower it, or raise settings.max_connections or memory`,
        ),
      );
    }
    return problems;
  });
}

/** Connections that a pooler leaves to others: clients without it, backups, superusers. */
const keptConnections = 5;

function poolerOf(yaml: YamlData, { pooler }: TenantEntry) {
  const shared = defaultsOf(yaml).pooler;
  return poolerPlan(
    isMap(pooler) ? (pooler as WrittenPooler) : undefined,
    isMap(shared) ? (shared as WrittenPooler) : undefined,
  );
}

/** Two servers on one volume would destroy its data. */
function sharedVolumes(yaml: YamlData, tenants: [string, TenantEntry][]): Problem[] {
  const owners = new Map<unknown, string>();
  return tenants.flatMap(([id, { volume }]) => {
    if (typeof volume !== "string") return [];
    const owner = owners.get(volume);
    if (owner === undefined) {
      owners.set(volume, id);
      return [];
    }
    const path = ["tenants", id, "volume"];
    const { line } = yaml.keyPosition(["tenants", owner]);
    const message = `the volume ${volume} is that of ${formatPath(["tenants", owner])} (line ${line}) already; each tenant has its own`;
    return [{ ...yaml.valuePosition(path), path: formatPath(path), message }];
  });
}

/** The stack did not make it, so the stack never deletes it. */
function deletedVolumes(yaml: YamlData, tenants: [string, TenantEntry][]): Problem[] {
  const byDefault = defaultsOf(yaml).onRemove;
  return tenants.flatMap(([id, { volume, onRemove = byDefault }]) => {
    if (volume === undefined || onRemove !== "delete") return [];
    const own = ["tenants", id, "onRemove"];
    const written = valueAt(yaml.data, own) !== undefined;
    const path = written ? own : ["tenants", id];
    return [
      {
        ...(written ? yaml.valuePosition(path) : yaml.keyPosition(path)),
        path: formatPath(own),
        message: `the volume ${show(volume)} came from elsewhere and is never deleted by an up; write onRemove: retain, and delete it with docker volume rm once its tenant is gone`,
      },
    ];
  });
}

/** A version that has images of variants alone, or the built-in one without any, needs more than its default. */
function missingImages(
  yaml: YamlData,
  tenants: [string, TenantEntry][],
  images: readonly string[],
  suggest: Suggest,
): Problem[] {
  const shared = valueAt(yaml.data, ["defaults"]);
  const defaults: TenantEntry = isMap(shared) ? shared : {};
  return tenants.flatMap(([id, entry]) => {
    const { version = builtInDefaults.version, image } = { ...defaults, ...entry };
    if (typeof version !== "number" || !(image === undefined || typeof image === "string")) return [];
    if (images.includes(imageKey(version, image))) return [];
    const ofVersion = images.filter((key) => Number.parseInt(key, 10) === version);
    const versionIsWritten = "version" in entry || "version" in defaults;
    // The schema says so of a version that is written.
    if (ofVersion.length === 0 && versionIsWritten) return [];
    const field = ofVersion.length === 0 ? "version" : "image";
    const written = [
      ["tenants", id, field],
      ["defaults", field],
    ].find((path) => valueAt(yaml.data, path) !== undefined);
    const path = written ?? ["tenants", id, field];
    const variants = ofVersion.filter((key) => key.includes("-")).map((key) => key.replace(/^\d+-/, ""));
    const message =
      field === "version"
        ? `PostgreSQL ${version}, the default, has no image here; write one of ${versionsOf(images).join(", ")}`
        : missingImage(imageKey(version, image), image && suggest(image, variants), variants);
    return [
      {
        ...(written ? yaml.valuePosition(written) : yaml.keyPosition(["tenants", id])),
        path: formatPath(path),
        message,
      },
    ];
  });
}

function missingImage(key: string, meant: string | undefined, variants: string[]): string {
  const hint = meant ? `did you mean ${meant}?` : `image may be ${variants.join(", ")}`;
  const others = meant || variants.length > 0 ? `; ${hint}` : "; leave image out";
  return `pgs:images has no image ${key}${others} (another one: pulumi config set --path 'pgs:images.${key}' …)`;
}

/**
 * Settings are those of a version, and some are bounded by memory or disk: a tenant's decide about its own settings
 * and about those that it has from `defaults`, whose are looked at by themselves as well.
 */
function settingProblems(yaml: YamlData, tenants: [string, TenantEntry][], suggest: Suggest): Problem[] {
  const defaults = defaultsOf(yaml);
  const places: { path: string[]; settings: Setting[]; of: TenantEntry; id?: string }[] = [
    { path: ["defaults"], settings: settingsIn(defaults), of: defaults },
    ...tenants.flatMap(([id, of]) => {
      const own = settingsIn(of);
      const names = new Set(own.map(({ path, name }) => formatPath([...path, name])));
      const inherited = settingsIn(defaults).filter(
        ({ path, name }) => !names.has(formatPath([...path, name])),
      );
      return [
        { path: ["tenants", id], settings: own, of },
        { path: ["defaults"], settings: inherited, of, id },
      ];
    }),
  ];
  const problems = places.flatMap(({ path, settings, of: entry, id }) => {
    const forWhom = id === undefined ? "" : ` (for tenant ${id})`;
    const version = [entry.version, defaults.version, builtInDefaults.version].find(
      Number.isInteger,
    ) as number;
    const memory = memoryOf(entry) ?? memoryOf(defaults) ?? memoryBytes(builtInDefaults.memory);
    const { disk: budget = defaults.disk } = entry;
    const disk = typeof budget === "string" && memoryPattern.test(budget) ? memoryBytes(budget) : undefined;
    return settings.flatMap(({ path: within, name, value }) => {
      if (!settingName.safeParse(name).success || !settingValue.safeParse(value).success) return [];
      const at = [...path, ...within, name];
      const text = settingText(value as string | number | boolean);
      const ofRole = within[0] === "roles";
      const problem =
        (ofRole ? roleSettingProblem(version, name) : undefined) ?? settingProblem(version, name, text);
      if (problem) {
        const unknown = problem.includes("has no setting");
        const meant = unknown ? suggest(name, settingNames(version)) : undefined;
        const position = unknown ? yaml.keyPosition(at) : yaml.valuePosition(at);
        return [
          {
            ...position,
            path: formatPath(at),
            message: `${problem}${meant ? `; did you mean ${meant}?` : ""}${forWhom}`,
          },
        ];
      }
      const most =
        name === "shared_buffers" && !ofRole
          ? { field: "memory", bytes: memory, share: largestSharedBuffers }
          : { field: "disk", bytes: disk, share: largestDiskShare[name] };
      if (most.bytes === undefined || most.share === undefined) return [];
      const bytes = /^-1$/.test(text) ? Infinity : sizeInBytes(version, name, text);
      if (bytes === undefined || bytes <= most.bytes * most.share) return [];
      const message = `${name} may be at most ${most.share * 100} % of the tenant's ${most.field}, got ${text}; raise ${most.field} or lower it${forWhom}`;
      return [{ ...yaml.valuePosition(at), path: formatPath(at), message }];
    });
  });
  // A problem in `defaults` is reported once, however many tenants inherit it.
  const told = new Set<string>();
  return problems.filter(({ path }) => !told.has(path) && told.add(path));
}

interface Setting {
  /** Within the entry. */
  path: string[];
  name: string;
  value: unknown;
}

/** An entry's own settings, and those of its roles. */
function settingsIn(entry: TenantEntry): Setting[] {
  const roles = isMap(entry.roles) ? Object.entries(entry.roles) : [];
  const maps: [string[], unknown][] = [
    [["settings"], entry.settings],
    ...roles.map(([role, fields]): [string[], unknown] => [
      ["roles", role, "settings"],
      isMap(fields) ? fields.settings : undefined,
    ]),
  ];
  return maps.flatMap(([path, settings]) =>
    isMap(settings) ? Object.entries(settings).map(([name, value]) => ({ path, name, value })) : [],
  );
}

function restoreProblems(yaml: YamlData, tenants: [string, TenantEntry][]): Problem[] {
  return tenants.flatMap(([id, { restoreFrom, init, volume }]) => {
    if (!isMap(restoreFrom)) return [];
    const problem = (field: string, message: string) => {
      const path = ["tenants", id, ...field.split(".")];
      return { ...yaml.valuePosition(path), path: formatPath(path), message };
    };
    const problems: Problem[] = [];
    if (typeof restoreFrom.at === "string" && Date.parse(restoreFrom.at) > Date.now()) {
      problems.push(problem("restoreFrom.at", `expected a time in the past, got ${restoreFrom.at}`));
    }
    // From its own backups, as on a new host, it is the same tenant with all that its entry says.
    if (restoreFrom.tenant === id) return problems;
    if (volume !== undefined) {
      problems.push(
        problem(
          "volume",
          "this volume came with its data, and a restore makes new data; leave one of the two out",
        ),
      );
    }
    if (Array.isArray(init) && init.length > 0) {
      problems.push(
        problem("init", "init scripts are for a new database, and this one is restored; leave init out"),
      );
    }
    return problems;
  });
}

function localeProblems(yaml: YamlData, tenants: [string, TenantEntry][]): Problem[] {
  const defaults = defaultsOf(yaml);
  return tenants.flatMap(([id, entry]) => {
    const { encoding, locale } = { ...builtInDefaults, ...defaults, ...entry } as TenantEntry;
    const problem = (field: string, message: string) => {
      const own = ["tenants", id, field];
      const path = valueAt(yaml.data, own) === undefined ? ["defaults", field] : own;
      return { ...yaml.valuePosition(path), path: formatPath(path), message };
    };
    return [
      ...(encodings.some((known) => known === encoding) && encoding !== "UTF8" && locale === undefined
        ? [
            problem(
              "encoding",
              `${encoding} needs a locale of the same encoding beside it; write locale: C, or one such as sv_SE.ISO-8859-1`,
            ),
          ]
        : []),
    ];
  });
}

/** Groups whose members can become a superuser. https://www.postgresql.org/docs/18/predefined-roles.html */
const powerfulGroup = /^pg_(execute_server_program|(read|write)_server_files)$/;

/** What `superuser: off` asks of the tenant's roles. */
function withoutSuperuserProblems(yaml: YamlData, tenants: [string, TenantEntry][]): Problem[] {
  const defaults = defaultsOf(yaml);
  return tenants.flatMap(([id, entry]) => {
    const { superuser = defaults.superuser } = entry;
    if (superuser !== "off") return [];
    return [
      { at: ["defaults"], roles: asMap(defaults.roles) },
      { at: ["tenants", id], roles: asMap(entry.roles) },
    ].flatMap(({ at, roles }) =>
      Object.entries(roles).flatMap(([name, role]) => {
        const path = [...at, "roles", name];
        const own =
          name === id
            ? [
                {
                  ...yaml.keyPosition(path),
                  path: formatPath(path),
                  message: `with superuser: off, ${id} itself logs in as a role of this name; choose another`,
                },
              ]
            : [];
        const { inRoles } = asMap(role);
        const groups = (Array.isArray(inRoles) ? inRoles : []).flatMap((group, index) => {
          if (typeof group !== "string" || !powerfulGroup.test(group)) return [];
          const inPath = [...path, "inRoles", index];
          const message = `members of ${group} can become superusers, and superuser is off for ${id}; take it out`;
          return [{ ...yaml.valuePosition(inPath), path: formatPath(inPath), message }];
        });
        return [...own, ...groups];
      }),
    );
  });
}

function memoryOf({ memory }: TenantEntry): number | undefined {
  return typeof memory === "string" && memoryPattern.test(memory) ? memoryBytes(memory) : undefined;
}

type TenantEntry = Readonly<Record<string, unknown>>;

/** The tenants of a file that may be wrong in any way. */
function tenantEntries(data: unknown): [string, TenantEntry][] {
  const tenants = valueAt(data, ["tenants"]);
  return Object.entries(asMap(tenants)).map(([id, entry]) => [id, asMap(entry)]);
}

function defaultsOf(yaml: YamlData): TenantEntry {
  return asMap(valueAt(yaml.data, ["defaults"]));
}

function valueAt(data: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === "object" && value !== null && Object.hasOwn(value, key)
        ? (value as Record<PropertyKey, unknown>)[key]
        : undefined,
    data,
  );
}

function asMap(value: unknown): TenantEntry {
  return isMap(value) ? value : {};
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
