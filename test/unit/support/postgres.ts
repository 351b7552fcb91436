import { createHash } from "node:crypto";
import type Docker from "dockerode";
import type { PostgresServerInputs, PostgresServerState } from "../../../provider/server/inputs";
import type { Inside } from "../../../provider/server/inside";
import type { RunningServer, Sight } from "../../../provider/server/part";
import { scramVerifier } from "../../../provider/server/scram";
import { Session } from "../../../provider/server/session";
import { changeFiles, engine, type FakeContainer, type FakeExec } from "./engine";

/** Settings whose change waits for a restart. */
const needRestart = new Set(["max_connections", "shared_preload_libraries", "shared_buffers"]);

/** A tenant's data and the server on it, as far as the provider asks and changes it. */
export class FakePostgres {
  inside: Omit<Inside, "certificateDigest" | "settings" | "pendingRestart"> = {
    verifier: null,
    validUntil: null,
    database: false,
    takesConnections: true,
    maintenance: "open",
    creating: false,
    unfinished: true,
    managed: [],
    libraries: "pg_stat_statements",
    extensions: [],
    roles: { note: null, owner: "postgres", found: [], defaultPrivileges: null },
    clients: "all",
    monitors: "",
    sessions: 0,
    sharedBuffers: 64 << 20,
    versions: [18],
  };
  /** postgresql.auto.conf, as it is written and as the server has read it. */
  settings: Record<string, string> = {};
  active: Record<string, string> = {};
  certificate: string | null = null;
  /** The scripts that ran in the tenant's database. */
  scripts: string[] = [];
  /** All SQL that changed something, a statement each. */
  statements: string[] = [];
  /** Versions of the extensions in the tenant's database, and the newest of the image. */
  installed: Record<string, string> = {};
  newest: Record<string, string> = { vector: "0.8.0", pg_trgm: "1.6", pg_stat_statements: "1.12" };
  /** What uses an extension. */
  users: Record<string, string> = {};
  /** What it answers to the question about itself, in place of the truth. */
  lie: string | undefined;
  /** A statement that it refuses, by its text. */
  refuses: RegExp | undefined;
  /** What `postgres -C` says; by default what it says while the server runs. */
  trial = 'FATAL:  lock file "postmaster.pid" already exists';
  /** Whether a start leaves data that is not complete. */
  kept = false;
  /** Statements and commands that came, a word each. */
  log: string[] = [];

  get pendingRestart(): string[] {
    const names = new Set([...Object.keys(this.settings), ...Object.keys(this.active)]);
    return [...names].filter((name) => needRestart.has(name) && this.settings[name] !== this.active[name]);
  }

  /** Answers as a server that runs. */
  answer(exec: FakeExec): { code?: number; stdout?: string; stderr?: string } {
    const { command, stdin } = exec;
    const [shell, , script = "", ...args] = command;
    if (command[0] === "pgs-backup") {
      this.log.push(`backup ${command[1]}`);
      return { stdout: "{}" };
    }
    if (exec.container.Name.endsWith("--pooler")) return this.signalPooler(script);
    if (shell === "bash") return this.changeAccess(script, args);
    if (script.includes("postgres -D")) return { code: 1, stderr: this.trial };
    if (script.includes("pgs-tls.pem")) {
      this.certificate = stdin === "" ? null : stdin;
      this.log.push(stdin === "" ? "remove certificate" : "write certificate");
      return {};
    }
    if (args.at(-1)?.startsWith("'")) return this.query(stdin, script.includes("sql=$(cat)"));
    return changeFiles(exec) ?? {};
  }

  private signalPooler(script: string) {
    if (script.includes("kill -USR1")) this.log.push("pause pooler");
    else if (script.includes("left=")) this.log.push("end the pause later");
    else if (script.includes("kill -HUP")) this.log.push("reload pooler");
    else if (script.includes("kill -USR2")) this.log.push("resume pooler");
    return {};
  }

  /** The container restarts, or another is started on the same data. */
  restarted(): void {
    this.active = { ...this.settings };
    this.inside.sessions = 0;
    if (this.inside.unfinished && !this.kept) {
      Object.assign(this.inside, { database: false, creating: false, verifier: null, managed: [] });
      this.settings = {};
      this.active = {};
      this.scripts = [];
    }
  }

