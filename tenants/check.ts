import { normalize } from "node:path";
import type { z } from "zod";
import { formatKey, formatPath, type Problem } from "./problems";
import { builtInDefaults, settingValue, type tenantsFileSchema } from "./schema";
import { nearest } from "./suggest";
import type { YamlData } from "./yaml-data";

type Schema = ReturnType<typeof tenantsFileSchema>;

/**
 * Everything that is wrong with the data of tenants.yaml. The rules about more than one field also look at
 * a file whose fields are wrong, so that one run names every problem.
 */
export function findProblems(yaml: YamlData, schema: Schema, versions: readonly number[]): Problem[] {
  const tenants = tenantEntries(yaml.data);
  return [
    ...schemaProblems(yaml, schema),
    ...repeatedInitScripts(yaml, tenants),
    ...sharedHostnames(yaml, tenants),
    ...unavailableDefaultVersion(yaml, tenants, versions),
  ];
}

function schemaProblems(yaml: YamlData, schema: Schema): Problem[] {
  const problemsOf = (part: z.ZodType, value: unknown, at: readonly PropertyKey[]): Problem[] =>
    (part.safeParse(value).error?.issues ?? []).flatMap((issue) => {
      const path = [...at, ...issue.path];
      if (issue.code === "unrecognized_keys") {
        return issue.keys.map((key) => unknownField(yaml, schema, path, key));
      }
      if (issue.code === "invalid_key") {
        const key = { ...yaml.keyPosition(path), path: formatPath(path) };
        // Zod does not look at the value of a wrong key; the operator wants to hear of both at once.
        const valueSchema = path.at(-2) === "settings" ? settingValue : schema.shape.tenants.valueType;
        return [
          ...issue.issues.map(({ message }) => ({ ...key, message })),
          ...problemsOf(valueSchema, valueAt(yaml.data, path), path),
        ];
      }
      return [{ ...yaml.valuePosition(path), path: formatPath(path), message: issue.message }];
    });
  return problemsOf(schema, yaml.data, []);
}

function unknownField(yaml: YamlData, schema: Schema, at: readonly PropertyKey[], key: string): Problem {
  const path = [...at, key];
  const tenantFields = Object.keys(schema.shape.tenants.valueType.unwrap().shape);
  const sharedFields = Object.keys(schema.shape.defaults.unwrap().unwrap().shape);
  const allowed =
    at.length === 0 ? Object.keys(schema.shape) : at[0] === "defaults" ? sharedFields : tenantFields;
  const meant = nearest(key, allowed);
  const message =
    at[0] === "defaults" && tenantFields.includes(key)
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
    const scripts = init.map((script) => (typeof script === "string" ? normalize(script) : script));
    return scripts.flatMap((script, index) => {
      if (typeof script !== "string" || scripts.indexOf(script) === index) return [];
      const path = ["tenants", id, "init", index];
      const message = "this script is in the list already; each runs once";
      return [{ ...yaml.valuePosition(path), path: formatPath(path), message }];
    });
  });
}

function sharedHostnames(yaml: YamlData, tenants: [string, TenantEntry][]): Problem[] {
  const owners = new Map<unknown, string>();
  return tenants.flatMap(([id, { hostname = id }]) => {
    const owner = owners.get(hostname);
    if (owner === undefined) owners.set(hostname, id);
    if (owner === undefined || typeof hostname !== "string") return [];
    const path = ["tenants", id, "hostname"];
    const written = valueAt(yaml.data, path) !== undefined;
    const { line } = yaml.keyPosition(["tenants", owner]);
    return [
      {
        ...(written ? yaml.valuePosition(path) : yaml.keyPosition(["tenants", id])),
        path: formatPath(path),
        message: `the hostname ${formatKey(hostname)} is that of ${formatPath(["tenants", owner])} (line ${line}) already; each tenant needs its own`,
      },
    ];
  });
}

/** When the built-in version has no image, a tenant without a version of its own cannot be made. */
function unavailableDefaultVersion(
  yaml: YamlData,
  tenants: [string, TenantEntry][],
  versions: readonly number[],
): Problem[] {
  if (versions.includes(builtInDefaults.version)) return [];
  if (valueAt(yaml.data, ["defaults", "version"]) !== undefined) return [];
  return tenants
    .filter(([, { version }]) => version === undefined)
    .map(([id]) => ({
      ...yaml.keyPosition(["tenants", id]),
      path: formatPath(["tenants", id, "version"]),
      message: `PostgreSQL ${builtInDefaults.version}, the default, has no image here; write one of ${versions.join(", ")}`,
    }));
}

type TenantEntry = Readonly<Record<string, unknown>>;

/** The tenants of a file that may be wrong in any way. */
function tenantEntries(data: unknown): [string, TenantEntry][] {
  const tenants = valueAt(data, ["tenants"]);
  return isMap(tenants) ? Object.entries(tenants).map(([id, entry]) => [id, isMap(entry) ? entry : {}]) : [];
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

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
