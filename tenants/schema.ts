import { z } from "zod";
import { isRange } from "./addresses";
import { retentionPattern, schedulePattern } from "./backup";
import { extensionPattern, parseExtension } from "./extensions";
import { memoryBytes, memoryMeant, memoryPattern } from "./memory";
import { poolerDefaults } from "./pooler";
import { show } from "./problems";
import { mostPerClient } from "./sizing";

/** What a field is when neither the tenant nor `defaults` says it. */
export const builtInDefaults = {
  version: 18,
  memory: "512Mi",
  cpus: 1,
  replicas: 0,
  access: true,
  state: "running",
  tls: "terminate",
  superuser: "on",
  passwordVersion: 1,
  onRemove: "retain",
} as const;

/** What the schema cannot know by itself. */
export interface SchemaRules {
  /** The PostgreSQL major versions that may be used. Default: every one. */
  versions?: readonly number[];
  /** Says what is wrong with an init script's path, or undefined when it can be used. Default: not looked at. */
  initProblem?: (path: string) => string | undefined;
}

/**
 * The schema of tenants.yaml: it checks the file, and tenants.schema.json is generated from it. It only
 * checks; defaults are applied afterwards, as a tenant's come from `defaults` in the same file.
 */
export function tenantsFileSchema(rules: SchemaRules = {}) {
  const { hostname, init, volume, restoreFrom, ...shared } = tenantFields(rules);
  const tenant = strictMap(
    { ...shared, hostname, init, volume, restoreFrom },
    "a map of the tenant's fields, or {} for the defaults",
  );
  const defaults = strictMap(shared, "a map of fields that hold for every tenant");
  const file = {
    defaults: defaults.nullable().optional().meta({
      description:
        "Fields for every tenant that does not set them itself; all but init, hostname, volume and restoreFrom.",
    }),
    tenants: z
      .record(
        tenantId,
        tenant.nullable(),
        expected("a map from tenant id to fields; write {} for no tenants"),
      )
      .meta({ description: "The tenants: one PostgreSQL server with a database, volume and hostname each." }),
  };
  return z.strictObject(file, expected("a map with the keys defaults and tenants"));
}

export type TenantsFileContent = z.infer<ReturnType<typeof tenantsFileSchema>>;

/** The fields that a tenant may set: a field that is not here is an error in the file. */
function tenantFields({ versions, initProblem }: SchemaRules) {
  return {
    version: versionSchema(versions),
    image: imageSchema,
    memory: memorySchema,
    cpus: cpusSchema,
    disk: diskSchema,
    replicas: z
      .int(replicasError)
      .min(0, replicasError)
      .max(8, replicasError)
      .meta({
        description:
          "How many replicas the server has, from 0 to 8: one of them takes over when it is lost. On Kubernetes alone. Changed live. Default: 0.",
        examples: [2],
      }),
    sync: z.enum(["on", "off"], expected("on or off")).meta({
      description:
        "Whether a commit waits until a replica has it too. On Kubernetes alone. Changed live. Default: on with two replicas or more.",
      examples: ["on"],
    }),
    access: z.boolean(expected("a boolean: true or false")).meta({
      description:
        "Whether clients can connect. false takes the route away and ends the open sessions; the server runs on. Changed live.",
      default: builtInDefaults.access,
    }),
    state: z.enum(["running", "stopped"], expected("running or stopped")).meta({
      description:
        "stopped shuts the server down cleanly and takes its container and route away; volume, password and network stay.",
      default: builtInDefaults.state,
    }),
    tls: z.enum(["terminate", "passthrough"], expected("terminate or passthrough")).meta({
      description:
        "Where TLS ends: terminate - at the proxy; passthrough - at the server, with a certificate of its own from the stack's CA. Changed live.",
      default: builtInDefaults.tls,
    }),
    allow: allowSchema,
    maxConnectionsPerClient: z
      .int(perClientError)
      .min(0, perClientError)
      .max(mostPerClient, perClientError)
      .meta({
        description:
          "How many connections one client address may have at a time, logged in or not; more are closed. 0: no limit. Default: five fewer than max_connections; with tls passthrough, 1000 or more. Changed live.",
        examples: [200],
      }),
    pooler: poolerSchema,
    locale: localeSchema,
    encoding: z.enum(encodings, { error: encodingError }).meta({
      description:
        "Encoding of a new database, as PostgreSQL names it. Counts when the database is made; a later change is refused. Default: UTF8.",
      examples: ["UTF8"],
    }),
    icu: icuSchema,
    hostname: hostnameSchema,
    init: initSchema(initProblem),
    volume: volumeSchema,
    restoreFrom: restoreFromSchema,
    extensions: extensionsSchema,
    settings: settingsSchema,
    superuser: z.enum(["on", "off"], expected("on or off")).meta({
      description:
        "Whether the tenant logs in as postgres, its server's superuser. off: as a role named like the tenant, which owns the database and is no superuser. Changed live: the connection string changes, and sessions of the former role end.",
      default: builtInDefaults.superuser,
    }),
    roles: rolesSchema,
    passwordVersion: passwordVersionSchema("tenant"),
    backup: backupSchema,
    onRemove: z.enum(["retain", "delete"], expected("retain or delete")).meta({
      description:
        "What removing the entry does to the data: retain keeps the volume, delete deletes it for good. delete has to be applied while the tenant still exists.",
      default: builtInDefaults.onRemove,
    }),
  };
}