  describe(): Inside {
    const { settings, pendingRestart, certificate, inside } = this;
    const certificateDigest =
      certificate === null ? null : createHash("sha256").update(certificate).digest("hex");
    const installed = inside.extensions.length > 0 ? this.versions(inside.extensions) : undefined;
    return {
      ...structuredClone(inside),
      ...(installed && { installed }),
      settings: { ...settings },
      pendingRestart,
      certificateDigest,
    };
  }

  private versions(names: string[]) {
    const of = (name: string) => ({
      version: this.installed[name] ?? null,
      newest: this.newest[name] ?? null,
    });
    return Object.fromEntries(names.map((name) => [name, of(name)]));
  }

  private drop(name: string) {
    if (this.users[name]) return { code: 3, stderr: `psql:<stdin>:15: ERROR:  ${this.users[name]}\n` };
    this.statements.push(`DROP EXTENSION ${name}`);
    delete this.installed[name];
    return {};
  }

  private changeAccess(script: string, [, place, line = "", monitors = ""]: string[]) {
    if (place) {
      this.inside.clients = /(\S+) scram-sha-256$/.exec(line)?.[1] ?? "reject";
      this.inside.monitors = / (\S+) scram-sha-256$/.exec(monitors)?.[1] ?? "";
      this.log.push(`admit ${this.inside.clients} ${place}`);
    } else if (script.includes("kill -TERM")) {
      this.inside.sessions = 0;
      this.log.push("end sessions");
    }
    return {};
  }

  private query(sql: string, isSql: boolean) {
    if (!isSql) {
      if (this.refuses?.test(sql)) return { code: 3, stderr: "psql:<stdin>:2: ERROR:  no such thing\n" };
      this.scripts.push(sql);
      return {};
    }
    if (sql.includes("json_object_agg(name, json_build_object")) {
      const names: string[] = JSON.parse(/json_array_elements_text\(E'(.*?)'\)/.exec(sql)?.[1] ?? "");
      return { stdout: JSON.stringify(this.versions(names)) };
    }
    if (sql.includes("DO $$")) return this.drop(/DROP EXTENSION IF EXISTS "(.*?)"/.exec(sql)?.[1] ?? "");
    if (sql.includes("json_build_object")) {
      return { stdout: this.lie ?? JSON.stringify(this.describe()) };
    }
    let stdout = "";
    for (const [index, line] of sql.split("\n").entries()) {
      for (const statement of line.startsWith("ALTER") ? [line] : line.split(/(?<=;)/)) {
        if (this.refuses?.test(statement)) {
          return { code: 3, stdout, stderr: `psql:<stdin>:${index + 1}: ERROR:  refused\n` };
        }
        stdout += this.run(statement.trim());
      }
    }
    return { stdout };
  }

