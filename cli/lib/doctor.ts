import { checkServerIdentity, type PeerCertificate } from "node:tls";
import type Docker from "dockerode";
import { dockerHostAddress, resolve } from "./address";
import { judgedBackups } from "./backup-status";
import { containersOf, engine, engineName, forEach } from "./engine";
import { CommandError, quietly } from "./pulumi";
import { caOf, requiredOutputs, type StackConfig, type StackOutputs, stackConfig } from "./stack";
import { type Knock, knock, login, type Target } from "./tenant-probe";
import { stateOf } from "./tenant-status";
import { coloured } from "./terminal";

/** What was looked at, and what came of it. */
export interface Finding {
  check:
    | "engine"
    | "proxy"
    | "drift"
    | "server"
    | "DNS"
    | "port"
    | "route"
    | "certificate"
    | "login"
    | "backup";
  /** `note`: nothing is wrong, but somebody may wonder. */
  level: "good" | "note" | "problem";
  /** The tenant that it is about; without one, all of them or the stack. */
  tenant?: string;
  message: string;
  /** What to do about it. */
  advice?: string;
}

/** How many tenants are looked at at a time. */
const atOnce = 16;
/** Days before its end from which a certificate is a problem; the stack's own is renewed long before. */
const renewalDays = 14;

/** Looks at everything that a login needs, and prints it. @returns whether all is well */
export async function doctor(options: { json?: boolean; quick?: boolean }): Promise<boolean> {
  const [config, outputs] = await Promise.all([stackConfig(), requiredOutputs({ secrets: true })]);
  const findings = (await lookAround(config, outputs, options)).map((finding) => ({
    ...finding,
    message: printable(finding.message),
  }));
  const ordered = order.flatMap((check) => findings.filter((finding) => finding.check === check));
  console.log(options.json ? JSON.stringify(ordered, undefined, 2) : ordered.map(asText).join("\n"));
  return !findings.some(({ level }) => level === "problem");
}

const order: Finding["check"][] = [
  "engine",
  "proxy",
  "server",
  "DNS",
  "port",
  "route",
  "certificate",
  "login",
  "backup",
  "drift",
];

function asText({ check, level, tenant, message, advice }: Finding): string {
  const mark = {
    good: coloured.good("✓"),
    note: coloured.warning("!"),
    problem: coloured.bad("✗"),
  }[level];
  const line = `${mark} ${check.padEnd(11)}  ${tenant ? `${tenant}: ` : ""}${message}`;
  return advice ? `${line}\n${" ".repeat(15)}${coloured.heading("→")} ${advice}` : line;
}

/** Messages of servers may hold what steers a terminal. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\x00-\x1f\x7f-\x9f]+/g, " ");
}

/** Whether an `up` that looks into every server would change something. */
async function drift(): Promise<Finding[]> {
  const { code, stdout, stderr } = await quietly(["preview", "--refresh", "--json"]);
  const check = "drift";
  type Preview = {
    steps?: { op: string; urn: string }[];
    diagnostics?: { message?: string; severity?: string }[];
  };
  let preview: Preview = {};
  try {
    preview = JSON.parse(stdout);
  } catch {
    // Pulumi ended before it had a plan: what it said is all there is.
  }
  if (code !== 0) {
    const said = preview.diagnostics?.find(({ severity }) => severity === "error")?.message ?? stderr;
    const message = `a preview fails: ${said.trim().split("\n").slice(-3).join(" ")}`;
    return [{ check, level: "problem", message, advice: "./pgs preview has the whole message" }];
  }
  const changes = (preview.steps ?? []).filter(({ op }) => !["same", "refresh", "read"].includes(op));
  if (changes.length === 0) return [{ check, level: "good", message: "an up would change nothing" }];
  const named = changes.map(({ op, urn }) => {
    const [type, name] = urn.split("::").slice(-2);
    return `${name} (${op} ${type?.split(/[$:]/).at(-1)})`;
  });
  return [
    {
      check,
      level: "problem",
      message: `an up would change ${changes.length}: ${named.slice(0, 8).join(", ")}${named.length > 8 ? ", …" : ""}`,
      advice: "./pgs preview --diff shows it in full; ./pgs up brings about what tenants.yaml says",
    },
  ];
}