export const reservedIds: Readonly<Record<string, string>> = {
  postgres: "every PostgreSQL server already has a database of this name",
  template0: "every PostgreSQL server already has a database of this name",
  template1: "every PostgreSQL server already has a database of this name",
  proxy: "the proxy's own container has this name",
};

/** Two hyphens in a row are in the names of what is not a tenant's server (docker/names.ts). */
export const tenantIdPattern = /^(?=.{1,48}$)[a-z](-?[a-z0-9])*$/;

const tenantId = z
  .string()
  .regex(tenantIdPattern, {
    error: ({ input }) =>
      `a tenant id has lower-case letters, digits and single hyphens between them, at most 48 characters, a letter first${asLabel(input, tenantIdPattern)}`,
  })
  .refine((id) => !Object.hasOwn(reservedIds, id), {
    error: ({ input }) => `${input} cannot be a tenant id: ${reservedIds[String(input)]}; choose another`,
  })
  .meta({ not: { enum: Object.keys(reservedIds) } });

const hostnamePattern = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

const hostnameSchema = z
  .string(expected("a DNS label such as acme"))
  .regex(hostnamePattern, {
    error: ({ input }) =>
      `expected one DNS label: lower-case letters, digits and inner hyphens, at most 63 characters and no dots, got ${show(input)}${asLabel(input, hostnamePattern)}`,
  })
  .meta({
    description:
      "The first label of the name that clients connect to: HOSTNAME.DOMAIN. Default: the tenant id, with a random suffix where the stack says so. Unique in the file. Changed live.",
  });

const volumeError = expected(
  "the name of a Docker volume: letters, digits, dots, underscores and hyphens, a letter or digit first",
);

const volumeSchema = z
  .string(volumeError)
  .regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/, volumeError)
  .meta({
    description:
      "Name of a Docker volume that exists and holds the tenant's data, as `pgs import` writes it. Counts when the tenant is made; never deleted. Default: a volume of the stack's own.",
    examples: ["compose_acme-data"],
  });

function versionSchema(versions: readonly number[] | undefined) {
  const error = expected(
    versions
      ? `a PostgreSQL major version that has an image (${versions.join(", ")})`
      : "a PostgreSQL major version such as 18",
  );
  return z
    .int(error)
    .min(1, error)
    .refine((version) => versions?.includes(version) ?? true, error)
    .meta({
      description:
        "PostgreSQL major version, a whole number. Set when the data is first made: an existing tenant's data is never taken to another major version by an edit.",
      default: builtInDefaults.version,
    });
}

/** Behind a major version and a hyphen, it is a key of pgs:images. */
export const imageVariantPattern = /^[a-z0-9]+(-[a-z0-9]+)*$/;

const imageError = expected(
  "the variant of an image such as pgvector: lower-case letters, digits and inner hyphens",
);

const imageSchema = z
  .string(imageError)
  .max(40, imageError)
  .regex(imageVariantPattern, imageError)
  .meta({
    description:
      "Which of the images of the tenant's PostgreSQL version: pgvector is the one that pgs:images has as 18-pgvector. A change restarts the server once. Default: the one without a variant.",
    examples: ["pgvector"],
  });

const extensionError = expected("an extension such as vector, or one with its version such as vector@0.8.0");