  private run(sql: string): string {
    const value = (text: string) =>
      text.replace(/E?'((?:[^'\\]|''|\\.)*)'/g, (_, body) =>
        body.replace(/''|\\(.)/g, (p: string, c?: string) => c ?? p[0]),
      );
    const cases: [RegExp, (...found: string[]) => unknown][] = [
      [
        /^ALTER SYSTEM SET (\w+) = (.*);$/,
        (name = "", text = "") => {
          this.settings[name] = listed(text, value);
        },
      ],
      [/^ALTER SYSTEM RESET (\w+);$/, (name = "") => void delete this.settings[name]],
      [
        /^ALTER DATABASE postgres SET pgs.settings = (.*);$/,
        (text = "") => {
          this.inside.managed = JSON.parse(value(text));
        },
      ],
      [
        /^ALTER DATABASE postgres SET pgs.extensions = (.*);$/,
        (text = "") => {
          this.inside.extensions = JSON.parse(value(text));
        },
      ],
      [
        /^CREATE EXTENSION IF NOT EXISTS "(.*?)"(?: VERSION E'(.*?)')?(?: CASCADE)?;$/,
        (name = "", version) => {
          this.installed[name] ??= version ?? this.newest[name] ?? "";
        },
      ],
      [
        /^ALTER EXTENSION "(.*?)" UPDATE TO E'(.*)';$/,
        (name = "", version = "") => {
          this.installed[name] = version;
        },
      ],
      [
        /^ALTER DATABASE postgres SET pgs.creating/,
        () => {
          this.inside.creating = true;
        },
      ],
      [
        /^ALTER DATABASE postgres RESET pgs.creating/,
        () => {
          this.inside.creating = false;
        },
      ],
      [
        /^(CREATE DATABASE postgres TEMPLATE template0|ALTER DATABASE postgres ALLOW_CONNECTIONS true);$/,
        () => void Object.assign(this.inside, { maintenance: "open", managed: [], creating: false }),
      ],
      [/^DROP DATABASE postgres;$/, () => void Object.assign(this.inside, { maintenance: "gone" })],
      [
        /^CREATE DATABASE/,
        () => {
          this.inside.database = true;
        },
      ],
      [/^DROP DATABASE/, () => void Object.assign(this.inside, { database: false, creating: false })],
      [
        /^ALTER DATABASE .* ALLOW_CONNECTIONS true/,
        () => {
          this.inside.takesConnections = true;
        },
      ],
      [
        /^ALTER ROLE postgres PASSWORD (.*) VALID UNTIL 'infinity';$/,
        (text = "") => void Object.assign(this.inside, { verifier: value(text), validUntil: null }),
      ],
      [
        /^\\! rm -f/,
        () => {
          this.inside.unfinished = false;
        },
      ],
      [
        /^\\! (echo keep|:) >"\$PGDATA.unfinished"/,
        (what) => {
          this.kept = what !== ":";
        },
      ],
      [
        /^SELECT pg_reload_conf/,
        () => {
          const waits = new Set(this.pendingRestart);
          const read = Object.entries(this.settings).filter(([name]) => !waits.has(name));
          const kept = Object.entries(this.active).filter(([name]) => waits.has(name));
          this.active = Object.fromEntries([...read, ...kept]);
        },
      ],
      [/^SELECT lower\(name\) FROM pg_settings/, () => this.pendingRestart.join("\n")],
      [/^SELECT \(pg_stat_file/, () => (/nothing\.so/.test(sql) ? "f" : "t")],
      // Sessions that are at work.
      [/^SELECT count\(\*\) FROM pg_stat_activity/, () => "0"],
      [/^AND client_addr IS NULL/, () => undefined],
      [/^SHOW ssl$/, () => (this.settings.ssl === "on" ? "on" : "off")],
      [/^SHOW data_directory$/, () => "/var/lib/postgresql/18/docker"],
      [
        /^(SELECT pg_sleep.*|SET search_path = public;|SELECT pg_stat_statements_reset.*|\\connect .*|\\set ON_ERROR_STOP .)?$/,
        () => undefined,
      ],
    ];
    for (const [pattern, act] of cases) {
      const found = pattern.exec(sql);
      if (!found) continue;
      if (/^(ALTER|CREATE|DROP|\\!)/.test(sql)) this.statements.push(sql);
      const said = act(...found.slice(1));
      return typeof said === "string" ? said : "";
    }
    throw new Error(`the fake server knows no ${sql}`);
  }
}

/** As PostgreSQL writes a list of names, or one text. */
function listed(text: string, value: (text: string) => string): string {
  const items = text.match(/E'(?:[^'\\]|''|\\.)*'/g) ?? [];
  return items.length > 1
    ? items.map((item) => `"${value(item).replaceAll('"', '""')}"`).join(", ")
    : value(text);
}

/** Data by volume, which outlives the containers on it. */
export const data = new Map<string, FakePostgres>();

/** The server on a volume. */
export function server(volume = "pgs-acme"): FakePostgres {
  const found = data.get(volume) ?? new FakePostgres();
  data.set(volume, found);
  return found;
}

/** A Docker host with images, the proxy and a volume for acme, whose containers run servers. */
export function host(): void {
  engine.reset();
  data.clear();
  for (const volume of ["pgs-acme", "pgs--programs", "pgs-proxy"]) engine.volumes.set(volume, {});
  for (const tag of ["postgres:18", "postgres:19", "pgs-backup:1", "pgs-pgbouncer:1"])
    engine.images.set(tag, `sha256:${tag}`);
  engine.addNetwork("pgs-proxy", { "pgs.stack": "ours" }, false);
  engine.addContainer("pgs-proxy", {
    Labels: { "pgs.stack": "ours" },
    HostConfig: {
      NetworkMode: "pgs-proxy",
      Mounts: [{ Type: "volume", Source: "pgs-proxy", Target: "/etc/traefik/dynamic" }],
    },
  });
  const serverOf = ({ Mounts }: FakeContainer) => {
    const volume = Mounts.find(({ Destination }) => Destination === "/var/lib/postgresql");
    return volume && server(volume.Name);
  };
  engine.onStart = (container) => {
    if (container.Config.Command.includes("postgres")) serverOf(container)?.restarted();
  };
  engine.answer = (exec) => serverOf(exec.container)?.answer(exec) ?? changeFiles(exec) ?? {};
}

