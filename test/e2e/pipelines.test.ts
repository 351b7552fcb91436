import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Server } from "ssh2";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { Checkout } from "./support/checkout";
import { type Result, run, succeed } from "./support/command";

const chosen = "Chosen+by/the=operator 1";
const passphrase = "of the pipeline's stack";

let checkout: Checkout;
beforeAll(async () => {
  checkout = await Checkout.create(
    "tenants: { acme: { memory: 256Mi } }\n",
    {},
    { PULUMI_CONFIG_PASSPHRASE: passphrase },
  );
  await checkout.pulumi("config", "set", "--secret", "--path", "pgs:passwords.own", chosen);
  await checkout.up();
});
afterAll(() => checkout?.remove());

/** What a job has on its machine: a folder for its files, and stand-ins for what would call GitHub or GitLab. */
let machine: string;
beforeEach(() => {
  machine = mkdtempSync(join(tmpdir(), "pgs-runner-"));
  mkdirSync(join(machine, "bin"));
  // Writes down its arguments and, of the file that it would post, the text.
  for (const [name, file] of [
    ["gh", "--body-file"],
    ["curl", "--data-urlencode"],
  ]) {
    const script = `#!/bin/bash
printf '%s\\n' "$*" >"$POSTED.arguments"
while (($#)); do [[ $1 == ${file} ]] && cp "\${2#body@}" "$POSTED"; shift; done
cat >"$POSTED.stdin"
`;
    writeFileSync(join(machine, "bin", name as string), script, { mode: 0o755 });
  }
});
afterEach(() => rmSync(machine, { recursive: true, force: true }));

const posted = (what = "") => readFileSync(join(machine, `posted${what}`), "utf8");

/** The environment of a runner that has nothing but what the job gives it. */
function bareEnvironment(): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...checkout.env, POSTED: join(machine, "posted") };
  for (const name of Object.keys(env)) if (/^(PULUMI_|PGS_E|PGS_USER)/.test(name)) delete env[name];
  env.PATH = `${join(machine, "bin")}:${env.PATH}`;
  env.RUNNER_TEMP = machine;
  return env;
}

const variables = () => ({
  PGS_STACK: "dev",
  PULUMI_BACKEND_URL: checkout.env.PULUMI_BACKEND_URL as string,
});

/** One after another, as a runner's shell does: the first that fails ends it. */
async function runCommands(script: string, env: NodeJS.ProcessEnv): Promise<Result> {
  checkout.forgetOutputs();
  const file = join(machine, "step.sh");
  writeFileSync(file, script);
  return run("bash", ["--noprofile", "--norc", "-eo", "pipefail", file], {
    cwd: checkout.folder,
    env,
    timeout: 900,
  });
}

interface Step {
  name?: string;
  id?: string;
  if?: string;
  uses?: string;
  env?: Record<string, string>;
  run?: string;
}

/** What stands in `${{ … }}`, of the workflows here; anything else is a mistake. */
function expressions(): Record<string, string> {
  return {
    ...Object.fromEntries(Object.entries(variables()).map(([name, value]) => [`vars.${name}`, value])),
    "vars.PGS_SSH": "",
    "vars.PGS_KNOWN_HOSTS": "",
    "secrets.PGS_SSH_KEY": "",
    "secrets.PULUMI_ACCESS_TOKEN": "",
    "secrets.PULUMI_CONFIG_PASSPHRASE": passphrase,
    "secrets.AWS_ACCESS_KEY_ID": "",
    "secrets.AWS_SECRET_ACCESS_KEY": "",
    "github.token": "a token",
    "github.repository": "example/tenants",
    "github.event.pull_request.number": "12",
  };
}

const filledIn = (env: Record<string, string> = {}, values: Record<string, string>) =>
  Object.fromEntries(
    Object.entries(env).map(([name, text]) => [
      name,
      String(text).replace(/\$\{\{\s*(.*?)\s*\}\}/g, (_, key) => {
        if (!(key in values)) throw new Error(`the test knows no ${key}`);
        return values[key] as string;
      }),
    ]),
  );

const workflow = (name: string) =>
  parse(readFileSync(join(checkout.folder, ".github", "workflows", `${name}.yml`), "utf8"));

