import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { exec } from "../../docker/exec";
import { psql } from "./psql";
import type { Settings } from "./settings";

/** What a server shows to clients whose TLS the proxy passes through to it. */
export interface ServerCertificate {
  /** PEM, leaf first. */
  chain: string;
  /** PEM; a secret. */
  key: string;
}

/**
 * Certificate and key in one file, so that the pair changes in one step; in the data directory, so that a
 * server that is started from a copy of it finds what its settings name.
 */
const file = "pgs-tls.pem";

/** https://www.postgresql.org/docs/18/runtime-config-connection.html#RUNTIME-CONFIG-CONNECTION-SSL */
const settings: Settings = { ssl: "on", ssl_cert_file: file, ssl_key_file: file };

/** SQL for the SHA-256 of the file, in hexadecimal; null when it is not there. */
export const certificateDigest = `encode(sha256(pg_read_binary_file('${file}', 0, 1000000, true)), 'hex')`;

/** What of a server's certificate can be seen. */
export interface PresentCertificate {
  /** Contents of postgresql.auto.conf. */
  settings: Settings;
  /** Of the file, as `certificateDigest` has it. */
  certificateDigest: string | null;
}

/** Whether the server has just this certificate, or without one, none that was set here. */
export function hasCertificate(wanted: ServerCertificate | undefined, present: PresentCertificate): boolean {
  if (!wanted) return present.settings.ssl_cert_file !== file;
  return (
    Object.entries(settings).every(([name, value]) => present.settings[name] === value) &&
    present.certificateDigest === createHash("sha256").update(contentOf(wanted)).digest("hex")
  );
}

/** Gives the server this certificate, or takes it away; it goes on with all its sessions. */
export async function setCertificate(
  container: Docker.Container,
  wanted: ServerCertificate | undefined,
  present: PresentCertificate,
): Promise<void> {
  if (hasCertificate(wanted, present)) return;
  if (wanted) await writeFile(container, contentOf(wanted));
  const change = Object.entries(settings).map(([name, value]) =>
    wanted ? `ALTER SYSTEM SET ${name} = '${value}';` : `ALTER SYSTEM RESET ${name};`,
  );
  // The proxy takes up a changed route a moment after its file is written: until then it passes TLS through.
  const wait = wanted ? [] : ["SELECT pg_sleep(0.5) \\g /dev/null"];
  const reload = ["SELECT pg_reload_conf() \\g /dev/null", "SELECT pg_sleep(0.2) \\g /dev/null"];
  const inForce = await psql(container, [...wait, ...change, ...reload, "SHOW ssl"].join("\n"));
  if (wanted && inForce !== "on") throw new Error("the server does not turn TLS on: its log says why");
  if (!wanted) await inDataDirectory(container, `rm -f ${file}`);
}

function contentOf({ chain, key }: ServerCertificate): string {
  return `${chain}${key}`;
}

/** By standard input alone, and under another name until all has arrived. */
async function writeFile(container: Docker.Container, content: string): Promise<void> {
  const temporary = `${file}.new`;
  await inDataDirectory(
    container,
    `umask 077; cat >${temporary} && [ "$(wc -c <${temporary})" -eq ${Buffer.byteLength(content)} ] && mv -f ${temporary} ${file} || { rm -f ${temporary}; exit 1; }`,
    content,
  );
}

async function inDataDirectory(container: Docker.Container, script: string, stdin?: string): Promise<void> {
  const result = await exec(container, ["sh", "-c", `cd "$PGDATA" && { ${script}; }`], { stdin });
  if (result.code !== 0) throw new Error(`cannot change the server's certificate: ${result.stderr.trim()}`);
}
