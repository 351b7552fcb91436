import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { blocksOf, commandsOf, pages } from "../unit/support/docs";
import { Checkout } from "./support/checkout";
import { run, succeed } from "./support/command";
import { inspect } from "./support/inside";

const root = join(__dirname, "..", "..");

const sample = readFileSync(join(root, "tenants.yaml"), "utf8");

/** The stack that the pages of one domain share. */
let checkout: Checkout;
let domain = "";
/** What the stack has before a page changes it. */
let fresh: { config: string; volumes: string[] };
/** The stack as the sample has it: a page that leaves it so has nothing to be taken back. */
let untouched = "";

const domainOf = (page: string) =>
  /host[ =]\S*pgs\.example\.com/.test(readFileSync(join(root, page), "utf8"))
    ? "pgs.example.com"
    : "pgs.localhost";
const file = (name: string) => readFileSync(join(checkout.folder, name), "utf8");
const volumes = async () =>
  (await succeed("docker", ["volume", "ls", "--format", "{{.Name}}"]))
    .split("\n")
    .filter((name) => name.startsWith(`${checkout.prefix}-`));

/** Configuration, tenants, what Pulumi knows, and the containers since they were started. */
async function stackAsItIs(): Promise<string> {
  const names = (await succeed("docker", ["ps", "--format", "{{.Names}}"]))
    .split("\n")
    .filter((name) => name.startsWith(`${checkout.prefix}-`));
  const containers = await Promise.all(names.sort().map(inspect));
  const files = ["Pulumi.dev.yaml", "tenants.yaml", "state/.pulumi/stacks/pgs/dev.json"];
  return [...files.map(file), ...containers.map(({ Id, State }) => `${Id} ${State.StartedAt}`)].join("\n");
}

/** Who reads a page has the sample's tenants, and has changed nothing else. */
async function beginPage(page: string): Promise<void> {
  if (domainOf(page) === domain) await takeBack();
  else await makeStack(domainOf(page));
  // The page on another major version adds a tenant by hand.
  if (readFileSync(join(root, page), "utf8").includes("acme-next"))
    await checkout.apply(`${sample}\n  acme-next: {}\n`);
  await writePasswords();
  await checkout.caFile();
}

async function makeStack(ofPages: string): Promise<void> {
  await checkout?.remove();
  domain = ofPages;
  checkout = await Checkout.create(sample, { domain });
  await checkout.up();
  fresh = { config: file("Pulumi.dev.yaml"), volumes: await volumes() };
  untouched = await stackAsItIs();
  // What the pages take for granted beside the stack.
  checkout.write("password.txt", "chosen-by-the-operator\n");
  checkout.write("init/umbrella.sql", "CREATE TABLE projects (name text);\n");
  const folder = join(checkout.folder, "live", domain);
  mkdirSync(folder, { recursive: true });
  await succeed("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90"],
    ...["-subj", "/CN=operator", "-addext", `subjectAltName=DNS:*.${domain}`],
    ...["-keyout", join(folder, "privkey.pem"), "-out", join(folder, "fullchain.pem")],
  ]);
  for (const file of ["privkey.pem", "fullchain.pem"])
    cpSync(join(folder, file), join(checkout.folder, file));
}

/** Whatever the page before did, data of its tenants too. */
async function takeBack(): Promise<void> {
  if ((await stackAsItIs()) === untouched) return;
  checkout.write("Pulumi.dev.yaml", fresh.config);
  await checkout.apply(sample);
  const left = (await volumes()).filter((name) => !fresh.volumes.includes(name));
  if (left.length > 0) await succeed("docker", ["volume", "rm", ...left]);
  untouched = await stackAsItIs();
}

async function writePasswords(): Promise<void> {
  const entries = await Promise.all(
    ["acme", "globex", "initech"].map(async (id) => `*:*:${id}:postgres:${await checkout.password(id)}\n`),
  );
  writeFileSync(join(checkout.folder, "pgpass"), entries.join(""), { mode: 0o600 });
}

/** In the names of this stack, which has a port and a prefix of its own. */
function here(commands: string): string {
  return commands
    .replaceAll("/etc/letsencrypt", checkout.folder)
    .replace(/\b5432\b/g, String(checkout.port))
    .replaceAll("name=^pgs-", `name=^${checkout.prefix}-`)
    .replaceAll("pulumi config set …", configured())
    .replace(/\bpgs-(?=acme|globex|initech|hooli|proxy)/g, `${checkout.prefix}-`);
}

function configured(): string {
  const settings = { domain, prefix: checkout.prefix, port: checkout.port };
  return Object.entries(settings)
    .map(([key, value]) => `pulumi config set ${key} ${value}`)
    .join("\n");
}

const triedOf = (page: string) =>
  blocksOf(page).filter((block) => commandsOf(block) !== "" && !block.untried);

const isLast = (page: string) => page === "docs/disaster.md";
/** One domain after the other. The page that makes the stack again in another state comes last. */
const tried = pages
  .filter((page) => triedOf(page).length > 0)
  .toSorted((a, b) => domainOf(a).localeCompare(domainOf(b)) || Number(isLast(a)) - Number(isLast(b)));

afterAll(() => checkout?.remove());

describe.each(tried)("%s", (page) => {
  beforeAll(() => beginPage(page));

  test.each(triedOf(page))("$at", async (block) => {
    const { code, output } = await run("bash", ["-euo", "pipefail", "-c", here(commandsOf(block))], {
      cwd: checkout.folder,
      env: {
        ...checkout.env,
        PATH: `${dirname(process.env.PSQL18 ?? "")}:${process.env.PATH}`,
        PGHOSTADDR: "127.0.0.1",
        PGPORT: String(checkout.port),
        PGPASSFILE: join(checkout.folder, "pgpass"),
        // As somebody at a terminal would answer.
        PULUMI_SKIP_CONFIRMATIONS: "true",
      },
      stdin: "an-answer-that-is-typed\n",
      timeout: 840,
    });
    expect(code, output).toBe(0);
    checkout.forgetOutputs();
  });
});
