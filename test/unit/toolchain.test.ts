import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";

const project = join(__dirname, "../..");
const versionOf = (name: string): string => {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(project, "package.json"), "utf8"));
  return { ...dependencies, ...devDependencies }[name];
};

/** What the scripts may count on; everything else (node, npm, docker, go …) a test puts there itself. */
const systemTools =
  "awk base64 bash cat chmod cut date df dirname du env find flock grep head id kill ln mkdir mktemp mv nice readlink rm rmdir sed sha256sum sleep sort tail timeout tr true uname wc xargs".split(
    " ",
  );

const rooms: string[] = [];
afterEach(() => {
  for (const room of rooms.splice(0)) rmSync(room, { recursive: true, force: true });
});

/** A checkout, a home and a PATH of its own, in a folder whose name needs quoting. */
function sandbox() {
  const room = mkdtempSync(join(tmpdir(), "pgs toolchain's "));
  rooms.push(room);
  const checkout = join(room, "check out");
  const home = join(room, "home");
  const bin = join(room, "bin");
  for (const dir of [checkout, home, bin]) mkdirSync(dir);
  for (const path of [
    "pgs",
    "cli/help.txt",
    "components/kubernetes/manifest.ts",
    "toolchain",
    "package.json",
    "package-lock.json",
    "Pulumi.yaml",
  ]) {
    cpSync(join(project, path), join(checkout, path), { recursive: true });
  }
  for (const tool of systemTools) {
    const found = (process.env.PATH ?? "").split(delimiter).find((dir) => existsSync(join(dir, tool)));
    if (found) symlinkSync(join(found, tool), join(bin, tool));
  }
  const script = (path: string, body: string) => {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `#!/usr/bin/env bash\n${body}\n`);
    chmodSync(path, 0o755);
  };
  // The machine's list of users, where Pulumi looks for a home; HOME may say something else.
  script(join(bin, "getent"), `echo "me:x:$2:$2::${home}:/bin/bash"`);
  return {
    checkout,
    home,
    cache: join(home, ".cache/pgs"),
    /** Puts a command on PATH that does what `body`, a shell script, says. */
    command: (name: string, body: string) => script(join(bin, name), body),
    script,
    run(command: string, args: string[] = [], env: Record<string, string> = {}, cwd = checkout) {
      const { status, stdout, stderr } = spawnSync(command, args, {
        cwd,
        env: { HOME: home, PATH: bin, ...env },
        encoding: "utf8",
      });
      return { status, stdout, stderr };
    },
  };
}
type Sandbox = ReturnType<typeof sandbox>;

/** A machine on which all is there, as the second road leaves it. */
function readyMachine(box = sandbox()) {
  box.command("node", "echo v20.20.0");
  box.command("npm", `echo "$*" >>${quote(join(box.home, "npm-calls"))}; mkdir -p node_modules`);
  box.command("docker", "exit 0");
  box.script(join(box.checkout, "ready"), readyScript);
  expect(box.run(join(box.checkout, "ready"))).toMatchObject({ status: 0 });
  return box;
}
const readyScript = `set -euo pipefail
root=$PWD
source toolchain/lib.sh
source toolchain/registries.sh
mkdir -p "$built_home" node_modules
go_key >"$built_home/.pgs-built"
echo registries >"$cache/road"
sha256 <package-lock.json >node_modules/.pgs-setup`;

const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** Every file below a folder with its size, to show that nothing changed. */
function listing(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .map((path) => `${path} ${statSync(path).size} ${statSync(path).mtimeMs}`)
    .sort();
}

/** The environment after `eval "$(./pgs env)"`. */
function environment(box: Sandbox, env: Record<string, string> = {}, cwd = box.checkout) {
  const result = box.run(
    "bash",
    ["-c", `set -e; lines=$(${quote(join(box.checkout, "pgs"))} env); eval "$lines"; env -0`],
    env,
    cwd,
  );
  const vars: Record<string, string> = {};
  for (const line of result.stdout.split("\0")) {
    const at = line.indexOf("=");
    if (at > 0) vars[line.slice(0, at)] = line.slice(at + 1);
  }
  return { ...result, vars };
}

