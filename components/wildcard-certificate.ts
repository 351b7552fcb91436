import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import * as pulumi from "@pulumi/pulumi";
import * as tls from "@pulumi/tls";

export interface WildcardCertificateArgs {
  /** The certificate covers `*.domain`. */
  domain: string;
  /** The operator's own full chain and key, as paths of PEM files; without them the stack makes its own. */
  certificate?: { chain: string; key: string };
}

const hours = { perDay: 24, perYear: 24 * 365 };

/** The certificate that every tenant's hostname is served with. */
export class WildcardCertificate extends pulumi.ComponentResource {
  /** The certificate and those that signed it, PEM, leaf first. */
  readonly chain: pulumi.Output<string>;
  /** Its private key, PEM; a secret. */
  readonly key: pulumi.Output<string>;
  /** What clients verify the server with, PEM; undefined with the operator's own certificate. */
  readonly caCertificate: pulumi.Output<string> | undefined;

  constructor(name: string, args: WildcardCertificateArgs, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:WildcardCertificate", name, {}, opts);
    const made = args.certificate ? readFiles(args.certificate, args.domain) : this.sign(args.domain);
    this.chain = made.chain;
    this.key = made.key;
    this.caCertificate = made.ca;
    this.registerOutputs();
  }

  /** A CA of the stack's own, for ten years, and a certificate that it signs anew each year. */
  private sign(domain: string) {
    const opts = { parent: this };
    const caKey = new tls.PrivateKey("ca", { algorithm: "ECDSA", ecdsaCurve: "P256" }, opts);
    const ca = new tls.SelfSignedCert(
      "ca",
      {
        privateKeyPem: caKey.privateKeyPem,
        isCaCertificate: true,
        subject: { commonName: `pgs CA for ${domain}` },
        validityPeriodHours: 10 * hours.perYear,
        allowedUses: ["cert_signing", "crl_signing"],
      },
      opts,
    );
    const key = new tls.PrivateKey("server", { algorithm: "ECDSA", ecdsaCurve: "P256" }, opts);
    const request = new tls.CertRequest(
      "server",
      {
        privateKeyPem: key.privateKeyPem,
        subject: { commonName: `*.${domain}` },
        dnsNames: [`*.${domain}`],
      },
      opts,
    );
    const certificate = new tls.LocallySignedCert(
      "server",
      {
        certRequestPem: request.certRequestPem,
        caPrivateKeyPem: caKey.privateKeyPem,
        caCertPem: ca.certPem,
        validityPeriodHours: hours.perYear,
        // Renewed by the first `up` in the last third of its life.
        earlyRenewalHours: hours.perYear / 3,
        allowedUses: ["digital_signature", "server_auth"],
      },
      opts,
    );
    return {
      chain: pulumi.interpolate`${certificate.certPem}${ca.certPem}`,
      key: key.privateKeyPem,
      ca: ca.certPem,
    };
  }
}

/** @throws pulumi.RunError that lists what is wrong with the files: with them nobody could log in */
function readFiles(files: { chain: string; key: string }, domain: string) {
  const read = (what: "chain" | "key") => {
    try {
      return readFileSync(files[what], "utf8");
    } catch (error) {
      throw new pulumi.RunError(`pgs:certificate.${what}: ${(error as Error).message}`);
    }
  };
  const [chain, key] = [read("chain"), read("key")];
  const problems = certificateProblems(chain, key, domain);
  if (problems.length > 0) {
    throw new pulumi.RunError(
      problems.map((problem) => `pgs:certificate: ${files.chain}: ${problem}`).join("\n"),
    );
  }
  return { chain: pulumi.output(chain), key: pulumi.secret(key), ca: undefined };
}

/** What is wrong with a full chain and its key, both PEM, for `*.domain`. */
export function certificateProblems(chain: string, key: string, domain: string): string[] {
  let leaf: X509Certificate;
  try {
    leaf = new X509Certificate(chain);
  } catch {
    return ["this is no PEM certificate; expected the full chain, the server's own certificate first"];
  }
  const problems: string[] = [];
  const now = Date.now();
  if (Date.parse(leaf.validTo) < now) problems.push(`it expired on ${leaf.validTo}; put a renewed one there`);
  if (Date.parse(leaf.validFrom) > now) problems.push(`it is not valid before ${leaf.validFrom}`);
  // Some label stands for all: the hostnames are not known here, and a wildcard is what covers new ones.
  if (!leaf.checkHost(`any-tenant.${domain}`)) {
    problems.push(`it does not cover *.${domain}; it is for ${leaf.subjectAltName ?? "no name at all"}`);
  }
  if (!belongsTo(leaf, key)) problems.push("the key in pgs:certificate.key does not belong to it");
  return problems;
}

function belongsTo(certificate: X509Certificate, key: string): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
}
