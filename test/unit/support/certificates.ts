import { execFileSync } from "node:child_process";
import { join } from "node:path";

export interface CertificateFiles {
  chain: string;
  key: string;
}

/** A self-signed certificate for one DNS name, and its key, as files in `folder`; valid for `days` from now. */
export function certificateFiles(folder: string, dnsName: string, name = "own", days = 1): CertificateFiles {
  const files = { chain: join(folder, `${name}.pem`), key: join(folder, `${name}.key`) };
  const args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const subject = ["-subj", "/CN=own", "-addext", `subjectAltName=DNS:${dnsName}`, "-days", String(days)];
  execFileSync("openssl", [...args, ...subject, "-out", files.chain, "-keyout", files.key], {
    stdio: "ignore",
  });
  return files;
}
