import { isDeepStrictEqual } from "node:util";
import { formatPath } from "../tenants/problems";
import { nearest } from "../tenants/suggest";
import { missingKeys, platformNames } from "./platforms";
import { type Configuration, configurationSchema, defaultKubernetes, secretKeys } from "./schema";

/** A stack's configuration, checked, with every default applied. */
export interface Settings
  extends Pick<
    Configuration,
    | "platform"
    | "domain"
    | "port"
    | "tenantsFile"
    | "prefix"
    | "tenantSubnets"
    | "isolation"
    | "allow"
    | "ipv6Subnet"
    | "hostnameSuffix"
    | "certificate"
    | "acme"
    | "certificateDays"
    | "diskReserve"
  > {
  proxyImage: string;
  /** Barman, with the programs of the newest PostgreSQL that a tenant runs. */
  barmanImage: string;
  /** PgBouncer. */
  poolerImage: string;
  /** By PostgreSQL major version, such as 18, or one with a variant, such as 18-pgvector. */
  postgresImages: Map<string, string>;
  /** How tenants are backed up that say nothing else. */
  backups: { schedule: string; retention: string };
  /** How the stack is watched; undefined when it is not. */
  monitoring?: Configuration["monitoring"];
  monitoringImages: Record<"prometheus" | "exporter" | "alertmanager" | "grafana", string>;
  /** Secret: what those ask for that alerts are sent to. */
  alertCredentials: Configuration["alertCredentials"];
  /** Where backups are copied to, off the host; undefined when they are not. */
  backupDestination?: BackupDestination;
  /** Secret: the operator's own passwords by tenant id, and of its roles by ID/ROLE. */
  passwords: Record<string, string>;
  /** Secret: what the DNS provider asks for, by the names of environment variables. */
  acmeCredentials: Record<string, string>;
  /** The Docker provider's own key; undefined means its default. */
  dockerHost?: string;
  /** The cluster; undefined on Docker. */
  kubernetes?: KubernetesSettings;
}

/** The cluster that tenants run on. */
export type KubernetesSettings = Omit<NonNullable<Configuration["kubernetes"]>, "images">;

/** How the proxy gets its certificate from an ACME server by itself. */
export type AcmeSettings = NonNullable<Configuration["acme"]>;

export interface BackupDestination {
  /** s3://BUCKET/PATH */
  destination: string;
  /** URL of the S3 server. Default: that of AWS. */
  endpoint?: string;
  /** Default: us-east-1. */
  region?: string;
  /** What the S3 server encrypts with; `off`: it is not asked to. */
  encryption: string;
  /** Secret. Empty when secrets are left out. */
  accessKeyId: string;
  /** Secret. Empty when secrets are left out. */
  secretAccessKey: string;
}

/** A wrong configuration: the message lists every problem, one a line, and no secret. */
export class ConfigurationError extends Error {
  override readonly name = "ConfigurationError";
}

export interface CheckOptions {
  /** Keys such as `pgs:domain` that are secrets in this stack: messages do not show their values. */
  secrets?: readonly string[];
  /** Neither read nor check passwords and credentials. */
  withoutSecrets?: boolean;
}

/**
 * Checks a stack's configuration and applies the defaults.
 * @param raw values by key (`pgs:port`, `docker:host`), as Pulumi hands them over: text, JSON text or objects
 * @throws ConfigurationError that lists every problem
 */
export function checkedSettings(
  raw: Readonly<Record<string, unknown>>,
  options: CheckOptions = {},
): Settings {
  const given = new Map<string, unknown>();
  for (const [name, value] of Object.entries(raw)) {
    const key = /^pgs:(.+)$/s.exec(name)?.[1];
    if (key === undefined || value === null || value === undefined) continue;
    if (options.withoutSecrets && isSecretKey(key)) continue;
    given.set(key, value);
  }
  const result = configurationSchema.safeParse(Object.fromEntries(given), { reportInput: true });
  const problems = [
    ...(result.error?.issues ?? []).flatMap((issue) => issueProblems(issue, options)),
    ...relationProblems(given, options),
  ];
  if (!result.success || problems.length > 0) throw new ConfigurationError(problems.join("\n"));
  return settingsOf(result.data, raw["docker:host"]);
}