/** Every `run` of the workflow's job. After a failure only those that say `!cancelled()` go on. */
async function github(name: string, values = expressions()): Promise<Result> {
  const job = workflow(name).jobs[name];
  const environment = join(machine, "github-env");
  writeFileSync(environment, "");
  const whole: Result = { code: 0, stdout: "", stderr: "", output: "", seconds: 0 };
  for (const step of job.steps as Step[]) {
    if (!step.run || (whole.code !== 0 && !step.if?.includes("!cancelled()"))) continue;
    const result = await runCommands(step.run, {
      ...bareEnvironment(),
      GITHUB_ENV: environment,
      ...filledIn(job.env, values),
      ...filledIn(step.env, values),
    });
    whole.output += result.output;
    whole.code ||= result.code;
  }
  return whole;
}

/** A job of the file that the guide has for GitLab. */
async function gitlab(name: string): Promise<Result> {
  const guide = readFileSync(join(checkout.folder, "docs", "pipelines.md"), "utf8");
  const file = parse(/```yaml\n(default:[\s\S]*?)```/.exec(guide)?.[1] ?? "");
  const script = [...file.default.before_script, ...file[name].script].join("\n");
  return runCommands(script, {
    ...bareEnvironment(),
    ...variables(),
    PULUMI_CONFIG_PASSPHRASE: passphrase,
    PGS_GITLAB_TOKEN: "a token",
    CI_API_V4_URL: "https://gitlab.example.com/api/v4",
    CI_PROJECT_ID: "34",
    CI_MERGE_REQUEST_IID: "12",
    PULUMI_STACK: file.variables.PULUMI_STACK.replace("$PGS_STACK", "dev"),
  });
}

/** Nothing that is secret, however it is written. */
async function expectNoSecret(text: string): Promise<void> {
  const secrets = [chosen, passphrase, await checkout.password("acme")];
  for (const secret of secrets) {
    for (const form of [secret, encodeURIComponent(secret), Buffer.from(secret).toString("base64")]) {
      expect(text.includes(form)).toBe(false);
    }
  }
  expect(text).not.toContain("PRIVATE KEY");
}

describe.each([
  { host: "GitHub", job: github, tenant: "hooli", post: "pr comment 12 --edit-last --create-if-none" },
  {
    host: "GitLab",
    job: gitlab,
    tenant: "own",
    post: "https://gitlab.example.com/api/v4/projects/34/merge_requests/12/notes",
  },
])("$host", ({ job, tenant, post }) => {
  test("preview posts what would change, without a secret, and changes nothing", async () => {
    const text = readFileSync(join(checkout.folder, "tenants.yaml"), "utf8");
    checkout.write("tenants.yaml", text.replace(" }\n", `, ${tenant}: { passwordVersion: 2 } }\n`));
    const result = await job("preview");
    expect(result.code, result.output).toBe(0);
    expect(posted()).toMatch(/^Preview of the stack dev:\n\n {4}/);
    expect(posted()).toContain(`PgTenant::${tenant}`);
    expect(posted()).toMatch(/^ {4}.*\+ \d+ to create/m);
    expect(posted(".arguments")).toContain(post);
    await expectNoSecret(posted() + posted(".arguments") + result.output);
    expect(await succeed("docker", ["ps", "--all", "--format", "{{.Names}}"])).not.toContain(
      checkout.name(tenant),
    );
  });

  test("up applies it, and then drift finds nothing", async () => {
    const up = await job("up");
    expect(up.code, up.output).toBe(0);
    await expectNoSecret(up.output);
    await checkout.query("acme", "SELECT 1");
    await checkout.query(tenant, "SELECT 1");
    const drift = await job("drift");
    expect(drift.code, drift.output).toBe(0);
  });

  test("drift fails when a container was stopped by hand, and says which", async () => {
    await succeed("docker", ["stop", checkout.name("acme")]);
    const drift = await job("drift");
    expect(drift.code).not.toBe(0);
    expect(drift.output).toMatch(/PostgresServer::acme\]/);
    expect(drift.output).not.toMatch(new RegExp(`PostgresServer::${tenant}\\]`));
    await expectNoSecret(drift.output);
  });
});

test("a preview that fails says why in the comment, and fails the job", async () => {
  const text = readFileSync(join(checkout.folder, "tenants.yaml"), "utf8");
  checkout.write("tenants.yaml", text.replace("256Mi", "256"));
  const result = await github("preview");
  checkout.write("tenants.yaml", text);
  expect(result.code).not.toBe(0);
  expect(posted()).toMatch(/^Preview of the stack dev \*\*failed\*\*:\n\n {4}/);
  expect(posted()).toContain("tenants.yaml:1:28: tenants.acme.memory");
});

