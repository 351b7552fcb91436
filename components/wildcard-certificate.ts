import { createPrivateKey, X509Certificate } from "node:crypto";
import * as pulumi from "@pulumi/pulumi";
import * as tls from "@pulumi/tls";
import { readPlainFile } from "../tenants/plain-file";

export interface WildcardCertificateArgs {
  /** The certificate covers `*.domain`. */
  domain: string;
  /** The operator's own full chain and key, as paths of PEM files; without them the stack makes its own. */
  certificate?: { chain: string; key: string };
  /** Set when the proxy gets the certificate by itself. */
  acme?: object;
  /** How long what the stack's CA signs is valid. */
  certificateDays: number;
}

/** A certificate with its private key. */
export interface KeyPair {
  /** The certificate and those that signed it, PEM, leaf first. */
  chain: pulumi.Output<string>;
  /** PEM; a secret. */
  key: pulumi.Output<string>;
}

const hours = { perDay: 24, perYear: 24 * 365 };

/** The certificate that every tenant's hostname is served with, and the stack's own CA, which can sign more. */
export class WildcardCertificate extends pulumi.ComponentResource {
  /** What the proxy shows; undefined when it gets a certificate by itself. */
  readonly served: KeyPair | undefined;
  /** What clients verify those with that the stack's CA signed, PEM. */
  readonly caCertificate: pulumi.Output<string>;
  private readonly ca: KeyPair;

  constructor(
    name: string,
    private readonly args: WildcardCertificateArgs,
    opts?: pulumi.ComponentResourceOptions,
  ) {
    super("pgs:index:WildcardCertificate", name, {}, opts);
    const { domain, certificate, acme } = args;
    const operators = certificate && readFiles(certificate, domain);
    this.ca = this.createCa();
    this.caCertificate = this.ca.chain;
    this.served = operators ?? (acme ? undefined : this.sign("server", `*.${domain}`, this));
    this.registerOutputs();
  }

  /**
   * The stack's own CA, for ten years. It is there also while the proxy shows another certificate, so
   * that clients who know it can go on when the stack comes back to it.
   */
  private createCa(): KeyPair {
    const opts = { parent: this };
    const key = new tls.PrivateKey("ca", { algorithm: "ECDSA", ecdsaCurve: "P256" }, opts);
    const ca = new tls.SelfSignedCert(
      "ca",
      {
        privateKeyPem: key.privateKeyPem,
        isCaCertificate: true,
        subject: { commonName: `pgs CA for ${this.args.domain}` },
        validityPeriodHours: 10 * hours.perYear,
        allowedUses: ["cert_signing", "crl_signing"],
      },
      opts,
    );
    ca.validityEndTime.apply((end) => {
      if (Date.parse(end) - Date.now() > hours.perYear * 3_600_000) return;
      void pulumi.log.warn(
        `the stack's CA ends on ${end}, and then no client that verifies with it can log in: docs/certificates.md says how to change to a new one before`,
        this,
      );
    });
    return { chain: ca.certPem, key: key.privateKeyPem };
  }

  /** A certificate for this DNS name from the stack's CA. The first `up` in the last third of its life renews it. */
  sign(name: string, dnsName: pulumi.Input<string>, parent: pulumi.Resource): KeyPair {
    const opts = { parent };
    const key = new tls.PrivateKey(name, { algorithm: "ECDSA", ecdsaCurve: "P256" }, opts);
    const request = new tls.CertRequest(
      name,
      { privateKeyPem: key.privateKeyPem, subject: { commonName: dnsName }, dnsNames: [dnsName] },
      opts,
    );
    const lifetime = this.args.certificateDays * hours.perDay;
    const certificate = new tls.LocallySignedCert(
      name,
      {
        certRequestPem: request.certRequestPem,
        caPrivateKeyPem: this.ca.key,
        caCertPem: this.ca.chain,
        validityPeriodHours: lifetime,
        earlyRenewalHours: lifetime / 3,
        allowedUses: ["digital_signature", "server_auth"],
      },
      opts,
    );
    return {
      chain: pulumi.interpolate`${certificate.certPem}${this.ca.chain}`,
      key: key.privateKeyPem,
    };
  }
}

/** @throws pulumi.RunError that lists what is wrong with the files: with them nobody could log in */
function readFiles(files: { chain: string; key: string }, domain: string): KeyPair {
  const read = (what: "chain" | "key") => {
    try {
      return readPlainFile(files[what]);
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
  return { chain: pulumi.output(chain), key: pulumi.secret(key) };
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
  const problem = keyProblem(leaf, key);
  return problem ? [...problems, `the key in pgs:certificate.key ${problem}`] : problems;
}

function keyProblem(certificate: X509Certificate, key: string): string | undefined {
  try {
    return certificate.checkPrivateKey(createPrivateKey(key)) ? undefined : "does not belong to it";
  } catch (error) {
    // Of both forms: `BEGIN ENCRYPTED PRIVATE KEY`, and the older one with a header.
    if (/^-----BEGIN ENCRYPTED |^Proc-Type: 4,ENCRYPTED/m.test(key)) {
      return "is encrypted, and the proxy knows no passphrase: openssl pkey -in KEY -out PLAIN_KEY makes one that is not";
    }
    return /-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(key)
      ? `cannot be read: ${(error as Error).message}`
      : "is no PEM private key (-----BEGIN PRIVATE KEY-----)";
  }
}
