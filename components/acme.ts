import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import * as pulumi from "@pulumi/pulumi";

/** How the proxy gets its certificate from an ACME server by itself: the stack's `pgs:acme`. */
export interface AcmeSettings {
  /** Of the account; the CA writes there. */
  email: string;
  /** Traefik's name for the DNS provider. https://doc.traefik.io/traefik/reference/install-configuration/tls/certificate-resolvers/acme/#providers */
  dnsProvider: string;
  /** URL of the ACME server's directory. Default: Let's Encrypt. */
  caServer?: string;
  /** Path of the PEM file with the CA that the ACME server's own certificate is verified with. Default: the public ones. */
  caCertificate?: string;
  /** Name servers to ask, as ADDRESS:PORT. Default: the Docker host's. */
  resolvers?: string[];
  /** Seconds until a DNS record counts everywhere. Default: the zone's name servers are asked whether it does. */
  propagationSeconds?: number;
}

/** What the proxy calls its certificate resolver. */
export const acmeResolver = "acme";

/** What is wrong with the configuration's object, as PATH and what is allowed. */
export function acmeProblems(acme: Record<string, unknown>): [path: string, allowed: string][] {
  const text = (pattern: RegExp) => (value: unknown) => typeof value === "string" && pattern.test(value);
  const fields: Record<string, { fits: (value: unknown) => boolean; allowed: string; required?: boolean }> = {
    email: { fits: text(/^[^@\s]+@[^@\s]+$/), allowed: "an e-mail address", required: true },
    dnsProvider: {
      // Those two run a program, and wait for somebody at a terminal.
      fits: (value) => text(/^[a-z0-9-]+$/)(value) && value !== "exec" && value !== "manual",
      allowed: "Traefik's name for a DNS provider, such as cloudflare",
      required: true,
    },
    caServer: { fits: text(/^https:\/\/\S+$/), allowed: "the https:// URL of an ACME directory" },
    caCertificate: { fits: text(/./), allowed: "the path of a PEM file" },
    resolvers: {
      fits: (value) => Array.isArray(value) && value.length > 0 && value.every(isResolver),
      allowed: "a list of name servers such as 9.9.9.9:53",
    },
    propagationSeconds: {
      fits: (value) => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 3600,
      allowed: "a whole number of seconds from 1 to 3600",
    },
  };
  return [
    ...Object.keys(acme)
      .filter((key) => !Object.hasOwn(fields, key))
      .map((key): [string, string] => [
        `acme.${key}`,
        `there is no such key; allowed: ${Object.keys(fields).join(", ")}`,
      ]),
    ...Object.entries(fields).flatMap(([key, { fits, allowed, required }]): [string, string][] => {
      const value = acme[key];
      if (value === undefined ? !required : fits(value)) return [];
      return [[`acme.${key}`, `expected ${allowed}${value === undefined ? "" : `, got ${value}`}`]];
    }),
  ];
}

function isResolver(value: unknown): boolean {
  const [, address = "", port = ""] = /^\[?([^\]]+)\]?:(\d{1,5})$/.exec(String(value)) ?? [];
  return isIP(address) !== 0 && Number(port) >= 1 && Number(port) <= 65_535;
}

/** What the resolver reads from files, each by its name. Traefik reads them once: with others it is another proxy. */
export interface AcmeFiles {
  /** A secret: the DNS provider's credentials by the names of environment variables, and the ACME server's CA. */
  contents: pulumi.Output<Record<string, string>>;
  /** The folder that they are in: another one whenever the contents change. */
  folder: pulumi.Output<string>;
}

/** Where Traefik keeps its account and the certificate, with their keys. */
export const acmeStorage = "acme.json";

const caFile = "ca.pem";

/** The proxy's arguments for the resolver; `folder` is where it keeps what it got. */
export function acmeArguments(acme: AcmeSettings, files: AcmeFiles, folder: string): pulumi.Input<string>[] {
  const { email, dnsProvider, caServer, caCertificate, resolvers, propagationSeconds } = acme;
  const options: Record<string, pulumi.Input<string> | undefined> = {
    email,
    storage: `${folder}/${acmeStorage}`,
    keyType: "EC256",
    caServer,
    caCertificates: caCertificate ? pulumi.interpolate`${files.folder}/${caFile}` : undefined,
    "dnsChallenge.provider": dnsProvider,
    "dnsChallenge.resolvers": resolvers?.join(","),
    "dnsChallenge.propagation.delayBeforeChecks": propagationSeconds ? `${propagationSeconds}s` : undefined,
    "dnsChallenge.propagation.disableChecks": propagationSeconds ? "true" : undefined,
  };
  return Object.entries(options).flatMap(([name, value]) =>
    value === undefined
      ? []
      : [pulumi.interpolate`--certificatesResolvers.${acmeResolver}.acme.${name}=${value}`],
  );
}

/**
 * The DNS provider's credentials as Traefik's library reads them: a variable NAME_FILE names the file that has
 * the value of NAME. So the values are no part of the container. https://go-acme.github.io/lego/dns/
 */
export function acmeEnvironment({ contents, folder }: AcmeFiles): pulumi.Output<string[]> {
  return pulumi.all([pulumi.unsecret(contents), folder]).apply(([files, path]) =>
    Object.keys(files)
      .filter((name) => name !== caFile)
      .sort()
      .map((name) => `${name}_FILE=${path}/${name}`),
  );
}

/** By their names: a secret. */
export function acmeContents(
  { caCertificate }: AcmeSettings,
  credentials: pulumi.Output<Record<string, string>>,
): pulumi.Output<Record<string, string>> {
  if (!caCertificate) return credentials;
  const ca = readFile(caCertificate);
  return credentials.apply((values): Record<string, string> => ({ ...values, [caFile]: ca }));
}

function readFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new pulumi.RunError(`pgs:acme.caCertificate: ${(error as Error).message}`);
  }
}