describe("the environment", () => {
  it("is a local backend and a new passphrase, readable by the owner only, where the user has none", () => {
    const box = readyMachine();
    const { status, stderr, vars } = environment(box);
    const state = join(box.checkout, ".pulumi-state");
    expect(status, stderr).toBe(0);
    expect(vars.PULUMI_BACKEND_URL).toBe(`file://${state}?metadata=skip`);
    expect(vars.PULUMI_CONFIG_PASSPHRASE_FILE).toBe(join(state, "passphrase"));
    expect(readFileSync(join(state, "passphrase"), "utf8")).toMatch(/^[A-Za-z0-9]{32,}\n$/);
    expect(statSync(join(state, "passphrase")).mode & 0o777).toBe(0o600);
    expect(statSync(state).mode & 0o777).toBe(0o700);
    expect(readdirSync(state)).toEqual(["passphrase"]);
    expect(stderr).toContain(join(state, "passphrase"));
    expect(stderr).toMatch(/passwords are lost/);
  });

  it("keeps the passphrase that is there, and says nothing", () => {
    const box = readyMachine();
    environment(box);
    const file = join(box.checkout, ".pulumi-state/passphrase");
    const before = readFileSync(file, "utf8");
    expect(environment(box)).toMatchObject({ status: 0, stderr: "" });
    expect(readFileSync(file, "utf8")).toBe(before);
  });

  it("makes no second passphrase for stacks whose passphrase is gone", () => {
    const box = readyMachine();
    const state = join(box.checkout, ".pulumi-state");
    mkdirSync(join(state, ".pulumi/stacks/pgs"), { recursive: true });
    writeFileSync(join(state, ".pulumi/stacks/pgs/dev.json"), "{}");
    const { status, stderr } = environment(box);
    expect(status).toBe(1);
    expect(stderr).toContain("passphrase file");
    expect(existsSync(join(state, "passphrase"))).toBe(false);
  });

  it("leaves a backend of the user's own alone, and makes no state", () => {
    const box = readyMachine();
    const { status, vars } = environment(box, { PULUMI_BACKEND_URL: "s3://their-bucket" });
    expect(status).toBe(0);
    expect(vars.PULUMI_BACKEND_URL).toBe("s3://their-bucket");
    expect(vars.PULUMI_CONFIG_PASSPHRASE_FILE).toBeUndefined();
    expect(existsSync(join(box.checkout, ".pulumi-state"))).toBe(false);
  });

  it("keeps a login working from the home of the self-built parts", () => {
    const box = readyMachine();
    mkdirSync(join(box.home, ".pulumi"));
    writeFileSync(
      join(box.home, ".pulumi/credentials.json"),
      '{\n    "current": "https://pulumi.example"\n}',
    );
    const { vars } = environment(box);
    expect(vars.PULUMI_HOME).toBe(join(box.cache, "pulumi-home"));
    expect(vars.PULUMI_CREDENTIALS_PATH).toBe(join(box.home, ".pulumi"));
    expect(vars.PULUMI_BACKEND_URL).toBeUndefined();
    expect(vars.PULUMI_CONFIG_PASSPHRASE_FILE).toBeUndefined();
  });

  it.each(["official", "registries"])(
    "finds a login in the home that Pulumi knows, whatever HOME says, on the %s road",
    (road) => {
      const box = readyMachine();
      // The official road is taken for set up; no such login is in the folder that HOME names.
      box.script(join(box.checkout, "toolchain/setup"), "exit 0");
      const home = join(dirname(box.home), "elsewhere");
      mkdirSync(home);
      const login = join(box.home, ".pulumi");
      mkdirSync(login);
      writeFileSync(join(login, "credentials.json"), '{"current": "https://pulumi.example"}');
      const { vars } = environment(box, { HOME: home, PGS_ROAD: road });
      expect(vars.PULUMI_BACKEND_URL).toBeUndefined();
      expect(vars.PULUMI_CREDENTIALS_PATH).toBe(road === "registries" ? login : undefined);
    },
  );

  it("has a stack to configure before the first up, in a backend of its own alone", () => {
    const box = readyMachine();
    const calls = join(box.home, "pulumi-calls");
    const pulumi = join(box.cache, "pulumi-home/versions", versionOf("pulumi"), "bin/pulumi");
    const stacks = join(box.checkout, ".pulumi-state/.pulumi/stacks/pgs");
    box.script(
      pulumi,
      `echo "$*" >>${quote(calls)}; mkdir -p ${quote(stacks)}; : >${quote(join(stacks, "dev.json"))}`,
    );
    environment(box, { PULUMI_BACKEND_URL: "s3://their-bucket" });
    environment(box, { PULUMI_STACK: "prod" });
    expect(existsSync(calls)).toBe(false);
    expect(environment(box).stderr).toContain("Using the stack dev");
    expect(environment(box)).toMatchObject({ status: 0, stderr: "" });
    expect(readFileSync(calls, "utf8")).toBe("stack select --create dev --non-interactive\n");
  });

  it("says why there is no stack, and what to do where the file of another passphrase is in the way", () => {
    const box = readyMachine();
    const pulumi = join(box.cache, "pulumi-home/versions", versionOf("pulumi"), "bin/pulumi");
    const why = "could not create secrets manager for new stack: incorrect passphrase";
    box.script(pulumi, `echo 'error: ${why}' >&2; exit 1`);
    const { stderr } = environment(box);
    expect(stderr).toContain(`the stack dev could not be made: ${why}\n`);
    expect(stderr).not.toContain("another passphrase");
    writeFileSync(join(box.checkout, "Pulumi.dev.yaml"), "encryptionsalt: v1:other\n");
    const other = environment(box);
    expect(other.status).toBe(0);
    expect(other.stderr).toContain(
      "Pulumi.dev.yaml was encrypted with another passphrase. Put that one back",
    );
  });

  it("takes a login that has ended for none", () => {
    const box = readyMachine();
    mkdirSync(join(box.home, ".pulumi"));
    writeFileSync(join(box.home, ".pulumi/credentials.json"), '{"current": ""}');
    expect(environment(box).vars.PULUMI_BACKEND_URL).toContain(".pulumi-state");
  });

  it.each(["their own", ""])("leaves the user's passphrase %j alone", (passphrase) => {
    const box = readyMachine();
    const { vars } = environment(box, { PULUMI_CONFIG_PASSPHRASE: passphrase });
    expect(vars.PULUMI_CONFIG_PASSPHRASE).toBe(passphrase);
    expect(vars.PULUMI_CONFIG_PASSPHRASE_FILE).toBeUndefined();
    expect(existsSync(join(box.checkout, ".pulumi-state/passphrase"))).toBe(false);
  });

  it("does not take another checkout's state for the user's own backend", () => {
    const { PATH: _, HOME: __, ...other } = environment(readyMachine()).vars;
    const box = readyMachine();
    const { vars } = environment(box, other);
    expect(vars.PULUMI_BACKEND_URL).toBe(`file://${join(box.checkout, ".pulumi-state")}?metadata=skip`);
    expect(vars.PULUMI_CONFIG_PASSPHRASE_FILE).toBe(join(box.checkout, ".pulumi-state/passphrase"));
  });

  it("gives way to a login made after it was first evaluated", () => {
    const box = readyMachine();
    const before = environment(box).vars;
    mkdirSync(join(box.home, ".pulumi"));
    writeFileSync(join(box.home, ".pulumi/credentials.json"), '{"current": "https://pulumi.example"}');
    const { PATH: _, HOME: __, ...ours } = before;
    const { vars } = environment(box, ours);
    expect(vars.PULUMI_BACKEND_URL).toBeUndefined();
    expect(vars.PULUMI_CONFIG_PASSPHRASE_FILE).toBeUndefined();
  });

  it("is found through a symlink and from another folder, and PATH does not grow", () => {
    const box = readyMachine();
    const link = join(box.home, "link to pgs");
    symlinkSync(join(box.checkout, "pgs"), link);
    const twice = `eval "$(${quote(link)} env)"; eval "$(${quote(link)} env)"; printf %s "$PATH"`;
    const { stdout, stderr } = box.run("bash", ["-c", twice], {}, box.home);
    const own = join(box.checkout, "node_modules/.bin");
    expect(stdout.split(own), stderr).toHaveLength(2);
    expect(stdout.startsWith(join(box.cache, "pulumi-home/versions", versionOf("pulumi"), "bin"))).toBe(true);
  });
});

