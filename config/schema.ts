import { isIP, isIPv4 } from "node:net";
import { z } from "zod";
import { isRange } from "../tenants/addresses";
import { retentionPattern, schedulePattern } from "../tenants/backup";
import { memoryBytes, memoryPattern } from "../tenants/memory";

/** `pulumi config set --path` makes a number or a boolean of text that looks like one. */
function asText(value: unknown): unknown {
  return typeof value === "number" || typeof value === "boolean" ? String(value) : value;
}

/** The program receives an object as JSON text. */
function fromJson(value: unknown): unknown {
  if (typeof value !== "string") return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

const controlCharacters = /[\p{Cc}\u2028\u2029]/u;

function text(allowed: string, fits: (value: string) => boolean = (value) => value !== "") {
  const error = `expected ${allowed}`;
  return z.preprocess(
    asText,
    z.string(error).refine((value) => fits(value) && !controlCharacters.test(value), error),
  );
}

function wholeNumber(what: string, min: number, max: number) {
  const error = `expected ${what} from ${min} to ${max}`;
  return z.preprocess(
    (value) => (typeof value === "string" && /^\d{1,9}$/.test(value) ? Number(value) : value),
    z.int(error).min(min, error).max(max, error),
  );
}

function oneOf<const Values extends readonly [string, string, ...string[]]>(values: Values) {
  const last = values[values.length - 1];
  return z.enum(values, `expected ${values.slice(0, -1).join(", ")} or ${last}`);
}

function object<Shape extends z.ZodRawShape>(shape: Shape, what: string) {
  return z.preprocess(fromJson, z.strictObject(shape, `expected ${what}`));
}

const defaultImages: Readonly<Record<string, string>> = {
  proxy: "traefik:v3.7.15",
  18: "postgres:18.6-bookworm",
  barman: "pgs-barman:3.19.1-18.6-bookworm-23",
  pooler: "pgs-pgbouncer:1.24.1-trixie-1",
  prometheus: "prom/prometheus:v3.5.3",
  exporter: "quay.io/prometheuscommunity/postgres-exporter:v0.19.1",
  alertmanager: "prom/alertmanager:v0.33.1",
  grafana: "grafana/grafana:12.2.0",
};

/** An image that no registry moves: by digest, or by a tag with a minor version. */
const pinnedImage = z.string().regex(/^[a-z0-9][\w.:/-]*(:v?\d+\.\d+[\w.-]*|@sha256:[0-9a-f]{64})$/i);
/**
 * Whether a server can run on an image is judged by what is in it (provider/server/image.ts), and not by its name. Only
 * what is fetched without a tag, or as latest, may be something else every day.
 */
const namedServerImage = z
  .string()
  .regex(/^[a-z0-9][\w.:/-]*(:(?!latest$)[\w][\w.-]*|@sha256:[0-9a-f]{64})$/i);
/** Before 16, initdb takes no settings, which a new server gets that way. */
const serverKey = /^(1[6-9]|[2-9]\d)(-[a-z0-9]+)*$/;

/** One image alone, as `pulumi config set --path` sets it, leaves the others at their defaults. */
const images = z.preprocess(
  (given) => {
    const value = fromJson(given);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? { ...defaultImages, ...value }
      : value;
  },
  z
    .record(
      z.string(),
      z.custom<string>(() => true),
      "expected a map with the keys proxy, barman, pooler, prometheus, exporter, alertmanager, grafana, and PostgreSQL's major versions, each also with a variant such as 18-pgvector",
    )
    .superRefine((all, context) => {
      const problem = (key: string, message: string) =>
        context.addIssue({ code: "custom", path: [key], message, input: all[key] });
      for (const [key, image] of Object.entries(all)) {
        const isServer = serverKey.test(key);
        if (!isServer && !Object.hasOwn(defaultImages, key)) {
          problem(
            key,
            "expected the key `proxy`, `barman`, `pooler`, `prometheus`, `exporter`, `alertmanager`, `grafana`, or a PostgreSQL major version from 16 on, which may have a variant: 18-pgvector",
          );
        } else if (isServer && !namedServerImage.safeParse(image).success) {
          problem(key, "expected a tag other than latest, such as 18.6-bookworm, or a digest");
        } else if (!isServer && !pinnedImage.safeParse(image).success) {
          problem(key, "expected a tag with a minor version, such as v3.7.15, or a digest");
        }
      }
    }),
);

/** By PostgreSQL's major version, or one with a variant; and of poolers. CloudNativePG needs images that are made for it. */
const defaultOperandImages: Readonly<Record<string, string>> = {
  18: "ghcr.io/cloudnative-pg/postgresql:18.6-system-trixie",
  // Before 1.25.2: CVE-2026-6664.
  pooler: "ghcr.io/cloudnative-pg/pgbouncer:1.25.2",
};

const operandImages = z.preprocess(
  (given) => {
    const value = fromJson(given);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? { ...defaultOperandImages, ...value }
      : value;
  },
  z.record(
    z
      .string()
      .refine(
        (key) => key === "pooler" || serverKey.test(key),
        "expected `pooler`, or a PostgreSQL major version, which may have a variant: 18-pgvector",
      ),
    z.custom<string>(
      (image) => namedServerImage.safeParse(image).success,
      "expected a tag other than latest, such as 18.6-system-trixie, or a digest",
    ),
    "expected a map from pooler and PostgreSQL's major versions to images that are made for CloudNativePG",
  ),
);

const objectName = (value: string) => /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(value);

const kubernetes = object(
  {
    // Its text, which has secrets, would be no path.
    kubeconfig: text("the path of a kubeconfig", (value) => value !== "" && !/[{}\n]/.test(value))
      .optional()
      .describe("path of the kubeconfig; without it, KUBECONFIG names it, or it is ~/.kube/config"),
    context: text("the name of a context")
      .optional()
      .describe("context in the kubeconfig; without it, the current one"),
    storageClass: text("the name of a StorageClass", objectName)
      .optional()
      .describe("StorageClass of new tenants' volumes; without it, the cluster's default"),
    exposure: oneOf(["LoadBalancer", "NodePort", "hostPort"])
      .default("LoadBalancer")
      .describe(
        "how clients reach the proxy on pgs:port: a Service of type LoadBalancer or NodePort, or a port of its nodes",
      ),
    proxyReplicas: wholeNumber("a number of proxies", 1, 100)
      .default(2)
      .describe("how many proxies run, on different nodes where there are as many"),
    operatorManifest: text("the path of a file")
      .optional()
      .describe(
        "path of CloudNativePG's manifest, which the stack installs; without it, the cluster has the operator already",
      ),
    proxyManifest: text("the path of a file")
      .optional()
      .describe(
        "path of the definitions of Traefik's resources, which the stack installs; without it, the cluster has them already",
      ),
    images: operandImages
      .prefault({})
      .describe(
        "images for CloudNativePG: PostgreSQL's by major version, such as 18, and by variant, such as 18-pgvector; pooler - PgBouncer",
      ),
  },
  "a map with the keys kubeconfig, context, storageClass, exposure, proxyReplicas, operatorManifest, proxyManifest and images",
);

const bucketPattern = /^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/[A-Za-z0-9._-]+)*$/;