const extensionsSchema = z
  .array(
    z.string(extensionError).regex(extensionPattern, extensionError),
    expected("a list of extensions, such as [vector, pg_trgm]"),
  )
  .superRefine((list, context) => {
    const names = list.map((text) => parseExtension(text).name);
    for (const [index, name] of names.entries()) {
      if (names.indexOf(name) === index) continue;
      context.addIssue({ code: "custom", path: [index], message: `${name} is in the list already` });
    }
  })
  .meta({
    description:
      "Extensions of the tenant's database, each as NAME, which is kept at the newest version of the image, or as NAME@VERSION. Libraries that one needs are loaded by one restart. One that is taken out is dropped unless something uses it. A tenant's list replaces that of defaults. Changed live. Default: none.",
    examples: [["vector", "pg_trgm@1.6"]],
  });

const memoryRange = { min: "128Mi", max: "4096Gi" };

const memorySchema = z
  .string({ error: memoryError })
  .regex(memoryPattern, { error: memoryError, abort: true })
  .refine((text) => memoryBytes(text) >= memoryBytes(memoryRange.min), {
    error: ({ input }) =>
      `PostgreSQL needs at least ${memoryRange.min} to start and to answer some clients, got ${show(input)}`,
  })
  .refine((text) => memoryBytes(text) <= memoryBytes(memoryRange.max), {
    error: ({ input }) => `expected at most ${memoryRange.max}, got ${show(input)}`,
  })
  .meta({
    description: `The server's memory: a hard limit, without swap. A whole number with the unit Ki, Mi or Gi (powers of 1024), from ${memoryRange.min} to ${memoryRange.max}. Changed live.`,
    default: builtInDefaults.memory,
    examples: ["256Mi", "1Gi"],
  });

function memoryError({ input }: { input?: unknown }): string {
  return sizeError("a whole number with the unit Ki, Mi or Gi, such as 512Mi", input);
}

function sizeError(what: string, input: unknown): string {
  const meant = memoryMeant(input);
  return `expected ${what}, got ${show(input)}${meant ? `; write ${meant}` : ""}`;
}

const diskRange = { min: "512Mi", max: "900000Gi" };

function diskError({ input }: { input?: unknown }): string {
  return sizeError("off, or a whole number with the unit Ki, Mi or Gi, such as 10Gi", input);
}

const diskSchema = z
  .string({ error: diskError })
  .regex(/^(off|[1-9][0-9]{0,11}(Ki|Mi|Gi))$/, { error: diskError, abort: true })
  .refine((text) => text === "off" || memoryBytes(text) >= memoryBytes(diskRange.min), {
    error: ({ input }) =>
      `a new server and its write-ahead log need most of ${diskRange.min}, the least that is allowed, got ${show(input)}`,
  })
  .refine((text) => text === "off" || memoryBytes(text) <= memoryBytes(diskRange.max), {
    error: ({ input }) => `expected at most ${diskRange.max}, got ${show(input)}`,
  })
  .meta({
    description: `How much room the tenant's volume may take, data and write-ahead log together. At 95 % of it the server's sessions become read-only by default; below 90 % they write again. A whole number with the unit Ki, Mi or Gi (powers of 1024), from ${diskRange.min} to ${diskRange.max}; off: no budget. Default: off. Changed live.`,
    examples: ["10Gi", "off"],
  });

const cpusError = expected("a number of CPUs from 0.05 to 512 with at most two decimals, such as 2 or 0.5");

const cpusSchema = z
  .number(cpusError)
  .min(0.05, cpusError)
  .max(512, cpusError)
  .refine((cpus) => Number(cpus.toFixed(2)) === cpus, cpusError)
  .meta({
    description:
      "The server's share of processor time, in CPUs: a hard limit, at most two decimals. Changed live.",
    default: builtInDefaults.cpus,
  });

const allowError = expected("a list of addresses or ranges such as [203.0.113.0/24, 2001:db8::/32]");

const allowSchema = z
  .array(
    z.string(allowError).refine(isRange, {
      error: ({ input }) =>
        `expected an address or a range (CIDR) of IPv4 or IPv6, such as 203.0.113.0/24, got ${show(input)}`,
    }),
    allowError,
  )
  .min(1, { error: "nobody could connect; write access: false to let no one in, or leave allow out" })
  .max(1000, { error: ({ input }) => `expected at most 1000 ranges, got ${(input as unknown[]).length}` })
  .meta({
    description:
      "Addresses and ranges (CIDR) that clients may connect from; where pgs:allow is set too, an address has to be in both. Default: any address. Changed live; where a range goes, the tenant's open sessions are ended.",
    examples: [["203.0.113.0/24", "2001:db8::/32"]],
  });

const replicasError = expected("a whole number of replicas from 0 to 8");