describe("pgs", () => {
  it("helps where nothing is set up", () => {
    const box = sandbox();
    for (const flag of ["--help", "-h", "help"]) {
      const { status, stdout, stderr } = box.run("./pgs", [flag]);
      expect(status, stderr).toBe(0);
      for (const command of "setup up preview refresh destroy env list url password".split(" ")) {
        expect(stdout).toMatch(new RegExp(`^  ${command} `, "m"));
      }
    }
  });

  it.each([
    ["--frobnicate"],
    ["frobnicate"],
    ["up preview"],
    ["env", "more"],
    ["env", "--help", "more"],
    [""],
  ])("ends with 2 on wrong usage, before anything is set up: %j", (...args) => {
    const box = sandbox();
    const before = listing(dirname(box.checkout));
    const { status, stdout, stderr } = box.run("./pgs", args);
    expect(status).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toContain("./pgs");
    expect(listing(dirname(box.checkout))).toEqual(before);
  });

  it.each(["setup", "env"])("%s has its own help, before anything is set up", (command) => {
    const box = sandbox();
    const { status, stdout, stderr } = box.run("./pgs", [command, "--help"]);
    expect(status, stderr).toBe(0);
    expect(stdout).toContain(`Usage: ./pgs ${command}`);
  });

  it("hands a command over to cli/main.ts in the checkout, with its arguments and exit code", () => {
    const box = readyMachine();
    box.command(
      "node",
      '[[ $1 != --version ]] || { echo v20.20.0; exit; }; printf "%s|" "$PWD" "$@"; exit 7',
    );
    const { status, stdout } = box.run(join(box.checkout, "pgs"), ["url", "a b"], {}, box.home);
    expect(stdout).toBe(`${box.checkout}|--require|./toolchain/preload.cjs|cli/main.ts|url|a b|`);
    expect(status).toBe(7);
  });
});

