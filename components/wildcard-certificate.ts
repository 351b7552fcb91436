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
    const made = args.certificate ? readFiles(args.certificate, this) : this.sign(args.domain);
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

function readFiles(files: { chain: string; key: string }, resource: pulumi.Resource) {
  const read = (what: string, path: string) => {
    try {
      return readFileSync(path, "utf8");
    } catch (error) {
      throw new pulumi.ResourceError(
        `pgs:certificate.${what}: cannot read ${path}: ${(error as Error).message}`,
        resource,
      );
    }
  };
  return {
    chain: pulumi.output(read("chain", files.chain)),
    key: pulumi.secret(read("key", files.key)),
    ca: undefined,
  };
}