const perClientError = expected("a whole number of connections such as 200, or 0 for no limit");

const localeError = expected("a locale such as sv_SE.UTF-8 or C");

const localeSchema = z
  .string(localeError)
  .regex(/^[A-Za-z][A-Za-z0-9_.@-]{0,62}$/, localeError)
  .meta({
    description:
      "Locale of a new database, which its image must have (locale -a). Counts when the database is made; a later change is refused. Default: the image's, en_US.UTF-8.",
    examples: ["sv_SE.UTF-8", "C"],
  });

const icuError = expected("a locale as ICU names it, such as sv or de-DE-u-kn-true");

const icuSchema = z
  .string(icuError)
  .regex(/^[A-Za-z][A-Za-z0-9_@=;-]{0,62}$/, icuError)
  .meta({
    description:
      "Makes ICU sort a new database, by this locale; locale then counts for the rest. Counts when the database is made; a later change is refused. Default: none.",
    examples: ["sv", "und"],
  });

/** Those that a database can have. https://www.postgresql.org/docs/18/multibyte.html#MULTIBYTE-CHARSET-SUPPORTED */
export const encodings = [
  ...[
    "UTF8",
    "SQL_ASCII",
    "EUC_CN",
    "EUC_JIS_2004",
    "EUC_JP",
    "EUC_KR",
    "EUC_TW",
    "ISO_8859_5",
    "ISO_8859_6",
  ],
  ...[
    "ISO_8859_7",
    "ISO_8859_8",
    "KOI8R",
    "KOI8U",
    "LATIN1",
    "LATIN2",
    "LATIN3",
    "LATIN4",
    "LATIN5",
    "LATIN6",
  ],
  ...["LATIN7", "LATIN8", "LATIN9", "LATIN10", "MULE_INTERNAL", "WIN866", "WIN874", "WIN1250", "WIN1251"],
  ...["WIN1252", "WIN1253", "WIN1254", "WIN1255", "WIN1256", "WIN1257", "WIN1258"],
] as const;

function encodingError({ input }: { input?: unknown }): string {
  const plain = (name: string) => name.toUpperCase().replace(/[-_]/g, "");
  const meant = encodings.find((name) => typeof input === "string" && plain(name) === plain(input));
  return `expected an encoding of PostgreSQL's, such as UTF8 or LATIN1, got ${show(input)}${meant ? `; write ${meant}` : ""}`;
}

function initSchema(initProblem: SchemaRules["initProblem"]) {
  const path = z.string(expected("the path of an SQL script")).superRefine((script, context) => {
    const message = initProblem?.(script);
    if (message) context.addIssue({ code: "custom", message });
  });
  return z.array(path, expected("a list of paths of SQL scripts, such as [init/acme.sql]")).meta({
    description:
      "SQL scripts, also packed as .sql.gz, that run once, in this order, when the tenant's database is first made. Paths relative to the folder of tenants.yaml. Default: none.",
    examples: [["init/acme.sql"]],
  });
}

/** Backups that were set aside have the number of their system behind the tenant's id. */
const restoredTenantPattern = /^[a-z]([a-z0-9-]{0,67}[a-z0-9])?$/;

const restoredTenant = z.string(expected("a tenant's id such as acme")).regex(restoredTenantPattern, {
  error: ({ input }) => `expected a tenant's id, got ${show(input)}${asLabel(input, restoredTenantPattern)}`,
});

const restoreTimePattern = /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:\d{2})$/;

const restoreTimeError = expected("a time with its zone, such as 2026-11-23T10:15:00Z");

/** What is wrong with a time to restore to; undefined when nothing is. */
export function restoreTimeProblem(at: string): string | undefined {
  if (!restoreTimePattern.test(at) || Number.isNaN(Date.parse(at)))
    return `expected a time with its zone, such as 2026-11-23T10:15:00Z, got ${show(at)}`;
  return Date.parse(at) > Date.now() ? `expected a time in the past, got ${at}` : undefined;
}

const restoreFromSchema = z
  .strictObject(
    {
      tenant: restoredTenant.meta({
        description:
          "The tenant whose backups are restored: another one, which may have been removed, or this one, whose volume is lost.",
      }),
      at: z
        .string(restoreTimeError)
        .regex(restoreTimePattern, { ...restoreTimeError, abort: true })
        .refine((at) => !Number.isNaN(Date.parse(at)), restoreTimeError)
        .optional()
        .meta({
          description:
            "The second as of which the data is restored, with a time zone. Default: the end of what was backed up.",
          examples: ["2026-11-23T10:15:00Z"],
        }),
    },
    expected("a map with the keys tenant and at, such as {tenant: acme, at: 2026-11-23T10:15:00Z}"),
  )
  .meta({
    description:
      "Makes this tenant's data from another's backups. Counts only when its volume is first made; data that exists is never replaced. Default: none.",
  });