describe("setup --cluster", () => {
  it("has its own help, before anything is set up", () => {
    const { status, stdout, stderr } = sandbox().run("./pgs", ["setup", "--cluster", "--help"]);
    expect(status, stderr).toBe(0);
    expect(stdout).toContain("Usage: ./pgs setup --cluster");
  });

  it.each([
    [["sideways"], 2, "Usage: ./pgs setup --cluster"],
    [["up", "--nodes", "6"], 1, "--nodes takes 1 to 5"],
    [["down", "--nodes", "1"], 1, "cluster down knows no '--nodes'"],
  ])("refuses %j and changes nothing", (args, code, said) => {
    const box = sandbox();
    const before = listing(dirname(box.checkout));
    const { status, stderr } = box.run("./pgs", ["setup", "--cluster", ...args]);
    expect(status).toBe(code);
    expect(stderr).toContain(said);
    expect(listing(dirname(box.checkout))).toEqual(before);
  });
});

describe("setup --check", () => {
  it("says what is missing and changes nothing", () => {
    const box = sandbox();
    const before = listing(dirname(box.checkout));
    const { status, stdout, stderr } = box.run("./pgs", ["setup", "--check"]);
    expect(status).toBe(1);
    expect(stdout).toBe("");
    for (const part of ["Node.js", "npm packages", `Pulumi CLI ${versionOf("pulumi")}`])
      expect(stderr).toContain(part);
    expect(listing(dirname(box.checkout))).toEqual(before);
  });

  it("says all that the second road lacks", () => {
    const { status, stderr } = sandbox().run("./pgs", ["setup", "--check"], { PGS_ROAD: "registries" });
    expect(status).toBe(1);
    for (const part of ["Go ", "Python 3 with pip", "Images"]) expect(stderr).toContain(part);
  });

  it("ends with 0 when nothing is missing", () => {
    const box = readyMachine();
    expect(box.run("./pgs", ["setup", "--check"])).toMatchObject({ status: 0, stdout: "" });
  });

  it("misses images that are in no engine", () => {
    const box = readyMachine();
    box.command("docker", "[[ $1 != image ]]");
    const { status, stderr } = box.run("./pgs", ["setup", "--check"]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/Images +traefik:v[0-9.]+, postgres:[0-9.]+-/);
  });

  it("names the engine of the stack's own configuration when that one does not answer", () => {
    const box = readyMachine();
    box.command("docker", 'echo "cannot connect to $DOCKER_HOST" >&2; exit 1');
    writeFileSync(join(box.checkout, "Pulumi.prod.yaml"), "config:\n  docker:host: ssh://db1.example\n");
    const { status, stderr } = box.run("./pgs", ["setup", "--check", "--stack", "prod"]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/ssh:\/\/db1\.example, named by docker:host in Pulumi\.prod\.yaml/);
  });

  it("misses the parts of a toolchain that has changed since", () => {
    const box = readyMachine();
    appendFileSync(join(box.checkout, "toolchain/go/plugins/main.go"), "// changed\n");
    expect(box.run("./pgs", ["setup", "--check"]).stderr).toContain("Pulumi CLI");
  });
});