async function lookAround(
  config: StackConfig,
  outputs: StackOutputs,
  options: { quick?: boolean },
): Promise<Finding[]> {
  const docker = engine(config.dockerHost);
  let containers: Map<string, Docker.ContainerInfo>;
  let version: string;
  try {
    [containers, version] = await Promise.all([
      containersOf(docker, config.prefix, config.dockerHost),
      docker.version().then(({ Version }) => Version),
    ]);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const advice = `start it, or correct ${config.dockerHost ? "docker:host or DOCKER_HOST" : "DOCKER_HOST"}; ./pgs setup --check`;
    return [{ check: "engine", level: "problem", message: error.message, advice }];
  }
  const address = await dockerHostAddress(config.dockerHost);
  const [looks, kept, differences] = await Promise.all([
    forEach(Object.keys(outputs.tenants), atOnce, (id) =>
      look(id, config, outputs, containers.get(`${config.prefix}-${id}`), address),
    ),
    backupFindings(docker, containers, config, outputs),
    options.quick ? [] : drift(),
  ]);
  return [
    { check: "engine", level: "good", message: `Docker ${version} at ${engineName(config.dockerHost)}` },
    proxyFinding(containers.get(`${config.prefix}-proxy`), config),
    ...summed("server", looks, serverFinding, () => ""),
    ...names(looks),
    ...ports(looks),
    ...summed("route", looks, routeFinding, () => ""),
    ...certificates(looks),
    ...summed("login", looks, loginFinding, ({ login }) =>
      login && "milliseconds" in login ? `${login.milliseconds} ms` : "",
    ),
    ...kept,
    ...differences,
  ];
}

async function backupFindings(
  docker: Docker,
  containers: Map<string, Docker.ContainerInfo>,
  config: StackConfig,
  { tenants }: StackOutputs,
): Promise<Finding[]> {
  const check = "backup";
  if (config.backups.schedule === "off") {
    const advice = "pulumi config set --path pgs:backups.schedule 02:30, then ./pgs up (docs/backups.md)";
    return [{ check, level: "note", message: "backups are off", advice }];
  }
  const info = containers.get(`${config.prefix}--backups`);
  if (info?.State !== "running") {
    const message = `${config.prefix}--backups does not run: no tenant is backed up`;
    return [{ check, level: "problem", message, advice: "./pgs up starts it or makes it anew" }];
  }
  const judged = await judgedBackups(docker.getContainer(info.Id), tenants);
  const bad = judged.filter(({ problem }) => problem !== null);
  const good = judged.filter(({ state, problem }) => state === "running" && problem === null);
  const findings: Finding[] = bad.map(({ tenant, problem }) => ({
    check,
    level: "problem",
    tenant,
    message: String(problem),
    advice: `docker logs --tail 20 ${config.prefix}--backups says why (docs/backups.md)`,
  }));
  if (good.length > 0) {
    const named = good.slice(0, 8).map(({ tenant }) => tenant);
    const more = good.length > 8 ? ` and ${good.length - 8} more` : "";
    findings.unshift({ check, level: "good", message: `as they should be: ${named.join(", ")}${more}` });
  }
  if (!config.offsite) {
    findings.push({
      check,
      level: "note",
      message: "they are in a Docker volume of the same host, and would be lost with it",
      advice: "keep a copy of it elsewhere (docs/backups.md)",
    });
  }
  return findings;
}

function proxyFinding(info: Docker.ContainerInfo | undefined, { prefix, port }: StackConfig): Finding {
  const check = "proxy";
  if (info?.State === "running" && !info.Status.includes("(unhealthy)"))
    return { check, level: "good", message: `${prefix}-proxy runs, and publishes port ${port}` };
  const message = info ? `${prefix}-proxy is ${info.Status}` : `there is no container ${prefix}-proxy`;
  const advice = `./pgs up starts it or makes it anew; docker logs ${prefix}-proxy says why it stopped`;
  return { check, level: "problem", message, advice: info ? advice : "./pgs up makes it anew" };
}

/** All that was learnt of one tenant. */
interface Look {
  id: string;
  host: string;
  port: number;
  /** Whether clients are to be let in. */
  open: boolean;
  /** Whether the stack's own CA vouches for it. */
  ownCa: boolean;
  /** Whether its server is to run. */
  wanted: boolean;
  state: string;
  status: string;
  resolved: string[];
  /** Where the rest was tried. */
  address: string | undefined;
  knock?: Knock;
  login?: Awaited<ReturnType<typeof login>>;
}

async function look(
  id: string,
  config: StackConfig,
  outputs: StackOutputs,
  info: Docker.ContainerInfo | undefined,
  dockerAddress: string | undefined,
): Promise<Look> {
  const { tenants, connectionStrings } = outputs;
  const tenant = tenants[id] as StackOutputs["tenants"][string];
  const resolved = await resolve(tenant.host);
  // The proxy listens on IPv4 only.
  const address = resolved.find((one) => !one.includes(":")) ?? resolved[0] ?? dockerAddress;
  const wanted = tenant.state === "running";
  const open = wanted && tenant.access;
  const found: Look = {
    id,
    host: tenant.host,
    port: tenant.port,
    open,
    ownCa: true,
    wanted,
    state: stateOf(tenant, info, true),
    status: info?.Status ?? "",
    resolved,
    address,
  };
  if (!address) return found;
  const ca = caOf(tenant, outputs, config);
  found.ownCa = ca !== null;
  const target: Target = { address, port: tenant.port, host: tenant.host, ca };
  found.knock = await knock(target, tenant.user);
  // Without a server behind it, or with a wrong certificate, a login could only repeat that.
  if (open && found.state === "running" && found.knock.answered && !found.knock.untrusted) {
    const password = decodeURIComponent(new URL(connectionStrings[id] ?? "").password);
    found.login = await login(target, { user: tenant.user, database: tenant.database, password });
  }
  return found;
}