function settingsOf(configuration: Configuration, dockerHost: unknown): Settings {
  const { images, backups, backupCredentials, monitoring, kubernetes: given, ...others } = configuration;
  const onKubernetes = others.platform === "kubernetes" ? (given ?? defaultKubernetes) : undefined;
  const { images: operandImages, ...kubernetes } = onKubernetes ?? { images: undefined };
  const { schedule, retention, destination, ...server } = backups;
  const { accessKeyId = "", secretAccessKey = "" } = backupCredentials ?? {};
  return {
    ...others,
    proxyImage: images.proxy as string,
    barmanImage: images.barman as string,
    poolerImage: (operandImages ?? images).pooler as string,
    postgresImages: new Map(
      Object.entries<string>(operandImages ?? images).filter(([key]) => /^\d/.test(key)),
    ),
    backups: { schedule, retention },
    monitoring: monitoring.enabled ? monitoring : undefined,
    monitoringImages: {
      prometheus: images.prometheus as string,
      exporter: images.exporter as string,
      alertmanager: images.alertmanager as string,
      grafana: images.grafana as string,
    },
    backupDestination:
      destination === undefined ? undefined : { destination, ...server, accessKeyId, secretAccessKey },
    dockerHost: typeof dockerHost === "string" ? dockerHost : undefined,
    ...(onKubernetes && { kubernetes: kubernetes as KubernetesSettings }),
  };
}

type Issue = NonNullable<ReturnType<typeof configurationSchema.safeParse>["error"]>["issues"][number];

function issueProblems(issue: Issue, options: CheckOptions): string[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => unknownKey([...issue.path, key]));
  }
  if (issue.code === "invalid_key") {
    return issue.issues.map(({ message }) => problemAt(issue.path, message));
  }
  const top = String(issue.path[0]);
  const hidden = isSecretKey(top) || options.secrets?.includes(`pgs:${top}`);
  const got = hidden || issue.input === undefined ? "" : `, got ${shown(issue.input)}`;
  return [problemAt(issue.path, `${issue.message}${got}`)];
}

function unknownKey(path: readonly PropertyKey[]): string {
  const key = String(path.at(-1));
  const allowed = keysBeside(path);
  const meant = nearest(key, allowed);
  const message = `there is no such key${meant ? `; did you mean ${meant}?` : ""}; allowed: ${allowed.join(", ")}`;
  return `${address(path)}: ${message} (pulumi config rm --path '${address(path)}')`;
}

function keysBeside(path: readonly PropertyKey[]): string[] {
  const { shape } = configurationSchema;
  if (path.length === 1) return Object.keys(shape);
  const monitoring = shape.monitoring.unwrap().out.shape;
  const alerts = monitoring.alerts.unwrap().out.shape;
  const maps: Record<string, object> = {
    acme: shape.acme.unwrap().out.shape,
    backups: shape.backups.unwrap().out.shape,
    monitoring,
    "monitoring.alerts": alerts,
    "monitoring.alerts.email": alerts.email.unwrap().out.shape,
    alertCredentials: shape.alertCredentials.unwrap().out.shape,
    certificate: shape.certificate.unwrap().out.shape,
    kubernetes: shape.kubernetes.unwrap().out.shape,
    backupCredentials: shape.backupCredentials.unwrap().out.shape,
  };
  return Object.keys(maps[path.slice(0, -1).join(".")] ?? {});
}

/**
 * Keys that the stack's platform does not have. Pulumi hands over defaults like any value (Pulumi.yaml), so a key at its
 * default is none that somebody set.
 */
function platformProblems(given: ReadonlyMap<string, unknown>): string[] {
  const { platform } = configurationSchema
    .pick({ platform: true })
    .catch({ platform: "docker" })
    .parse({
      platform: given.get("platform") ?? "docker",
    });
  const defaults: Readonly<Record<string, unknown>> = configurationSchema.parse({});
  const problems = Object.entries(missingKeys[platform]).flatMap(([key, { instead }]) => {
    if (!given.has(key)) return [];
    const { shape } = configurationSchema;
    const value = shape[key as keyof typeof shape].safeParse(given.get(key));
    if (value.success && isDeepStrictEqual(value.data, defaults[key])) return [];
    const remove = `pulumi config rm '${address([key])}'`;
    return [`${address([key])}: ${platformNames[platform]} has no such key: ${instead} (${remove})`];
  });
  const { schedule, destination } = mapOf(given.get("backups"));
  if (platform === "kubernetes" && schedule !== "off" && destination === undefined) {
    const message =
      "backups on Kubernetes go to a bucket: expected one, or pgs:backups.schedule off, so that nobody counts on them";
    problems.push(problemAt(["backups", "destination"], message));
  }
  if (platform === "kubernetes") problems.push(...portProblems(given), ...imageProblems(given));
  return problems;
}