const scheduleError = expected("off, or a time of day (UTC) such as 02:30");
const retentionError = expected("a number of days such as 14d");

const backupSchema = strictMap(
  {
    schedule: z
      .string(scheduleError)
      .regex(schedulePattern, scheduleError)
      .meta({
        description:
          "Time of day (UTC) of the daily base backup, such as 02:30; off keeps no backups of the tenant. Default: the stack's (pgs:backups). Changed live.",
        examples: ["02:30", "off"],
      }),
    retention: z
      .string(retentionError)
      .regex(retentionPattern, retentionError)
      .meta({
        description:
          "For how many days back the tenant can be restored to any second. Default: the stack's (pgs:backups). Changed live.",
        examples: ["14d"],
      }),
  },
  "a map with the keys schedule and retention, such as {schedule: 02:30, retention: 14d}",
).meta({
  description:
    "How the tenant is backed up where that differs from the stack's backups. Default: as the stack has it.",
});

const poolSizeError = expected("a whole number of connections from 1 to 10000");

const poolerSchema = strictMap(
  {
    mode: z.enum(["transaction", "session", "off"], expected("transaction, session or off")).meta({
      description:
        "What a client holds a connection to the server for: a transaction, or its whole session. off: the tenant has no pooler. Changed live.",
      default: poolerDefaults.mode,
    }),
    size: z.int(poolSizeError).min(1, poolSizeError).max(10_000, poolSizeError).meta({
      description:
        "How many connections to the server the pooler has at most for each database; more clients wait. Changed live.",
      default: poolerDefaults.size,
    }),
  },
  "a map with the keys mode and size, such as {mode: transaction, size: 20}",
).meta({
  description:
    "A PgBouncer of the tenant's own, reached at HOSTNAME-pooler.DOMAIN; {} for one with the defaults. Default: none.",
  examples: [{ mode: "transaction", size: 20 }],
});

/** Settings by which a tenant would leave the place that the platform gives it. */
const refusedSetting =
  /^(data_directory|hba_file|ident_file|config_file|external_pid_file|listen_addresses|port|unix_socket_(directories|group|permissions)|ssl|ssl_.*|allow_alter_system|pgs\..*)$/;

const settingNamePattern = /^[a-z_][a-z0-9_.]{0,126}$/;

export const settingName = z
  .string()
  .regex(settingNamePattern, {
    error: ({ input }) =>
      `a setting's name has lower-case letters, digits, underscores and dots${lowerCased(input, settingNamePattern)}`,
  })
  .refine((name) => !refusedSetting.test(name), {
    error: ({ input }) =>
      `${input} cannot be set: files, addresses, port and TLS of a server belong to the platform; leave it out`,
  })
  .meta({ not: { pattern: refusedSetting.source } });

export const settingValue = z.union(
  [
    z
      .string()
      .max(1000, {
        error: ({ input }) => `a setting's value has at most 1000 characters, got ${String(input).length}`,
      })
      .regex(/^[^\0\r\n\ud800-\udfff]*$/u, {
        error: ({ input }) => `a setting's value is one line of text, got ${show(input)}`,
      }),
    z.number(),
    z.boolean(),
  ],
  expected("text, a number, true or false"),
);

function passwordVersionSchema(whose: string) {
  const error = expected("a whole number of at least 1");
  return z
    .int(error)
    .min(1, error)
    .meta({
      description: `Raise it by one to give the ${whose} a new random password. Changed live; open sessions go on.`,
      default: builtInDefaults.passwordVersion,
    });
}

/** As PostgreSQL writes it. */
export function settingText(value: string | number | boolean): string {
  if (typeof value === "boolean") return value ? "on" : "off";
  return String(value);
}

const roleNamePattern = /^[a-z_][a-z0-9_-]{0,62}$/;

/** PostgreSQL's own, those of pgs, and words that are no names. https://www.postgresql.org/docs/18/sql-createrole.html */
const reservedRole = /^(postgres|public|none|current_role|current_user|session_user|pg_.*|pgs_.*)$/;