const backups = object(
  {
    schedule: text("off, or a time of day (UTC) such as 02:30", (value) => schedulePattern.test(value))
      .default("02:30")
      .describe("time of day (UTC) of each tenant's daily base backup, or off"),
    retention: text("a number of days such as 7d", (value) => retentionPattern.test(value))
      .default("7d")
      .describe("for how many days back a tenant can be restored to any second"),
    destination: text("a bucket and a path such as s3://acme-backups/pgs", (value) =>
      bucketPattern.test(value),
    )
      .optional()
      .describe("bucket and path that backups are copied to; without it they stay on the host"),
    endpoint: text("the URL of an S3 server", (value) => /^https?:\/\/[^\s/]+(\/\S*)?$/.test(value))
      .optional()
      .describe("URL of the S3 server; without it, that of AWS"),
    region: text("a region such as eu-central-1", (value) => /^[a-z0-9-]+$/.test(value))
      .optional()
      .describe("region of the bucket; without it, us-east-1"),
    encryption: oneOf(["AES256", "aws:kms", "off"])
      .default("AES256")
      .describe("how the S3 server encrypts: AES256, aws:kms, or off"),
  },
  "a map with the keys schedule, retention, destination, endpoint, region and encryption",
).prefault({});

/** `pulumi config set --path` makes a boolean of true; an environment may hand it over as text. */
const flag = z.preprocess(
  (value) => (value === "true" ? true : value === "false" ? false : value),
  z.boolean("expected true or false"),
);

