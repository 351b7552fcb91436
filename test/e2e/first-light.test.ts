import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { copyProject, freePort, removeLeftovers, runPrefix } from "./support/checkout";
import { type Options, run, succeed } from "./support/command";
import { psql } from "./support/psql";

const prefix = `${runPrefix}-fl`;
let folder: string;
let port: number;
let options: Options;

/** A shell as an operator has it: no backend of its own, and psql on the PATH. */
const shell = (script: string) => run("bash", ["-c", script], options);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "pgs first light "));
  await copyProject(folder);
  port = await freePort();
  const { PULUMI_BACKEND_URL, PULUMI_CONFIG_PASSPHRASE_FILE, PULUMI_HOME, ...rest } = process.env;
  options = {
    cwd: folder,
    env: { ...rest, PATH: `${dirname(psql[18])}:${rest.PATH}`, NO_COLOR: "1" },
    timeout: 600,
  };
});
afterAll(async () => {
  await shell('eval "$(./pgs env)" && pulumi destroy --yes --skip-preview --non-interactive');
  await removeLeftovers(prefix);
  rmSync(folder, { recursive: true, force: true });
});

test("setup --check says what a fresh clone lacks, and changes nothing", async () => {
  const result = await shell("./pgs setup --check");
  expect(result.code).toBe(1);
  expect(result.output).toMatch(/npm packages/);
  expect(existsSync(join(folder, "node_modules"))).toBe(false);
  expect(existsSync(join(folder, ".pulumi-state"))).toBe(false);
});

test("./pgs up sets up and brings up the sample: three tenants, one of them with its access off", async () => {
  // The sample's own prefix and port may be in use on this machine.
  await expectOk(
    `eval "$(./pgs env)" && pulumi config set prefix ${prefix} && pulumi config set port ${port}`,
  );
  const up = await expectOk("./pgs up");
  for (const id of ["acme", "globex", "initech"])
    expect(up).toMatch(new RegExp(`^✓ ${id} +created +[0-9.]+ s  ready$`, "m"));
  const list = await expectOk("./pgs list");
  expect(list).toMatch(/TENANT +HOST +PORT +ACCESS +STATE/);
  expect(list).toMatch(new RegExp(`^acme +acme\\.pgs\\.localhost +${port} +on +running `, "m"));
  expect(list).toMatch(new RegExp(`^globex +globex\\.pgs\\.localhost +${port} +on +running `, "m"));
  expect(list).toMatch(new RegExp(`^initech +initech\\.pgs\\.localhost +${port} +off +running `, "m"));
});

test("the psql line that it prints works as printed", async () => {
  const list = await expectOk("./pgs list");
  const line = /Log in: +(.*psql.*)/.exec(list)?.[1] ?? "";
  expect(line).toMatch(/psql "host=acme\.pgs\.localhost/);
  const result = await run("bash", ["-c", `${line} -Atc 'SELECT current_database()'`], options);
  expect(result.stderr).toBe("");
  expect(result.stdout).toBe("acme\n");
});

test("./pgs url gives a connection string that logs in as it is, whether the name resolves or not, and an unknown tenant is an error", async () => {
  const url = (await expectOk("./pgs url globex")).trim();
  const result = await run(psql[18], [url, "-Atc", "SELECT count(*) > 0 FROM pg_tables"], options);
  expect(result.stdout).toBe("t\n");
  const unknown = await shell("./pgs url nobody");
  expect(unknown.code).toBe(2);
  expect(unknown.stderr).toMatch(/there is no tenant nobody; there are acme, globex, initech/);
});

test("the sample's init script has run", async () => {
  const url = (await expectOk("./pgs url globex")).trim();
  const tables = await succeed(
    psql[18],
    [url, "-Atc", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"],
    options,
  );
  expect(Number(tables)).toBeGreaterThan(0);
});

test("run again, it changes nothing", async () => {
  const state = () =>
    succeed("docker", [
      "ps",
      "-a",
      "--filter",
      `name=^${prefix}-`,
      "--format",
      "{{.ID}} {{.Names}} {{.CreatedAt}}",
    ]);
  const before = await state();
  const again = await expectOk("./pgs up");
  expect(again).toBe("No changes (3 tenants).\n");
  expect(await state()).toBe(before);
});

test("state and passphrase are the checkout's own, hidden from others and from git", async () => {
  const passphrase = join(folder, ".pulumi-state", "passphrase");
  expect(statSync(passphrase).mode & 0o777).toBe(0o600);
  expect(readFileSync(passphrase, "utf8").trim().length).toBeGreaterThanOrEqual(32);
  await expectOk("git init --quiet . && git check-ignore .pulumi-state/passphrase Pulumi.dev.yaml");
});

async function expectOk(script: string): Promise<string> {
  const result = await shell(script);
  expect(result.code, result.output).toBe(0);
  return result.stdout;
}