type Judged = Omit<Finding, "check" | "tenant"> | undefined;

/** One finding for all tenants that are well, and one for each that is not. */
function summed(
  check: Finding["check"],
  looks: Look[],
  judge: (look: Look) => Judged,
  detail: (look: Look) => string,
): Finding[] {
  const bad: Finding[] = [];
  const good: Look[] = [];
  for (const one of looks) {
    const judged = judge(one);
    if (judged && judged.level !== "good") bad.push({ check, tenant: one.id, ...judged });
    else if (judged) good.push(one);
  }
  if (good.length === 0) return bad;
  const details = good.map(detail).filter(Boolean);
  const message = good
    .slice(0, 8)
    .map((one, index) => (details[index] ? `${one.id} ${details[index]}` : one.id))
    .join(", ");
  const more = good.length > 8 ? ` and ${good.length - 8} more` : "";
  return [{ check, level: "good", message: `${goodWords[check]}: ${message}${more}` }, ...bad];
}

const goodWords: Partial<Record<Finding["check"], string>> = {
  server: "as they should be",
  route: "open or closed as they should be",
  login: "with the password of the stack",
};

function serverFinding({ id, wanted, state, status }: Look): Judged {
  if (wanted ? state === "running" : state === "stopped") return { level: "good", message: "" };
  if (!wanted) {
    return {
      level: "problem",
      message: `its container should be gone, and is ${state}`,
      advice: "./pgs up stops it",
    };
  }
  if (state === "missing") {
    return {
      level: "problem",
      message: "its container is gone",
      advice: "./pgs up makes it anew, on the same data",
    };
  }
  if (state === "unhealthy") {
    const advice = `./pgs logs ${id} --tail 50 says what it is at; ./pgs list whether it has enough memory`;
    return { level: "problem", message: `its server does not answer (${status})`, advice };
  }
  return {
    level: "problem",
    message: `its container does not run (${status})`,
    advice: `./pgs up starts it again; ./pgs logs ${id} --tail 50 says why it stopped`,
  };
}

function names(looks: Look[]): Finding[] {
  const check = "DNS";
  const [found, lost] = [
    looks.filter((one) => one.resolved.length > 0),
    looks.filter((one) => one.resolved.length === 0),
  ];
  const addresses = [...new Set(found.flatMap(({ resolved }) => resolved))];
  const findings: Finding[] = [];
  if (found.length > 0) {
    const which = found.length === 1 ? found[0]?.host : `${found.length} names`;
    const verb = found.length === 1 ? "resolves" : "resolve";
    findings.push({ check, level: "good", message: `${which} ${verb} to ${addresses.join(", ")}` });
  }
  if (lost.length > 0) {
    const hosts = lost.map(({ host }) => host);
    // Such names are for trying out on one machine, and many resolve none of them.
    const local = hosts.every((host) => host.endsWith(".localhost"));
    findings.push({
      check,
      level: local ? "note" : "problem",
      message: `not found on this machine: ${hosts.slice(0, 8).join(", ")}${hosts.length > 8 ? ", …" : ""}; tried ${lost[0]?.address ?? "no address"} instead`,
      advice: local
        ? "clients here need hostaddr= or a line in the hosts file; ./pgs connect does it by itself"
        : `point ${wildcard(hosts[0] ?? "")} at the Docker host (docs/certificates.md, DNS)`,
    });
  }
  return findings;
}

/** One finding for each address. */
function ports(looks: Look[]): Finding[] {
  const check = "port";
  const tried = new Map<string, Look>();
  for (const one of looks) if (one.address) tried.set(`${one.address}:${one.port}`, one);
  return [...tried].map(([address, { knock }]) =>
    knock?.unreachable
      ? {
          check,
          level: "problem",
          message: `${address} cannot be reached (${knock.unreachable})`,
          advice:
            "when the proxy runs: look at firewalls, at the address that the name resolves to, and at pgs:port",
        }
      : { check, level: "good", message: `${address} takes connections` },
  );
}

