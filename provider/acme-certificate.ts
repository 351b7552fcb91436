import { posix } from "node:path";
import { stripVTControlCharacters } from "node:util";
import type Docker from "dockerode";
import { dockerClient, ifPresent } from "../docker/client";
import { exec } from "../docker/exec";
import { getFile, putFile } from "../docker/files";
import { IncompleteError, type ResourceType } from "./resource-type";
import { writeFile } from "./traefik-file";

/** A certificate that the proxy gets by itself from an ACME server, and renews. */
export interface AcmeCertificateInputs {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  /** Name of the proxy's container. */
  container: string;
  /** Its id: a container made anew may not have the certificate. */
  containerId: string;
  /** The folder that the proxy watches; all that is written here is there. */
  folder: string;
  /** The name of the resolver in the proxy's arguments. */
  resolver: string;
  /** Name of the file in which the proxy keeps the certificates that it got. */
  storage: string;
  /** The DNS name that the certificate is for, such as `*.pgs.example.com`. */
  domain: string;
  /** Files that the resolver's settings name, contents by name; a secret. */
  files: Record<string, string>;
  /** Absolute path of the folder that they are in, `acme-VERSION` in `folder`. */
  filesFolder: string;
}

/** How long the proxy may take, in seconds: some DNS providers' records count only after minutes. */
const timeout = 600;

export const AcmeCertificate: ResourceType<AcmeCertificateInputs> = {
  updatable: ["container", "containerId", "resolver", "storage", "domain", "files", "filesFolder"],
  replacing: ["host", "folder"],

  async create(inputs) {
    await bringAbout(inputs);
    return { id: `${inputs.container}:${inputs.resolver}`, state: inputs };
  },

  async read(_id, state) {
    const container = containerOf(state);
    if (!(await ifPresent(container.inspect()))) return undefined;
    const complete =
      (await isIssued(state)) &&
      (await hasFiles(state)) &&
      (await getFile(container, posix.join(state.folder, orderFile))) === order(state);
    // Whatever is not there is brought about again by the next `up`.
    return complete ? state : { ...state, containerId: "" };
  },

  async update(_id, _state, inputs) {
    await bringAbout(inputs);
    return inputs;
  },

  async delete(_id, state) {
    // The storage stays: a CA gives out only so many certificates a week, and the stack may come back to it.
    const info = await ifPresent(containerOf(state).inspect());
    if (info?.State.Running) await shell(state, `rm -rf ${orderFile} acme-*/`);
  },
};

const orderFile = "acme.yml";

/** Asks for the certificate, and has the proxy show it. https://doc.traefik.io/traefik/reference/routing-configuration/http/tls/tls-certificates/#acme-default-certificate */
function order({ resolver, domain }: AcmeCertificateInputs): string {
  const store = { defaultGeneratedCert: { resolver, domain: { main: domain } } };
  return `${JSON.stringify({ tls: { stores: { default: store } } })}\n`;
}

async function bringAbout(inputs: AcmeCertificateInputs): Promise<void> {
  try {
    await writeFiles(inputs);
    const seen = new Set(await logOf(inputs));
    if (!(await isIssued(inputs))) {
      // An order that failed is tried again only when the proxy sees another configuration.
      await shell(inputs, `rm -f ${orderFile}`);
      await sleep(1000);
    }
    await writeFile({ ...inputs, path: posix.join(inputs.folder, orderFile), content: order(inputs) });
    await waitForCertificate(inputs, seen);
  } catch (error) {
    // A proxy made anew would take it up before it has its new files, and remember what it then lacked.
    await shell(inputs, `rm -f ${orderFile}`).catch(() => {});
    const id = `${inputs.container}:${inputs.resolver}`;
    throw new IncompleteError(id, { ...inputs, containerId: "" }, error as Error);
  }
}

/** @throws with what the proxy's log says; until then it shows the certificate that it had */
async function waitForCertificate(inputs: AcmeCertificateInputs, seen: Set<string>): Promise<void> {
  const deadline = Date.now() + timeout * 1000;
  while (!(await isIssued(inputs))) {
    const failure = (await logOf(inputs)).find((line) => !seen.has(line) && /\bERR\b.*acme/i.test(line));
    if (failure || Date.now() > deadline) {
      throw new Error(
        `the proxy got no certificate for ${inputs.domain}: ${failure ? hidden(failure, inputs) : `nothing came in ${timeout} s`}. ` +
          `Look at pgs:acme and pgs:acmeCredentials, and at \`docker logs ${inputs.container}\`; the next up tries again`,
      );
    }
    await sleep(500);
  }
}

/** What was said of an address or a request may have a credential in it. */
function hidden(line: string, { files }: AcmeCertificateInputs): string {
  return Object.values(files)
    .filter((value) => value.trim() !== "")
    .reduce((text, value) => text.replaceAll(value.trim(), "[secret]"), line.replace(/^.*?\bERR\b\s*/, ""));
}

/** Whether the proxy has got a certificate for this domain. */
async function isIssued({
  host,
  container,
  folder,
  storage,
  resolver,
  domain,
}: AcmeCertificateInputs): Promise<boolean> {
  const text = await getFile(dockerClient(host).getContainer(container), posix.join(folder, storage));
  type Storage = Record<string, { Certificates?: { domain: { main: string } }[] | null } | undefined>;
  try {
    const stored = (JSON.parse(text ?? "{}") as Storage)[resolver]?.Certificates ?? [];
    return stored.some((certificate) => certificate.domain.main === domain);
  } catch {
    // The proxy is just writing it.
    return false;
  }
}

async function logOf(inputs: AcmeCertificateInputs): Promise<string[]> {
  const log = await containerOf(inputs).logs({ stdout: true, stderr: true, tail: 200 });
  // Colours are between its words.
  return stripVTControlCharacters(log.toString("utf8")).split("\n");
}

/** All at once: a proxy that found some of them would go on without the others. Those of former versions go. */
async function writeFiles(inputs: AcmeCertificateInputs): Promise<void> {
  const name = posix.basename(inputs.filesFolder);
  if (!(await hasFiles(inputs))) {
    const temporary = `.${name}.new`;
    await shell(inputs, `rm -rf ${temporary} ${name} && mkdir -m 700 ${temporary}`);
    for (const [file, content] of Object.entries(inputs.files)) {
      await putFile(containerOf(inputs), posix.join(inputs.folder, temporary), file, content);
    }
    await shell(inputs, `mv ${temporary} ${name}`);
  }
  await shell(inputs, `for folder in acme-*/; do [ "$folder" = ${name}/ ] || rm -rf "$folder"; done`);
}

async function hasFiles(inputs: AcmeCertificateInputs): Promise<boolean> {
  const found = await Promise.all(
    Object.entries(inputs.files).map(
      async ([name, content]) =>
        (await getFile(containerOf(inputs), posix.join(inputs.filesFolder, name))) === content,
    ),
  );
  return found.every(Boolean);
}

/** Runs a shell command in the folder that the proxy watches. */
async function shell(inputs: AcmeCertificateInputs, command: string): Promise<void> {
  const script = `cd ${inputs.folder} && ${command}`;
  const { code, stderr } = await exec(containerOf(inputs), ["sh", "-c", script]);
  if (code !== 0) throw new Error(`cannot change the files of ${inputs.container}: ${stderr.trim()}`);
}

function containerOf(inputs: AcmeCertificateInputs): Docker.Container {
  return dockerClient(inputs.host).getContainer(inputs.container);
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
