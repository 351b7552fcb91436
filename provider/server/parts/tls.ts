import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { exec } from "../../../docker/exec";
import type { PostgresServerInputs } from "../inputs";
import type { Inside } from "../inside";
import type { Part, RunningServer } from "../part";
import type { Settings } from "./settings";

/**
 * Certificate and key in one file, so that the pair changes in one step; in the data directory, so that a
 * server that is started from a copy of it finds what its settings name.
 */
const file = "pgs-tls.pem";

/** https://www.postgresql.org/docs/18/runtime-config-connection.html#RUNTIME-CONFIG-CONNECTION-SSL */
const settings: Settings = { ssl: "on", ssl_cert_file: file, ssl_key_file: file };

/** SQL for the SHA-256 of the file, in hexadecimal; null when it is not there. */
export const certificateDigest = `encode(sha256(pg_read_binary_file('${file}', 0, 1000000, true)), 'hex')`;

/** The server's own certificate, for clients whose TLS the proxy passes through. A change of it is live. */
export const tls: Part & { apply(server: RunningServer): Promise<void> } = {
  name: "tls",

  differs({ tls: wanted }, { inside }) {
    return inside !== undefined && !holds(wanted, inside);
  },

  async apply({ inputs: { tls: wanted }, container, session, inside }) {
    if (holds(wanted, inside)) return;
    if (wanted) await writeFile(container, contentOf(wanted));
    const change = Object.entries(settings).map(([name, value]) =>
      wanted ? `ALTER SYSTEM SET ${name} = '${value}';` : `ALTER SYSTEM RESET ${name};`,
    );
    // The proxy applies a changed route a moment after its file is written: until then it passes TLS through.
    const wait = wanted ? [] : ["SELECT pg_sleep(0.5) \\g /dev/null"];
    const reload = ["SELECT pg_reload_conf() \\g /dev/null", "SELECT pg_sleep(0.2) \\g /dev/null"];
    const inForce = await session.run([...wait, ...change, ...reload, "SHOW ssl"].join("\n"));
    if (wanted && inForce !== "on") throw new Error("the server does not turn TLS on: its log says why");
    if (!wanted) await inDataDirectory(container, `rm -f ${file}`);
  },
};

type Certificate = NonNullable<PostgresServerInputs["tls"]>;

/** Whether the server has just this certificate, or without one, none that pgs set. */
function holds(wanted: Certificate | undefined, { settings: present, certificateDigest }: Inside): boolean {
  if (!wanted) return present.ssl_cert_file !== file;
  return (
    Object.entries(settings).every(([name, value]) => present[name] === value) &&
    certificateDigest === createHash("sha256").update(contentOf(wanted)).digest("hex")
  );
}

function contentOf({ chain, key }: Certificate): string {
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