function routeFinding({ id, open, state, knock }: Look): Judged {
  if (!knock || knock.unreachable || knock.unknownName) return undefined;
  if (open && !knock.answered) {
    // Without a server behind it, an open route looks like none.
    if (state !== "running") return undefined;
    const advice = "./pgs up writes it again; docker logs of the proxy says when it cannot reach the server";
    return { level: "problem", message: "the proxy has no route for its name", advice };
  }
  if (!open && knock.answered) {
    const advice = `./pgs up closes it; ./pgs logs ${id} has what came in`;
    return { level: "problem", message: "its route should be closed, and is open", advice };
  }
  return { level: "good", message: "" };
}

/** One finding for each certificate that is served, and one for each tenant that it does not cover. */
function certificates(looks: Look[]): Finding[] {
  const check = "certificate";
  const served = new Map<string, { certificate: PeerCertificate; untrusted?: string; looks: Look[] }>();
  for (const one of looks) {
    const { certificate, untrusted } = one.knock ?? {};
    if (!certificate) continue;
    const known = served.get(certificate.fingerprint256);
    if (known) known.looks.push(one);
    else served.set(certificate.fingerprint256, { certificate, untrusted, looks: [one] });
  }
  const unknown = looks
    .filter((one) => one.knock?.unknownName)
    .map(
      ({ id, host, ownCa }): Finding => ({
        check,
        level: "problem",
        tenant: id,
        message: `the proxy has no certificate for ${host}`,
        advice: ownCa ? "./pgs up" : `use one for ${wildcard(host)}, then ./pgs up`,
      }),
    );
  const judged = [...served.values()].flatMap(({ certificate, untrusted, looks }) => {
    const findings: Finding[] = [];
    const ownCa = looks.some((one) => one.ownCa);
    const renew = ownCa
      ? "./pgs up renews it"
      : "put a renewed one at pgs:certificate, then ./pgs up; by ACME, the log of the proxy says why it was not renewed (docs/certificates.md)";
    const until = certificate.valid_to;
    const days = Math.floor((Date.parse(until) - Date.now()) / 86_400_000);
    const what = `${certificate.subjectaltname ?? certificate.subject?.CN}, by ${certificate.issuer?.CN ?? certificate.issuer?.O}`;
    const dated = (message: string, advice: string): Finding => ({
      check,
      level: "problem",
      message,
      advice,
    });
    if (days < 0) findings.push(dated(`expired on ${until} (${what})`, renew));
    else if (Date.parse(certificate.valid_from) > Date.now())
      findings.push(dated(`not valid before ${certificate.valid_from} (${what})`, "look at the clocks"));
    else if (days < renewalDays)
      findings.push(dated(`expires in ${days} days, on ${until} (${what})`, renew));
    for (const { id, host } of looks) {
      if (!checkServerIdentity(host, certificate)) continue;
      findings.push({
        check,
        level: "problem",
        tenant: id,
        message: `the certificate does not cover ${host}, but ${certificate.subjectaltname ?? "no name"}`,
        advice: ownCa ? "./pgs up" : `use one for ${wildcard(host)}, then ./pgs up`,
      });
    }
    if (untrusted && days >= 0 && !/ALTNAME/.test(untrusted)) {
      findings.push(
        ownCa
          ? dated(
              `not signed by the CA of the stack (${untrusted}; ${what})`,
              "./pgs up puts the stack's own in place",
            )
          : {
              check,
              level: "note",
              message: `this machine does not trust its issuer (${untrusted}; ${what})`,
              advice:
                "clients that verify need that CA as sslrootcert; NODE_EXTRA_CA_CERTS=FILE ./pgs doctor also tries the logins",
            },
      );
    }
    if (findings.length === 0)
      findings.push({ check, level: "good", message: `${what}, for ${days} days more` });
    return findings;
  });
  return [...judged, ...unknown];
}

/** acme.pgs.example.com -> *.pgs.example.com */
function wildcard(host: string): string {
  return `*.${host.split(".").slice(1).join(".")}`;
}

function loginFinding({ id, login }: Look): Judged {
  if (!login) return undefined;
  if ("milliseconds" in login) return { level: "good", message: "" };
  const advice = {
    "28P01": "somebody changed it in the server: ./pgs up sets the one of the stack again",
    "53300": `all its connections are taken: ./pgs list, then ./pgs set ${id} settings.max_connections …`,
    "3D000": `somebody dropped or renamed it: ./pgs logs ${id}; ./pgs up makes an empty one`,
    "57P03": `it starts or recovers: ./pgs logs ${id} -f shows how far it is`,
  }[login.code ?? ""];
  return {
    level: "problem",
    message: `login fails: ${login.reason}`,
    advice: advice ?? `./pgs logs ${id} --tail 20 has what the server says; ./pgs up`,
  };
}