/** Tenant acme, with all parts. */
export function acme(): PostgresServerInputs {
  return {
    stack: "ours",
    tenant: "acme",
    version: 18,
    state: "running",
    network: {
      name: "pgs-acme",
      pool: "10.213.0.0/16",
      prefixLength: 29,
      proxy: engine.containers.find(({ Name }) => Name === "/pgs-proxy")?.Id ?? "",
    },
    container: {
      name: "pgs-acme",
      image: "postgres:18",
      imageId: "sha256:postgres:18",
      volume: "pgs-acme",
      programs: "pgs--programs",
      adopted: false,
    },
    limits: { memory: 2 ** 29, cpus: 1 },
    settings: {
      live: { work_mem: "4MB" },
      restart: { max_connections: "50" },
      initial: { shared_buffers: "64MB" },
    },
    password: "secret",
    access: { open: true, clients: "all" },
    database: { init: [] },
    route: { proxy: "pgs-proxy", path: "/etc/traefik/dynamic/route-acme.yml", content: "open\n" },
    backup: {
      name: "pgs-acme--backup",
      image: "pgs-backup:1",
      imageId: "sha256:pgs-backup:1",
      schedule: "02:30",
      retention: 7,
    },
    positions: { work_mem: "tenants.yaml:5:7", max_connections: "tenants.yaml:5:22" },
    deleteMessage: "",
  };
}

/** With a pooler. */
export function pooled(size = 20): PostgresServerInputs {
  const image = { image: "pgs-pgbouncer:1", imageId: "sha256:pgs-pgbouncer:1" };
  return acmeWith({ pooler: { name: "pgs-acme--pooler", ...image, mode: "transaction", size } });
}

/** Some inputs other than acme's own, part by part. */
export function acmeWith(
  change: {
    [Key in keyof PostgresServerInputs]?: Partial<PostgresServerInputs[Key]>;
  },
): PostgresServerInputs {
  const inputs = acme() as unknown as Record<string, unknown>;
  for (const [key, value] of Object.entries(change)) {
    const isPart = value !== null && typeof value === "object" && !Array.isArray(value);
    inputs[key] = isPart ? { ...(inputs[key] as object), ...value } : value;
  }
  return inputs as unknown as PostgresServerInputs;
}

/** Closed to clients, as the program asks for it. */
export function closed(): PostgresServerInputs {
  return acmeWith({ access: { open: false }, route: { content: "closed\n" } });
}

/** Stopped, as the program asks for it. */
export function stopped(): PostgresServerInputs {
  return acmeWith({
    state: "stopped",
    container: { image: undefined, imageId: undefined },
    route: { content: "closed\n" },
  });
}

/** What the proxy's file for acme has; undefined without one. */
export function routeFile(): string | undefined {
  return engine.files.get("pgs-proxy")?.get("/etc/traefik/dynamic/route-acme.yml");
}

/** The password's verifier and all else that an `up` leaves in a server that is as acme wants it. */
export async function asWanted(postgres: FakePostgres, inputs = acme()): Promise<void> {
  const { live, restart, initial } = inputs.settings;
  postgres.settings = { ...initial, ...live, ...restart };
  postgres.active = { ...postgres.settings };
  Object.assign(postgres.inside, {
    database: true,
    unfinished: false,
    managed: Object.keys(postgres.settings).toSorted(),
    verifier: await scramVerifier(inputs.password),
  });
}

/** Acme's server as its parts get it: it runs, and answers as `postgres` does. */
export function running(
  postgres: FakePostgres,
  inputs = acme(),
  before: Partial<PostgresServerState> = {},
): RunningServer {
  data.set("pgs-acme", postgres);
  if (!engine.names.includes("pgs-acme")) {
    const Mounts = [{ Type: "volume" as const, Source: "pgs-acme", Target: "/var/lib/postgresql" }];
    engine.addContainer("pgs-acme", {
      Labels: { "pgs.stack": "ours", "pgs.tenant": "acme" },
      Cmd: ["postgres"],
      HostConfig: { Mounts },
    });
  }
  const container = engine.docker.getContainer("pgs-acme") as unknown as Docker.Container;
  return {
    inputs,
    before,
    container,
    session: new Session(container, 18, "acme"),
    inside: postgres.describe(),
  };
}

/** What a plan sees of it. */
export function sightOf(postgres: FakePostgres): Sight {
  return { info: undefined, inside: postgres.describe() };
}
