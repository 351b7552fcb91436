import * as pulumi from "@pulumi/pulumi";

/** Where backups are copied to, off the host: part of the stack's `pgs:backups`. */
export interface DestinationSettings {
  /** s3://BUCKET/PATH */
  destination: string;
  /** URL of the S3 server. Default: that of AWS. */
  endpoint?: string;
  /** Default: us-east-1. */
  region?: string;
  /** What the S3 server encrypts with; `off`: it is not asked to. Default: AES256. */
  encryption: string;
  /** What the S3 server lets Barman in with: secrets. */
  accessKeyId: pulumi.Output<string>;
  secretAccessKey: pulumi.Output<string>;
}

const fields: Record<
  "destination" | "endpoint" | "region" | "encryption",
  { pattern: RegExp; allowed: string }
> = {
  destination: {
    pattern: /^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/[A-Za-z0-9._-]+)*$/,
    allowed: "a bucket and a path such as s3://acme-backups/pgs",
  },
  endpoint: { pattern: /^https?:\/\/[^\s/]+(\/\S*)?$/, allowed: "the URL of an S3 server" },
  region: { pattern: /^[a-z0-9-]+$/, allowed: "a region such as eu-central-1" },
  encryption: { pattern: /^(AES256|aws:kms|off)$/, allowed: "AES256, aws:kms or off" },
};

export const destinationKeys = Object.keys(fields);

/** What is wrong with these keys of the configuration's object, as PATH and what is allowed. */
export function destinationProblems(backups: Record<string, unknown>): [path: string, allowed: string][] {
  const wrong = Object.entries(fields).flatMap(([key, { pattern, allowed }]): [string, string][] => {
    const value = backups[key];
    if (value === undefined || (typeof value === "string" && pattern.test(value))) return [];
    return [[`backups.${key}`, `expected ${allowed}, got ${value}`]];
  });
  const given = destinationKeys.find((key) => backups[key] !== undefined);
  if (given && backups.destination === undefined) {
    wrong.push([`backups.${given}`, "expected backups.destination beside it"]);
  }
  return wrong;
}

/** Undefined without a destination. */
export function destinationOf(
  config: pulumi.Config,
  backups: Record<string, string>,
): DestinationSettings | undefined {
  const { destination, endpoint, region, encryption = "AES256" } = backups;
  if (destination === undefined) return undefined;
  const { accessKeyId, secretAccessKey } = credentialsOf(config);
  return { destination, endpoint, region, encryption, accessKeyId, secretAccessKey };
}

/** Secrets. @throws pulumi.RunError that names the keys which are wrong, and no value */
function credentialsOf(
  config: pulumi.Config,
): pulumi.Output<{ accessKeyId: string; secretAccessKey: string }> {
  const given = config.getSecretObject<Record<string, string>>("backupCredentials") ?? pulumi.secret({});
  return given.apply((values: Record<string, string>) => {
    const { accessKeyId = "", secretAccessKey = "", ...others } = values;
    const wrong = [
      ...Object.entries({ accessKeyId, secretAccessKey })
        .filter(([, value]) => typeof value !== "string" || !/^\S+$/.test(value))
        .map(([name]) => name),
      ...Object.keys(others),
    ];
    if (wrong.length === 0) return { accessKeyId, secretAccessKey };
    throw new pulumi.RunError(
      `pgs:backupCredentials: expected accessKeyId and secretAccessKey, text without spaces, not so: ${wrong.join(", ")} (pulumi config set --secret --path pgs:backupCredentials.accessKeyId …)`,
    );
  });
}
