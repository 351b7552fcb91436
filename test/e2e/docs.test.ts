import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { blocksOf, commandsOf, pages } from "../unit/support/docs";
import { Checkout } from "./support/checkout";
import { run, succeed } from "./support/command";

const root = join(__dirname, "..", "..");
const domain = "pgs.example.com";

let checkout: Checkout;

/** Who reads a page has the sample's tenants, and has changed nothing else. */
async function beginPage(): Promise<void> {
  checkout = await Checkout.create(readFileSync(join(root, "tenants.yaml"), "utf8"), { domain });
  await checkout.up();
  await writePasswords();
  // What the pages take for granted beside the stack.
  checkout.write("password.txt", "chosen-by-the-operator\n");
  checkout.write("init/hooli.sql", "CREATE TABLE projects (name text);\n");
  const folder = join(checkout.folder, "live", domain);
  mkdirSync(folder, { recursive: true });
  await succeed("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90"],
    ...["-subj", "/CN=operator", "-addext", `subjectAltName=DNS:*.${domain}`],
    ...["-keyout", join(folder, "privkey.pem"), "-out", join(folder, "fullchain.pem")],
  ]);
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
    .replaceAll("pgs.localhost", domain)
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

describe.each(pages)("%s", (page) => {
  const tried = blocksOf(page).filter((block) => commandsOf(block) !== "" && !block.untried);
  if (tried.length === 0) return;
  beforeAll(beginPage);
  afterAll(() => checkout?.remove());

  test.each(tried)("$at", async (block) => {
    const { code, output } = await run("bash", ["-euo", "pipefail", "-c", here(commandsOf(block))], {
      cwd: checkout.folder,
      env: {
        ...checkout.env,
        PATH: `${dirname(process.env.PSQL18 ?? "")}:${process.env.PATH}`,
        PGHOSTADDR: "127.0.0.1",
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