/** On a cluster, the proxy's is the only one in use; the servers' are those of pgs:kubernetes.images. */
function imageProblems(given: ReadonlyMap<string, unknown>): string[] {
  const defaults: Readonly<Record<string, unknown>> = configurationSchema.parse({}).images;
  return Object.entries(mapOf(given.get("images")))
    .filter(([key, image]) => key !== "proxy" && image !== defaults[key])
    .map(([key]) => {
      const instead = /^\d|^pooler$/.test(key)
        ? "it is one of pgs:kubernetes.images there"
        : "nothing uses it";
      const at = address(["images", key]);
      return `${at}: Kubernetes has no such key: ${instead} (pulumi config rm --path '${at}')`;
    });
}

/** https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport */
function portProblems(given: ReadonlyMap<string, unknown>): string[] {
  const { exposure } = mapOf(given.get("kubernetes"));
  const port = Number(given.get("port") ?? 5432);
  if (exposure !== "NodePort" || (port >= 30_000 && port <= 32_767)) return [];
  return [
    problemAt(
      ["port"],
      `expected a port from 30000 to 32767 with pgs:kubernetes.exposure NodePort, got ${port}`,
    ),
  ];
}

/** What the receivers of alerts ask for. */
function credentialProblems(given: ReadonlyMap<string, unknown>): string[] {
  const { alerts } = mapOf(given.get("monitoring"));
  const { slack, email } = mapOf(alerts);
  const credentials = Object.keys(mapOf(given.get("alertCredentials")));
  const needed = [
    ...(slack === undefined ? [] : [["slackUrl", "pgs:monitoring.alerts.slack"] as const]),
    ...(mapOf(email).username === undefined
      ? []
      : [["smtpPassword", "pgs:monitoring.alerts.email.username"] as const]),
  ];
  return needed
    .filter(([name]) => !credentials.includes(name))
    .map(([name, key]) => problemAt(["alertCredentials", name], `expected the secret for ${key}`));
}

function mapOf(value: unknown): Record<string, unknown> {
  const found = typeof value === "string" ? parsed(value) : value;
  return typeof found === "object" && found !== null ? (found as Record<string, unknown>) : {};
}

/** The rules about more than one key, which also look at a configuration whose keys are wrong. */
function relationProblems(given: ReadonlyMap<string, unknown>, options: CheckOptions): string[] {
  const problems: string[] = [];
  if (given.has("acme") && given.has("certificate")) {
    problems.push(problemAt(["acme"], "expected only one of pgs:acme and pgs:certificate"));
  }
  const backups = given.get("backups");
  const keys = Object.keys(typeof backups === "string" ? parsed(backups) : (backups ?? {}));
  const ofServer = ["endpoint", "region", "encryption"].find((key) => keys.includes(key));
  if (keys.includes("destination")) {
    if (!options.withoutSecrets && !given.has("backupCredentials")) {
      problems.push(
        problemAt(
          ["backupCredentials", "accessKeyId"],
          "expected the credentials for pgs:backups.destination",
        ),
      );
    }
  } else if (ofServer !== undefined) {
    problems.push(problemAt(["backups", ofServer], "expected backups.destination beside it"));
  }
  problems.push(...platformProblems(given));
  if (!options.withoutSecrets) problems.push(...credentialProblems(given));
  return problems;
}

function parsed(json: string): object {
  try {
    return Object(JSON.parse(json));
  } catch {
    return {};
  }
}

function problemAt(path: readonly PropertyKey[], message: string): string {
  const secret = isSecretKey(String(path[0])) ? "--secret " : "";
  return `${address(path)}: ${message} (pulumi config set ${secret}--path '${address(path)}' …)`;
}

function address(path: readonly PropertyKey[]): string {
  return `pgs:${formatPath(path)}`;
}

function isSecretKey(key: string): boolean {
  return (secretKeys as readonly string[]).includes(key);
}

/** A value as it may appear in a message: on one line, and nothing that commands a terminal. */
function shown(value: unknown): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a map";
  const text = String(value);
  if (/^[\x21-\x7e]{1,200}$/.test(text)) return text;
  const short = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  return JSON.stringify(short).replace(
    /[\p{Cc}\u2028\u2029]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
