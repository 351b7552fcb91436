import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { blocksOf, commandsOf, pages } from "../unit/support/docs";
import { Checkout, withBackups } from "./support/checkout";
import { run, succeed } from "./support/command";

const root = join(__dirname, "..", "..");

let checkout: Checkout;
let domain: string;

/** Who reads a page has the sample's tenants, and has changed nothing else. */
async function beginPage(page: string): Promise<void> {
  const text = readFileSync(join(root, page), "utf8");
  domain = /host[ =]\S*pgs\.example\.com/.test(text) ? "pgs.example.com" : "pgs.localhost";
  const sample = readFileSync(join(root, "tenants.yaml"), "utf8");
  // The page on another major version adds a tenant by hand.
  const tenants = text.includes("acme-next") ? `${sample}\n  acme-next: {}\n` : sample;
  const backups = page === "docs/backups.md" ? withBackups : {};
  checkout = await Checkout.create(tenants, { domain, ...backups });
  await checkout.up();
  await writePasswords();
  // What the pages take for granted beside the stack.
  checkout.write("password.txt", "chosen-by-the-operator\n");
  checkout.write("init/umbrella.sql", "CREATE TABLE projects (name text);\n");
  await checkout.caFile();
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

describe.each(pages.filter((page) => triedOf(page).length > 0))("%s", (page) => {
  beforeAll(() => beginPage(page));
  afterAll(() => checkout?.remove());

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
      timeout: 280,
    });
    expect(code, output).toBe(0);
    checkout.forgetOutputs();
  });
});