const emailAddress = (value: string) => /^[^@\s]+@[^@\s]+$/.test(value);

const alertEmail = object(
  {
    to: text("an e-mail address", emailAddress).describe("who gets them"),
    from: text("an e-mail address", emailAddress).describe("who they are from"),
    smarthost: text("a mail server such as smtp.example.com:587", (value) =>
      /^[^\s:/@]+:\d{1,5}$/.test(value),
    ).describe("mail server that takes them, with its port; TLS is required"),
    username: text("a user name")
      .optional()
      .describe("as whom to log in there; its password is pgs:alertCredentials.smtpPassword"),
  },
  "a map with the keys to, from, smarthost and username",
);

const alerts = object(
  {
    webhook: text("the URL of a webhook", (value) => /^https?:\/\/[^\s/@]+(\/\S*)?$/.test(value))
      .optional()
      .describe(
        "URL that gets Alertmanager's JSON; with pgs:alertCredentials.webhookToken as a bearer token",
      ),
    slack: text("a channel such as #operations", (value) => /^[#@]?[\w.-]+$/.test(value))
      .optional()
      .describe("channel; the URL of the incoming webhook is pgs:alertCredentials.slackUrl"),
    email: alertEmail.optional().describe("e-mail"),
  },
  "a map with the keys webhook, slack and email",
);

const monitoring = object(
  {
    enabled: flag.default(false).describe("whether the stack has a Prometheus that watches it"),
    retention: text("a number of days such as 15d", (value) => retentionPattern.test(value))
      .default("15d")
      .describe("for how many days Prometheus keeps what it saw"),
    size: text("a size such as 5GB", (value) => /^[1-9]\d{0,5}(MB|GB)$/.test(value))
      .default("5GB")
      .describe("how much of the disk that may take: the oldest goes first"),
    remoteWrite: text("the URL of a remote-write receiver", (value) =>
      /^https?:\/\/[^\s/@]+(\/\S*)?$/.test(value),
    )
      .optional()
      .describe("URL of an existing Prometheus, or what takes its remote-write, that gets all of it too"),
    alerts: alerts
      .optional()
      .describe("where Alertmanager sends alerts: any of webhook, slack and email (docs/monitoring.md)"),
    grafana: flag.default(false).describe("whether the stack has a Grafana with its dashboards"),
  },
  "a map with the keys enabled, retention, size, remoteWrite, alerts and grafana",
).prefault({});

const certificate = object(
  {
    chain: text("the path of a PEM file").describe("path of the full chain, PEM, leaf first"),
    key: text("the path of a PEM file").describe("path of its private key, PEM"),
  },
  "a map with the keys chain and key, the paths of a full chain and its private key",
);

function isNameServer(value: string): boolean {
  const [, address = "", port = ""] = /^\[?([^\]]+)\]?:(\d{1,5})$/.exec(value) ?? [];
  return isIP(address) !== 0 && Number(port) >= 1 && Number(port) <= 65_535;
}

const acme = object(
  {
    email: text("an e-mail address", (value) => /^[^@\s]+@[^@\s]+$/.test(value)).describe(
      "of the account; the CA writes there",
    ),
    dnsProvider: text(
      "Traefik's name for a DNS provider, such as cloudflare",
      // Those two run a program, and wait for somebody at a terminal.
      (value) => /^[a-z0-9-]+$/.test(value) && value !== "exec" && value !== "manual",
    ).describe(
      "[Traefik's name](https://doc.traefik.io/traefik/reference/install-configuration/tls/certificate-resolvers/acme/#providers) for the DNS provider",
    ),
    caServer: text("the https:// URL of an ACME directory", (value) => /^https:\/\/\S+$/.test(value))
      .optional()
      .describe("URL of the ACME server's directory; without it, Let's Encrypt"),
    caCertificate: text("the path of a PEM file")
      .optional()
      .describe(
        "path of the CA that the ACME server's own certificate is verified with; without it, the public ones",
      ),
    resolvers: z
      .array(
        text("a name server such as 9.9.9.9:53", isNameServer),
        "expected a list of name servers such as 9.9.9.9:53",
      )
      .min(1, "expected a list of name servers such as 9.9.9.9:53")
      .optional()
      .describe("name servers to find the zone with, as ADDRESS:PORT; without it, the Docker host's"),
    propagationSeconds: wholeNumber("a whole number of seconds", 1, 3600)
      .optional()
      .describe(
        "seconds until a DNS record counts everywhere; without it, the zone's name servers are asked",
      ),
  },
  "a map with the keys email and dnsProvider",
);

const passwords = z.preprocess(
  fromJson,
  z.record(
    z
      .string()
      .regex(
        /^[^/]+(\/[a-z_][a-z0-9_-]*)?$/,
        "expected a tenant id such as acme, or one with a role such as acme/app",
      ),
    text("1 to 256 printable ASCII characters", (value) => /^[ -~]{1,256}$/.test(value)),
    "expected a map from tenant id, or tenant id/role, to password",
  ),
);

/** Traefik reads them from files, and some providers' credentials have several lines. */
const credential = z.preprocess(
  asText,
  z
    .string("expected text")
    .min(1, "expected text")
    .refine(
      (value) => !controlCharacters.test(value.replace(/[\t\r\n]/g, "")),
      "expected text without control characters",
    ),
);

const acmeCredentials = z.preprocess(
  fromJson,
  z.record(
    z
      .string()
      .regex(/^[A-Z][A-Z0-9_]*$/, "expected the name of an environment variable such as CF_DNS_API_TOKEN"),
    credential,
    "expected a map from the names of environment variables to text",
  ),
);

const withoutSpaces = text("text without spaces", (value) => /^\S+$/.test(value));

const backupCredentials = object(
  { accessKeyId: withoutSpaces, secretAccessKey: withoutSpaces },
  "a map with the keys accessKeyId and secretAccessKey",
);

const alertCredentials = object(
  {
    webhookToken: withoutSpaces.optional(),
    slackUrl: withoutSpaces.optional(),
    smtpPassword: credential.optional(),
  },
  "a map with the keys webhookToken, slackUrl and smtpPassword",
);

const label = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?";
const domainPattern = new RegExp(`^${label}(\\.${label})*$`);

/** What the networks need of it is checked by them; the routes are closed to all of it. */
function isNetworkRange(value: string): boolean {
  const [, address = "", length = ""] = /^([\d.]+)\/(\d{1,2})$/.exec(value) ?? [];
  return isIPv4(address) && Number(length) <= 29;
}

const allowed = "a list of addresses or ranges such as 203.0.113.0/24 or 2001:db8::/32";

const allow = z.preprocess(
  fromJson,
  z.array(text(allowed, isRange), `expected ${allowed}`).min(1, `expected ${allowed}`),
);

function isIpv6Subnet(value: string): boolean {
  return value.endsWith("::/64") && isRange(value) && !value.startsWith("::");
}

/** A stack's configuration: the keys of the namespace `pgs`, with their defaults. */
export const configurationSchema = z.strictObject({
  platform: oneOf(["docker", "kubernetes"])
    .default("docker")
    .describe(
      "Where the tenants run: docker - on one Docker host; kubernetes - on a cluster, by CloudNativePG (docs/kubernetes.md)",
    ),
  domain: text(
    "a domain name such as pgs.example.com",
    (value) => value.length <= 180 && domainPattern.test(value),
  )
    .default("pgs.localhost")
    .describe("Tenants are reached at HOSTNAME.DOMAIN; point *.DOMAIN at the Docker host"),
  port: wholeNumber("a port", 1, 65_535)
    .default(5432)
    .describe("The public port that the proxy publishes on the Docker host"),
  tenantsFile: text("the path of a file")
    .default("tenants.yaml")
    .describe("The file that lists the tenants, relative to this folder"),
  prefix: text(
    // With a hyphen and the longest tenant id it is a container's name, which the proxy looks up as a DNS label.
    "up to 14 lower-case letters, digits and inner hyphens, a letter first",
    (value) => /^[a-z]([a-z0-9-]{0,12}[a-z0-9])?$/.test(value),
  )
    .default("pgs")
    .describe(
      "Names of containers, volumes and networks start with it; give each stack on one Docker host its own",
    ),
  tenantSubnets: text("an IPv4 range such as 10.213.0.0/16", isNetworkRange)
    .default("10.213.0.0/16")
    .describe(
      "Private IPv4 range (CIDR) from which the tenants' networks are taken, a /29 each. Another range replaces the proxy",
    ),
  isolation: oneOf(["network", "shared"])
    .default("network")
    .describe(
      "network - each tenant has a network of its own; shared - all have one, and each server accepts only the proxy, which then restarts in a second however many tenants there are (docs/security.md)",
    ),
  allow: allow
    .optional()
    .describe(
      "Addresses and ranges (CIDR) that clients of every tenant have to come from; without it, any (docs/access.md)",
    ),
  ipv6Subnet: text("an IPv6 range with the length 64, such as fd5c:1a2b:3c4d:1::/64", isIpv6Subnet)
    .optional()
    .describe(
      "Private IPv6 range (CIDR, /64) of the proxy's network, with which clients of IPv6 keep their address; without it, they all have the Docker host's (docs/access.md)",
    ),
  hostnameSuffix: oneOf(["none", "random"])
    .default("none")
    .describe(
      "none - a tenant is reached at ID.DOMAIN; random - at ID-SUFFIX.DOMAIN, six random letters and digits for each tenant; a hostname in the tenants' file is used as it is (docs/tenants.md)",
    ),
  diskReserve: text(
    "off, or a size such as 2Gi",
    (value) => value === "off" || (memoryPattern.test(value) && memoryBytes(value) <= 2 ** 50),
  )
    .default("2Gi")
    .describe(
      "How much of the Docker host's disk stays free, at most a twentieth of it: tenants become read-only before, those with a disk budget last; off - nothing is kept free (docs/disks.md)",
    ),
  certificateDays: wholeNumber("a whole number of days", 1, 3650)
    .default(365)
    .describe(
      "How many days a certificate of the stack's own CA is valid; the first up in the last third of them renews it (docs/certificates.md)",
    ),
  images: images
    .prefault({})
    .describe(
      "The images, each pinned: proxy - Traefik; one per PostgreSQL major version, such as 18, and per variant that tenants choose by image, such as 18-pgvector; barman - BARMAN-POSTGRES-REVISION, which ./pgs setup builds, POSTGRES being the newest of those; pooler - PGBOUNCER-DEBIAN-REVISION, which it builds too; prometheus, exporter (postgres_exporter), alertmanager and grafana, for pgs:monitoring. One that is set alone leaves the others at their defaults",
    ),
  backups: backups.describe(
    "schedule - time of day (UTC) of each tenant's daily base backup, or off; retention - for how many days back a tenant can be restored to any second; destination, endpoint, region, encryption - the bucket that backups are copied to (docs/backups.md)",
  ),
  monitoring: monitoring.describe(
    "enabled - whether the stack has a Prometheus that watches it; retention, size - how long and how much of it is kept; remoteWrite - where it goes too; alerts - where alerts are sent; grafana - whether it has a Grafana (docs/monitoring.md)",
  ),
  kubernetes: kubernetes
    .optional()
    .describe("The cluster of a stack with pgs:platform kubernetes (docs/kubernetes.md)"),
  certificate: certificate
    .optional()
    .describe("The operator's own certificate for *.DOMAIN in place of one of the stack's CA"),
  acme: acme.optional().describe("How the proxy gets a certificate for *.DOMAIN from an ACME server"),
  passwords: passwords
    .prefault({})
    .describe("The operator's own passwords by tenant id, and of its roles by ID/ROLE; a secret"),
  acmeCredentials: acmeCredentials
    .prefault({})
    .describe("What the DNS provider of pgs:acme asks for, by the names of environment variables; a secret"),
  backupCredentials: backupCredentials
    .optional()
    .describe(
      "What the S3 server of pgs:backups.destination accepts: accessKeyId and secretAccessKey; a secret",
    ),
  alertCredentials: alertCredentials
    .prefault({})
    .describe(
      "What the receivers of pgs:monitoring.alerts ask for: webhookToken, slackUrl, smtpPassword; a secret",
    ),
});

/** What only its readers may see: never part of a message, and hidden from commands that do without. */
export const secretKeys = ["passwords", "acmeCredentials", "backupCredentials", "alertCredentials"] as const;

/** The cluster of a stack whose configuration says nothing of it. */
export const defaultKubernetes = kubernetes.parse({});

export type Configuration = z.output<typeof configurationSchema>;