const roleName = z
  .string()
  .regex(roleNamePattern, {
    error: ({ input }) =>
      `a role's name has lower-case letters, digits, underscores and hyphens, at most 63 characters, a letter or underscore first${lowerCased(input, roleNamePattern)}`,
  })
  .refine((name) => !reservedRole.test(name), {
    error: ({ input }) =>
      `${input} cannot be a role of the tenant's: the names postgres, pg_… and pgs_… are PostgreSQL's and pgs's own; choose another`,
  })
  .meta({ not: { pattern: reservedRole.source } });

const inRolesError = expected("a list of names of roles that exist, such as [pg_monitor]");
const connectionLimitError = expected("a whole number of connections, or -1 for no limit");
const validUntilError = expected("a time with its zone, such as 2027-01-31T00:00:00Z");

export const roleSchema = strictMap(
  {
    grants: z.enum(["readonly", "readwrite", "owner"], expected("readonly, readwrite or owner")).meta({
      description:
        "What the role may do in the tenant's database: readonly - read all tables; readwrite - change their rows too; owner - own the database, make and alter tables. Also for what postgres and owners make later. Default: nothing.",
    }),
    connectionLimit: z
      .int(connectionLimitError)
      .min(-1, connectionLimitError)
      .max(100_000, connectionLimitError)
      .meta({
        description:
          "How many sessions the role may have at a time; -1: no limit, the default. Changed live.",
        examples: [20],
      }),
    settings: z
      .record(
        settingName,
        settingValue,
        expected("a map from setting to value, such as {statement_timeout: 30s}"),
      )
      .meta({
        description: "PostgreSQL settings of the role's new sessions. Default: none.",
        examples: [{ statement_timeout: "30s" }],
      }),
    validUntil: z
      .string(validUntilError)
      .regex(restoreTimePattern, { ...validUntilError, abort: true })
      .refine((at) => !Number.isNaN(Date.parse(at)), validUntilError)
      .meta({
        description: "Until when the role may log in, with a time zone. Default: for ever.",
        examples: ["2027-01-31T00:00:00Z"],
      }),
    inRoles: z
      .array(
        z
          .string(inRolesError)
          .regex(/^[^\0\r\n]{1,63}$/, inRolesError)
          .refine((name) => !/^(postgres|pgs_.*)$/.test(name), {
            error: ({ input }) => `a role cannot be a member of ${show(input)}: use grants`,
          }),
        inRolesError,
      )
      .meta({
        description: "Other roles that it is a member of, such as pg_monitor. Default: none.",
        examples: [["pg_monitor"]],
      }),
    passwordVersion: passwordVersionSchema("role"),
  },
  "a map with the keys grants, connectionLimit, settings, validUntil, inRoles and passwordVersion",
);

const mostRoles = 100;

const rolesSchema = z
  .record(
    roleName,
    roleSchema.nullable(),
    expected("a map from role to its fields, such as {app: {grants: readwrite}}"),
  )
  .refine((roles) => Object.keys(roles).length <= mostRoles, {
    error: () => `a tenant has at most ${mostRoles} roles here; make others by SQL`,
  })
  .meta({
    description:
      "Roles that can log in and are never superusers, by name, beside those of defaults; each gets a random password. Removing one ends its sessions, and what it owns goes to the database's owner. Changed live. Default: none.",
    examples: [{ app: { grants: "readwrite", connectionLimit: 20 } }],
  });

const settingsSchema = z
  .record(settingName, settingValue, expected("a map from setting to value, such as {work_mem: 16MB}"))
  .meta({
    description:
      "PostgreSQL settings by name, over those of defaults; units as PostgreSQL writes them (16MB, 5min). Reloadable ones change live, others restart the server once. Default: none.",
    examples: [{ work_mem: "16MB", max_connections: 200 }],
  });

function strictMap<Fields extends z.ZodRawShape>(fields: Fields, what: string) {
  return z.strictObject(fields, expected(what)).partial();
}

/** An error that tells the operator what is allowed here and what the file has instead. */
function expected(what: string) {
  return { error: ({ input }: { input?: unknown }) => `expected ${what}, got ${show(input)}` };
}

/** The hint `; write acme-inc` when changing case and punctuation is all that `Acme_Inc` needs. */
function asLabel(input: unknown, pattern: RegExp): string {
  const label = String(input)
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
  return pattern.test(label) ? `; write ${label}` : "";
}

function lowerCased(input: unknown, pattern: RegExp): string {
  const name = String(input).toLowerCase();
  return pattern.test(name) ? `; write ${name}` : "";
}