test("without a backend, up fails and touches nothing", async () => {
  const names = ["ps", "--all", "--format", "{{.Names}} {{.ID}} {{.State}}"];
  const before = await succeed("docker", [...names, "--filter", `name=^${checkout.prefix}-`]);
  const result = await github("up", { ...expressions(), "vars.PULUMI_BACKEND_URL": "" });
  rmSync(join(checkout.folder, ".pulumi-state"), { recursive: true, force: true });
  expect(result.code).not.toBe(0);
  expect(result.output).toContain("there is no stack dev: pulumi stack ls lists them");
  expect(await succeed("docker", [...names, "--filter", `name=^${checkout.prefix}-`])).toBe(before);
});

describe("the tunnel to the Docker host", () => {
  let server: Server;
  let port: number;
  let key: string;
  let hostKey: string;

  /** An SSH server that lets this one key in, and gives it the engine's socket. */
  beforeAll(async () => {
    const folder = mkdtempSync(join(tmpdir(), "pgs-ssh-"));
    const makeKey = async (name: string) => {
      const path = join(folder, name);
      await succeed("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path]);
      return { secret: readFileSync(path, "utf8"), known: readFileSync(`${path}.pub`, "utf8").trim() };
    };
    const [client, host] = [await makeKey("client"), await makeKey("host")];
    rmSync(folder, { recursive: true });
    key = client.secret;
    hostKey = host.known;
    const allowed = Buffer.from(client.known.split(" ")[1] as string, "base64");
    server = new Server({ hostKeys: [host.secret] }, (connection) => {
      connection.on("error", () => {});
      connection.on("authentication", (attempt) =>
        attempt.method === "publickey" && attempt.key.data.equals(allowed)
          ? attempt.accept()
          : attempt.reject(["publickey"]),
      );
      connection.on("openssh.streamlocal" as "tcpip", (accept, reject, info) => {
        const { socketPath } = info as unknown as { socketPath: string };
        if (socketPath !== "/var/run/docker.sock") return reject();
        const engine = connect(socketPath);
        engine.on("error", () => engine.destroy());
        const channel = accept();
        channel.pipe(engine).pipe(channel);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    port = (server.address() as AddressInfo).port;
  });
  afterAll(() => server?.close());

  const tunnel = (settings: Record<string, string>) =>
    run(".ci/docker-tunnel", [], {
      cwd: checkout.folder,
      env: { ...process.env, TMPDIR: machine, ...settings },
    });
  const settings = () => ({
    PGS_SSH: `ssh://deploy@127.0.0.1:${port}`,
    PGS_SSH_KEY: key,
    PGS_KNOWN_HOSTS: `[127.0.0.1]:${port} ${hostKey}\n`,
  });

  test("gives the job the engine, and leaves no key", async () => {
    const result = await tunnel(settings());
    expect(result.code, result.output).toBe(0);
    expect(result.stdout).toMatch(/^DOCKER_HOST=unix:\/\/.+\n$/);
    const env = { ...process.env, DOCKER_HOST: result.stdout.trim().replace("DOCKER_HOST=", "") };
    const id = ["info", "--format", "{{.ID}}"];
    expect(await succeed("docker", id, { env })).toBe(await succeed("docker", id));
    expect(
      await succeed("grep", ["-rl", "-e", "PRIVATE KEY", "--devices=skip", machine]).catch(() => ""),
    ).toBe("");
  });

  test("refuses a host that has another key", async () => {
    const other = hostKey.replace(/.{8}$/, "AAAAAAAA");
    const result = await tunnel({ ...settings(), PGS_KNOWN_HOSTS: `[127.0.0.1]:${port} ${other}` });
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/Host key verification failed|REMOTE HOST IDENTIFICATION/);
    expect(result.stdout).toBe("");
  });

  test("does nothing where none is asked for, and names what is missing", async () => {
    expect(await tunnel({})).toMatchObject({ code: 0, output: "" });
    const result = await tunnel({ ...settings(), PGS_KNOWN_HOSTS: "" });
    expect(result.code).toBe(1);
    expect(result.stderr).toContain("PGS_KNOWN_HOSTS");
  });
});
