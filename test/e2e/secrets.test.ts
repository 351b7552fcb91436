import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { run, succeed } from "./support/command";
import { login, psql } from "./support/psql";

const tenants = (access: boolean, version = 1) => `
tenants:
  acme: { access: ${access}, passwordVersion: ${version}, roles: { app: { passwordVersion: ${version} } } }
  own: { roles: { app: {} } }
`;
const chosen = "Chosen+by/the=operator 1";

let checkout: Checkout;
/** All that Pulumi printed on the way. */
let printed = "";
let passwords: string[];

beforeAll(async () => {
  checkout = await Checkout.create(tenants(true));
  for (const key of ["own", "own/app"])
    await checkout.pulumi("config", "set", "--secret", "--path", `pgs:passwords.${key}`, chosen);
  printed += await checkout.pulumi("preview", "--diff");
  printed += await checkout.up();
  passwords = [await checkout.password("acme"), chosen, await checkout.password("acme", "app")];
  checkout.write("tenants.yaml", tenants(false, 2));
  printed += await checkout.pulumi("preview", "--diff");
  printed += (await checkout.tryUp("--diff")).output;
  checkout.write("tenants.yaml", tenants(true, 2));
  printed += await checkout.up();
  printed += await checkout.pulumi("refresh", "--yes", "--skip-preview", "--diff");
  passwords.push(await checkout.password("acme"), await checkout.password("acme", "app"));
  // A statement of the operator's own that fails is logged by the server: nothing of ours may be near it.
  await login(checkout, psql[18], "acme", { dbname: "missing" });
});
afterAll(() => checkout?.remove());

/** The passwords and what is derived from them. */
async function secrets(): Promise<string[]> {
  const verifiers = await Promise.all(
    ["acme", "own"].map((id) =>
      checkout.query(id, "SELECT rolpassword FROM pg_authid WHERE rolname IN ('postgres', 'app')"),
    ),
  );
  return [...passwords, ...verifiers.flat().map(({ rolpassword }) => String(rolpassword))];
}

async function expectNoSecret(text: string): Promise<void> {
  expect(text.length).toBeGreaterThan(0);
  for (const secret of await secrets()) {
    for (const form of [secret, encodeURIComponent(secret), Buffer.from(secret).toString("base64")]) {
      expect(text.includes(form), `a secret stands in ${text.slice(0, 80)}…`).toBe(false);
    }
  }
}

test("a rotated password differs, the operator's own is taken, and each logs in", async () => {
  expect(new Set(passwords).size).toBe(5);
  for (const role of [undefined, "app"]) {
    expect(await checkout.password("own", role)).toBe(chosen);
    await checkout.query("own", "SELECT 1", role);
    await checkout.query("acme", "SELECT 1", role);
  }
});

test("the server holds a SCRAM verifier", async () => {
  const verifiers = (await secrets()).slice(5);
  expect(verifiers).toHaveLength(4);
  for (const verifier of verifiers) expect(verifier).toMatch(/^SCRAM-SHA-256\$4096:/);
});

test("no secret in what docker inspect says of containers, volumes and networks", async () => {
  for (const kind of ["container", "volume", "network"]) {
    const ids = kind === "container" ? ["acme", "own", "proxy", "-cancel"] : ["acme", "own", "proxy"];
    const names = ids.map((id) => checkout.name(id));
    await expectNoSecret(await succeed("docker", [kind, "inspect", ...names]));
  }
});

test("no secret in the environment or the arguments of any process in a container", async () => {
  for (const id of ["acme", "own", "proxy", "-cancel"]) {
    await expectNoSecret(
      await succeed("docker", [
        "exec",
        "--user",
        "0",
        checkout.name(id),
        "sh",
        "-c",
        "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; true",
      ]),
    );
  }
});

test("no secret in any container's log", async () => {
  for (const id of ["acme", "own"])
    await expectNoSecret((await run("docker", ["logs", checkout.name(id)])).output);
  for (const id of ["proxy", "-cancel"]) {
    const { output } = await run("docker", ["logs", checkout.name(id)]);
    await expectNoSecret(`${id}: ${output}`);
  }
});

test("no secret in what preview, up and refresh print, nor in the outputs without --show-secrets", async () => {
  await expectNoSecret(printed);
  await expectNoSecret(await checkout.pulumi("stack", "output", "--json"));
});

test("no secret in the clear in the state, its backups and history, or the stack's configuration", async () => {
  const files = readdirSync(join(checkout.folder, "state"), { recursive: true, encoding: "utf8" })
    .map((name) => join(checkout.folder, "state", name))
    .filter((path) => statSync(path).isFile());
  expect(files.length).toBeGreaterThan(3);
  for (const path of [...files, join(checkout.folder, "Pulumi.dev.yaml")]) {
    await expectNoSecret(readFileSync(path, "utf8"));
  }
});

test("no secret in the route files; the certificate's key is readable by the proxy alone", async () => {
  const folder = "/etc/traefik/dynamic";
  const read = (command: string) => succeed("docker", ["exec", checkout.name("proxy"), "sh", "-c", command]);
  await expectNoSecret(await read(`cat ${folder}/*`));
  expect(await read(`stat -c '%a %u' ${folder}/certificate.yml`)).toBe("600 0\n");
});

test("only the authorised reader of the stack gets the password", async () => {
  const masked = JSON.parse(await checkout.pulumi("stack", "output", "connectionStrings", "--json"));
  expect(masked).toBe("[secret]");
  expect(await checkout.connectionString("acme")).toContain(passwords[3]);
});
