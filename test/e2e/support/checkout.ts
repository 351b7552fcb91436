import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { Client, type ClientConfig } from "pg";
import { Document } from "yaml";
import type { TenantSummaries } from "../../../cli/lib/stack";
import { type Options, type Result, run, succeed } from "./command";

const root = join(__dirname, "..", "..", "..");

/** Of this run of the tests: script/test removes whatever carries it, also after a failure. */
export const runPrefix = process.env.PGS_TEST_PREFIX ?? "pgst";

/** For `create`: the project's own default. */
export const withBackups = { "backups.schedule": undefined };

interface Outputs {
  connectionStrings: Record<string, string>;
  roleConnectionStrings: Record<string, Record<string, string>>;
  tenants: TenantSummaries;
  caCertificate: string;
}

/**
 * A copy of the project with a stack, state, prefix and port of its own, worked on by plain Pulumi commands.
 */
export class Checkout {
  private knownOutputs: Promise<Outputs> | undefined;
  /** Seconds after which a client of node-postgres gives up its login. */
  loginSeconds = 15;
  /** Where clients reach the public port. */
  address = "127.0.0.1";

  private constructor(
    readonly folder: string,
    readonly prefix: string,
    public port: number,
    readonly env: NodeJS.ProcessEnv,
  ) {}

  /**
   * @param config over the stack's own; undefined leaves a key as the project has it. Backups are off, as few tests
   * are about them and each tenant's take some seconds.
   */
  static async create(
    tenants: string,
    config: Record<string, string | undefined> = {},
    env: NodeJS.ProcessEnv = {},
  ): Promise<Checkout> {
    const folder = mkdtempSync(join(tmpdir(), "pgs-e2e-"));
    await copyProject(folder);
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
    mkdirSync(join(folder, "state"));
    const checkout = new Checkout(folder, `${runPrefix}-${randomLetters(4)}`, await freePort(), {
      ...process.env,
      PULUMI_BACKEND_URL: `file://${join(folder, "state")}?metadata=skip`,
      PULUMI_CONFIG_PASSPHRASE: "for these tests",
      PULUMI_CONFIG_PASSPHRASE_FILE: undefined,
      NO_COLOR: "1",
      ...env,
    });
    checkout.write("tenants.yaml", tenants);
    const settings = {
      prefix: checkout.prefix,
      port: String(checkout.port),
      "backups.schedule": "off",
      ...config,
    };
    // One command less than by `pulumi config`: there are half a hundred stacks.
    const file = new Document({ config: {} });
    for (const [key, value] of Object.entries(settings)) {
      // "docker:host" says its provider itself.
      const [first = "", ...rest] = key.split(".");
      const name = first.includes(":") ? first : `pgs:${first}`;
      if (value !== undefined) file.setIn(["config", name, ...rest], value);
    }
    checkout.write("Pulumi.dev.yaml", file.toString());
    await checkout.pulumi("stack", "init", "dev");
    return checkout;
  }

  /** Goes on with the code of a commit, or with today's; tenants, configuration and state stay. */
  async useCode(commit?: string): Promise<void> {
    const tenants = readFileSync(join(this.folder, "tenants.yaml"), "utf8");
    const kept = ["state", "Pulumi.dev.yaml"];
    for (const name of readdirSync(this.folder).filter((name) => !kept.includes(name))) {
      rmSync(join(this.folder, name), { recursive: true, force: true });
    }
    if (commit === undefined) await copyProject(this.folder);
    else {
      const archive = join(this.folder, "code.tar");
      await succeed("git", ["archive", "--output", archive, commit], { cwd: root });
      await succeed("tar", ["-C", this.folder, "-xf", archive]);
      rmSync(archive);
    }
    if (isDeepStrictEqual(packages(this.folder), packages(root))) {
      symlinkSync(join(root, "node_modules"), join(this.folder, "node_modules"));
    }
    // Images of another version, and its packages.
    await succeed("toolchain/setup", [], this.options());
    this.write("tenants.yaml", tenants);
  }

  /** After something else than the methods below may have changed the stack. */
  forgetOutputs(): void {
    this.knownOutputs = undefined;
  }

  /** Runs `./pgs`, which may change the stack. @param env beside the checkout's own */
  pgs(args: string[], { env, stdin }: { env?: NodeJS.ProcessEnv; stdin?: string } = {}): Promise<Result> {
    if (!["list", "preview", "doctor", "backups", "alerts"].includes(args[0] ?? "")) this.forgetOutputs();
    return run("./pgs", args, { ...this.options(), env: { ...this.env, ...env }, stdin });
  }

  /** Runs `./pgs`, which must succeed. @returns its standard output */
  async succeedPgs(...args: string[]): Promise<string> {
    const { code, stdout, output } = await this.pgs(args);
    if (code !== 0) throw new Error(`./pgs ${args.join(" ")} ended with ${code}:\n${output}`);
    return stdout;
  }

  private forget(args: string[]): void {
    if (!["preview", "config"].includes(args[0] ?? "") && args[1] !== "output") this.forgetOutputs();
  }

  write(path: string, text: string): void {
    mkdirSync(join(this.folder, path, ".."), { recursive: true });
    writeFileSync(join(this.folder, path), text);
  }

  /** A Pulumi command that must succeed. @returns its standard output */
  async pulumi(...args: string[]): Promise<string> {
    this.forget(args);
    return succeed("pulumi", [...args, "--non-interactive"], this.options());
  }

  async tryPulumi(...args: string[]): Promise<Result> {
    this.forget(args);
    return run("pulumi", [...args, "--non-interactive"], this.options());
  }

  async up(...args: string[]): Promise<string> {
    return this.pulumi("up", "--yes", "--skip-preview", ...args);
  }

