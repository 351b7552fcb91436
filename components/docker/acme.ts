import * as pulumi from "@pulumi/pulumi";
import type { AcmeSettings } from "../../config";
import { readPlainFile } from "../../tenants/plain-file";

/** What the proxy calls its certificate resolver. */
export const acmeResolver = "acme";

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
    return readPlainFile(path);
  } catch (error) {
    throw new pulumi.RunError(`pgs:acme.caCertificate: ${(error as Error).message}`);
  }
}