describe("setup", () => {
  it.each(["v18.20.0", "v20.10.0", "v23.0.0"])("refuses Node %s, and says which will do", (version) => {
    const box = readyMachine();
    box.command("node", `echo ${version}`);
    const { status, stderr } = box.run("./pgs", ["setup"]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/20\.11 to 22 are supported/);
    expect(existsSync(join(box.home, "npm-calls"))).toBe(false);
  });

  it.each(["v20.11.0", "v22.1.0"])("takes Node %s", (version) => {
    const box = readyMachine();
    box.command("node", `echo ${version}`);
    expect(box.run("./pgs", ["setup"])).toMatchObject({ status: 0 });
  });

  it("refuses a road that does not exist", () => {
    const { status, stderr } = sandbox().run("./pgs", ["setup"], { PGS_ROAD: "scenic" });
    expect(status).toBe(1);
    expect(stderr).toMatch(/official or registries/);
  });

  it("runs npm ci when the lock file has changed, and not again", () => {
    const box = readyMachine();
    const calls = join(box.home, "npm-calls");
    box.run("./pgs", ["setup"]);
    expect(existsSync(calls)).toBe(false);
    appendFileSync(join(box.checkout, "package-lock.json"), "\n");
    for (let i = 0; i < 2; i++) expect(box.run("./pgs", ["setup"])).toMatchObject({ status: 0, stdout: "" });
    expect(readFileSync(calls, "utf8").trim().split("\n")).toEqual([
      expect.stringMatching(/^ci --ignore-scripts/),
    ]);
  });

  it("replaces a linked node_modules, and leaves alone what it links to", () => {
    const box = readyMachine();
    const others = join(box.home, "others");
    mkdirSync(others);
    writeFileSync(join(others, "kept"), "");
    rmSync(join(box.checkout, "node_modules"), { recursive: true });
    symlinkSync(others, join(box.checkout, "node_modules"));
    expect(box.run("./pgs", ["setup"])).toMatchObject({ status: 0 });
    expect(readdirSync(others)).toEqual(["kept"]);
    expect(lstatSync(join(box.checkout, "node_modules")).isSymbolicLink()).toBe(false);
  });

  it("says how a step failed, and does it again the next time", () => {
    const box = readyMachine();
    rmSync(join(box.checkout, "node_modules/.pgs-setup"));
    box.command("npm", "echo the registry is on fire >&2; exit 3");
    const failed = box.run("./pgs", ["setup"]);
    expect(failed.status).toBe(1);
    expect(failed.stderr).toContain("the registry is on fire");
    expect(failed.stderr).toMatch(/npm ci failed .* then run this again/);
    box.command("npm", "exit 0");
    expect(box.run("./pgs", ["setup"])).toMatchObject({ status: 0 });
  });

  it("takes the official road where it is open, and remembers it", () => {
    const box = readyMachine();
    rmSync(box.cache, { recursive: true });
    officialCli(box, 'mkdir -p "$PULUMI_HOME/plugins/resource-$4-v$5"');
    expect(box.run("./pgs", ["setup"])).toMatchObject({ status: 0 });
    expect(readFileSync(join(box.cache, "road"), "utf8")).toBe("official\n");
    const plugins = ["docker", "random", "tls"].map(
      (name) => `resource-${name}-v${versionOf(`@pulumi/${name}`)}`,
    );
    expect(readdirSync(join(box.home, ".pulumi/plugins")).sort()).toEqual(plugins);
    expect(box.run("./pgs", ["setup", "--check"])).toMatchObject({ status: 0 });
    expect(environment(box).vars.PULUMI_HOME).toBeUndefined();
  });

  it("installs into the home in which Pulumi looks, whatever HOME says", () => {
    const box = readyMachine();
    rmSync(box.cache, { recursive: true });
    officialCli(box, 'mkdir -p "$PULUMI_HOME/plugins/resource-$4-v$5"');
    const HOME = join(dirname(box.home), "elsewhere");
    mkdirSync(HOME);
    const { status, stderr } = box.run("./pgs", ["setup"], { HOME });
    expect(status, stderr).toBe(0);
    expect(readdirSync(join(box.home, ".pulumi/plugins"))).toHaveLength(3);
    expect(existsSync(join(HOME, ".pulumi"))).toBe(false);
    expect(box.run("./pgs", ["setup", "--check"], { HOME })).toMatchObject({ status: 0 });
  });

  it("says that the official road is closed and what the other one lacks, and remembers neither", () => {
    const box = readyMachine();
    rmSync(box.cache, { recursive: true });
    box.command("node", "[[ $1 == --version ]] && echo v20.20.0 || { echo fetch failed >&2; exit 1; }");
    const { status, stderr } = box.run("./pgs", ["setup"]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/official road is closed here.*\(fetch failed\)/);
    expect(stderr).toMatch(/Go +not found; install Go 1\.\d+/);
    expect(stderr).toMatch(/Nothing was built\.\n$/);
    expect(existsSync(join(box.cache, "road"))).toBe(false);
  });

  it("does not leave the official road when that one is demanded", () => {
    const box = readyMachine();
    rmSync(box.cache, { recursive: true });
    box.command("node", "[[ $1 == --version ]] && echo v20.20.0 || { echo fetch failed >&2; exit 1; }");
    const { status, stderr } = box.run("./pgs", ["setup"], { PGS_ROAD: "official" });
    expect(status).toBe(1);
    expect(stderr).toMatch(/could not be downloaded \(fetch failed\).*PGS_ROAD=registries/);
  });
});

/** A `node` whose run of the npm package `pulumi` downloads a CLI, which is the shell script `cli`. */
function officialCli(box: Sandbox, cli: string) {
  const file = `"$PULUMI_HOME/versions/${versionOf("pulumi")}/bin/pulumi"`;
  box.command(
    "node",
    `[[ $1 != --version ]] || { echo v20.20.0; exit; }
mkdir -p "$(dirname ${file})"
printf '#!/usr/bin/env bash\\n%s\\n' ${quote(cli)} >${file}
chmod +x ${file}`,
  );
}