  async tryUp(...args: string[]): Promise<Result> {
    return this.tryPulumi("up", "--yes", "--skip-preview", ...args);
  }

  /** An edit of tenants.yaml, applied. */
  async apply(tenants: string, ...options: string[]): Promise<string> {
    this.write("tenants.yaml", tenants);
    return this.up(...options);
  }

  async tryApply(tenants: string, ...options: string[]): Promise<Result> {
    this.write("tenants.yaml", tenants);
    return this.tryUp(...options);
  }

  async tenants(): Promise<TenantSummaries> {
    return (await this.outputs()).tenants;
  }

  /** @param role one of the tenant's entry; without it, its superuser */
  async connectionString(id: string, role?: string): Promise<string> {
    const { connectionStrings, roleConnectionStrings } = await this.outputs();
    return (role === undefined ? connectionStrings[id] : roleConnectionStrings[id]?.[role]) ?? "";
  }

  /** The stack's outputs, secrets too; asked again only after a command that may have changed them. */
  private outputs(): Promise<Outputs> {
    this.knownOutputs ??= this.pulumi("stack", "output", "--json", "--show-secrets").then((text) =>
      JSON.parse(text),
    );
    return this.knownOutputs;
  }

  async password(id: string, role?: string): Promise<string> {
    return decodeURIComponent(new URL(await this.connectionString(id, role)).password);
  }

  /** Path of a file with the stack's CA certificate. */
  async caFile(): Promise<string> {
    this.write("ca.pem", (await this.outputs()).caCertificate);
    return join(this.folder, "ca.pem");
  }

  /** Settings for node-postgres: it verifies the certificate, as `sslmode=verify-full` would. */
  async clientConfig(id: string, role?: string): Promise<ClientConfig> {
    const url = new URL(await this.connectionString(id, role));
    return {
      host: this.address,
      port: Number(url.port),
      user: url.username,
      password: decodeURIComponent(url.password),
      database: url.pathname.slice(1),
      connectionTimeoutMillis: this.loginSeconds * 1000,
      ssl: { servername: url.hostname, ca: (await this.outputs()).caCertificate },
    };
  }

  /** One session of node-postgres, in the tenant's database unless another is named. */
  async client(id: string, database?: string, role?: string): Promise<Client> {
    return connect({ ...(await this.clientConfig(id, role)), ...(database && { database }) });
  }

  /** Runs SQL as the tenant, over the public port. @returns the last statement's rows */
  async query(id: string, sql: string, role?: string): Promise<Record<string, unknown>[]> {
    return rowsOf(await this.clientConfig(id, role), sql);
  }

  /** Name of a tenant's container, volume and network, or its namespace; of the proxy's with `proxy`. */
  name(id: string): string {
    return `${this.prefix}-${id}`;
  }

  options(): Options {
    return { cwd: this.folder, env: this.env, timeout: 900 };
  }

  /** Takes away all that this stack made, its data too. */
  async remove(): Promise<void> {
    await removeLeftovers(this.prefix);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A session of node-postgres. */
export async function connect(config: ClientConfig): Promise<Client> {
  const client = new Client(config);
  client.on("error", () => {});
  await client.connect();
  return client;
}

/** Runs SQL in a session of its own. @returns the last statement's rows */
export async function rowsOf(config: ClientConfig, sql: string): Promise<Record<string, unknown>[]> {
  const client = await connect(config);
  try {
    const result = await client.query(sql);
    return Array.isArray(result) ? result.at(-1).rows : result.rows;
  } finally {
    await client.end();
  }
}

/** What git tracks or would track, as it is in the working tree. */
export async function copyProject(folder: string): Promise<void> {
  const files = await succeed("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: root,
  });
  await succeed(
    "tar",
    ["-C", root, "--null", "--ignore-failed-read", "-T", "-", "-cf", join(folder, ".copy.tar")],
    {
      stdin: files,
    },
  );
  await succeed("tar", ["-C", folder, "-xf", join(folder, ".copy.tar")]);
  rmSync(join(folder, ".copy.tar"));
}

/** Removes containers, networks and volumes whose names start with `prefix-`, and nothing else. */
export async function removeLeftovers(prefix: string): Promise<void> {
  const kinds: [string, string[], string[]][] = [
    ["container", ["ls", "-a", "--format", "{{.Names}}"], ["rm", "-f", "-v"]],
    ["network", ["ls", "--format", "{{.Name}}"], ["rm"]],
    ["volume", ["ls", "--format", "{{.Name}}"], ["rm", "-f"]],
  ];
  for (const [kind, list, remove] of kinds) {
    const names = (await succeed("docker", [kind, ...list])).split("\n");
    const ours = names.filter((name) => name.startsWith(`${prefix}-`));
    // The engine takes a third of a second for each, mostly waiting: two hundred by sixteen calls at a time.
    await Promise.all(
      Array.from({ length: 16 }, (_, lane) => ours.filter((_, index) => index % 16 === lane))
        .filter((names) => names.length > 0)
        .map((names) => succeed("docker", [kind, ...remove, ...names])),
    );
  }
}

/** Below those that the kernel gives to outgoing connections: one may take a port while its proxy is away. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.on("error", () => resolve(false));
      server.listen(port, "0.0.0.0", () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

/** What package-lock.json installs, its own project left out. */
function packages(folder: string): unknown {
  const { "": _, ...others } = JSON.parse(readFileSync(join(folder, "package-lock.json"), "utf8")).packages;
  return others;
}

function randomLetters(count: number): string {
  return Array.from({ length: count }, () => String.fromCharCode(97 + Math.floor(Math.random() * 26))).join(
    "",
  );
}
