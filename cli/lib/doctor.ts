import { checkServerIdentity, type PeerCertificate } from "node:tls";
import type Docker from "dockerode";
import { dockerClient, engineName, forEach } from "../../docker/client";
import { type DiskUse, diskUseFile, parseDiskUse } from "../../docker/disk-use";
import { exec, printable } from "../../docker/exec";
import { resourceNames } from "../../docker/names";
import { dockerHostAddress, proxyHost, resolve } from "./address";
import { judgedBackups } from "./backup-status";
import { type ClusterExamined, examineCluster } from "./cluster-doctor";
import { containersOf } from "./containers";
import { fileFindings } from "./kept-files";
import { leftoverFindings } from "./leftovers";
import { CommandError, quietly } from "./pulumi";
import { caOf, requiredOutputs, type StackConfig, type StackOutputs, stackConfig } from "./stack";
import { TenantBackups } from "./tenant-backups";
import { login, probeTls, type Target, type TlsProbe } from "./tenant-probe";
import { stateOf } from "./tenant-status";
import { coloured, firstOf } from "./terminal";
import { bytes } from "./units";
import { pruneFindings } from "./unused-volumes";

/** One check and its result. */
export interface Finding {
  check:
    | "engine"
    | "operator"
    | "webhooks"
    | "storage"
    | "proxy"
    | "cancel"
    | "drift"
    | "server"
    | "DNS"
    | "port"
    | "route"
    | "certificate"
    | "login"
    | "replication"
    | "failover"
    | "disk"
    | "backup"
    | "volume"
    | "leftovers"
    | "files";
  /** `note`: nothing is wrong, but worth knowing. */
  level: "good" | "note" | "problem";
  /** Without one, the finding is about the stack or all tenants. */
  tenant?: string;
  message: string;
  /** What to do. */
  advice?: string;
}

/** How many tenants are examined at a time. */
const atOnce = 16;
/** Days before its end from which a certificate is a problem; the stack's own is renewed long before. */
const renewalDays = 14;

/** Checks everything that a login needs, and prints the findings. @returns whether there is no problem */
export async function doctor(options: { json?: boolean; quick?: boolean }): Promise<boolean> {
  const [config, outputs] = await Promise.all([
    stackConfig("any"),
    requiredOutputs({ secrets: true, states: true }),
  ]);
  const examined = config.platform === "kubernetes" ? examineOnCluster : examine;
  const findings = (await examined(config, outputs, options)).map((finding) => ({
    ...finding,
    message: printable(finding.message),
  }));
  const ordered = order.flatMap((check) => findings.filter((finding) => finding.check === check));
  console.log(options.json ? JSON.stringify(ordered, undefined, 2) : ordered.map(asText).join("\n"));
  return !findings.some(({ level }) => level === "problem");
}

const order: Finding["check"][] = [
  "engine",
  "operator",
  "webhooks",
  "storage",
  "proxy",
  "cancel",
  "server",
  "DNS",
  "port",
  "route",
  "certificate",
  "login",
  "replication",
  "failover",
  "disk",
  "backup",
  "volume",
  "leftovers",
  "files",
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
      advice: "./pgs preview --verbose shows it in full; ./pgs up applies it",
    },
  ];
}

async function examine(
  config: StackConfig,
  outputs: StackOutputs,
  options: { quick?: boolean },
): Promise<Finding[]> {
  const docker = dockerClient(config.dockerHost);
  let containers: Map<string, Docker.ContainerInfo>;
  let version: string;
  try {
    [containers, version] = await Promise.all([
      containersOf(config, outputs),
      docker.version().then(({ Version }) => Version),
    ]);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const advice = `start it, or correct ${config.dockerHost ? "docker:host or DOCKER_HOST" : "DOCKER_HOST"}; ./pgs setup --check`;
    return [{ check: "engine", level: "problem", message: error.message, advice }];
  }
  const names = resourceNames(config.prefix);
  const address = await dockerHostAddress(config.dockerHost);
  const ids = Object.keys(outputs.tenants);
  const [tenants, disks, kept, unused, leftovers, differences] = await Promise.all([
    forEach(ids, atOnce, (id) => {
      const info = containers.get(names.tenant(id));
      const state = stateOf(outputs.tenants[id] ?? { state: "" }, info, true);
      return examineTenant(id, config, outputs, { state, status: info?.Status ?? "" }, address);
    }),
    diskFindings(docker, outputs, (id) => containers.get(names.tenant(id))),
    backupFindings(containers, config, outputs),
    pruneFindings(docker, version, config.prefix, outputs.stack),
    leftoverFindings(docker, config, outputs.stack, containers, ids),
    options.quick ? [] : drift(),
  ]);
  return [
    { check: "engine", level: "good", message: `Docker ${version} at ${engineName(config.dockerHost)}` },
    containerFinding("proxy", names.proxy, containers.get(names.proxy), `publishes port ${config.port}`),
    containerFinding(
      "cancel",
      names.cancel,
      containers.get(names.cancel),
      "passes cancel requests on",
      "Ctrl-C in psql does not reach the servers",
    ),
    ...summed("server", tenants, serverFinding, () => ""),
    ...reachFindings(tenants, "the Docker host"),
    ...disks,
    ...kept,
    ...unused,
    ...leftovers,
    ...fileFindings(config, outputs.stack.replace(/-[^-]*$/, "")),
    ...differences,
  ];
}

async function examineOnCluster(
  config: StackConfig,
  outputs: StackOutputs,
  options: { quick?: boolean },
): Promise<Finding[]> {
  let cluster: ClusterExamined;
  try {
    cluster = await examineCluster(config, outputs);
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const advice = "correct pgs:kubernetes.kubeconfig and pgs:kubernetes.context, or KUBECONFIG";
    return [{ check: "engine", level: "problem", message: error.message, advice }];
  }
  const address = await dockerHostAddress(await proxyHost(config));
  const [tenants, differences] = await Promise.all([
    forEach(Object.keys(outputs.tenants), atOnce, (id) => {
      const { state = "missing", servers } = cluster.states.get(id) ?? {};
      const status = servers ? `${servers.ready} of ${servers.wanted} servers are ready` : "";
      return examineTenant(id, config, outputs, { state, status }, address);
    }),
    options.quick ? [] : drift(),
  ]);
  return [
    ...cluster.findings,
    ...summed("server", tenants, clusterServerFinding, ({ status }) => status),
    ...reachFindings(tenants, "the proxy's Service"),
    ...fileFindings(config, outputs.stack.replace(/-[^-]*$/, "")),
    ...differences,
  ];
}

/** @param target what names have to lead to */
function reachFindings(tenants: Examined[], target: string): Finding[] {
  return [
    ...dnsFindings(tenants, target),
    ...ports(tenants),
    ...summed("route", tenants, routeFinding, () => ""),
    ...certificates(tenants),
    ...summed("login", tenants, loginFinding, ({ login }) =>
      login && "milliseconds" in login ? `${login.milliseconds} ms` : "",
    ),
  ];
}

/** By what each server's watch-disk.sh has found. */
async function diskFindings(
  docker: Docker,
  { tenants }: StackOutputs,
  server: (id: string) => Docker.ContainerInfo | undefined,
): Promise<Finding[]> {
  const running = Object.keys(tenants).filter((id) => server(id)?.State === "running");
  const found = await forEach(running, atOnce, async (id) => {
    const answer = await exec(docker.getContainer(server(id)?.Id ?? ""), ["cat", diskUseFile], {
      seconds: 5,
      outputLimit: 4096,
    }).catch(() => undefined);
    return { id, use: parseDiskUse(answer?.stdout) };
  });
  return judgedDisks(found);
}

/** Percent of its budget from which a tenant is worth a note. */
const nearlyFull = 80;

export function judgedDisks(all: { id: string; use: DiskUse | undefined }[]): Finding[] {
  const check = "disk";
  const findings: Finding[] = [];
  const good: string[] = [];
  for (const { id, use } of all) {
    const finding = (level: Finding["level"], message: string, advice: string) =>
      findings.push({ check, tenant: id, level, message, advice });
    if (!use) {
      finding("note", "nothing watches its disk", "./pgs up starts it");
      continue;
    }
    const { used, limit, readOnly, host } = use;
    const share = limit === null ? 0 : Math.round((used / limit) * 100);
    const figures = limit === null ? bytes(used) : `${bytes(used)} of ${bytes(limit)}, ${share} %`;
    if (readOnly === "budget") {
      finding(
        "problem",
        `its sessions are read-only: its disk budget is used up (${figures})`,
        `./pgs set ${id} disk …, or delete and VACUUM in a session that asks for it (docs/disks.md)`,
      );
    } else if (readOnly === "host") {
      finding(
        "problem",
        `its sessions are read-only: the Docker host has ${bytes(host.free)} left`,
        "make room on the host's disk (docs/disks.md)",
      );
    } else if (share >= nearlyFull) {
      finding(
        "note",
        `it uses ${bytes(used)} of ${bytes(limit)}, ${share} %, of its disk budget`,
        `./pgs set ${id} disk …`,
      );
    } else if (limit !== null) good.push(`${id} ${share} %`);
  }
  if (good.length > 0) {
    findings.unshift({ check, level: "good", message: `within their budgets: ${firstOf(good)}` });
  }
  return findings;
}

async function backupFindings(
  containers: Map<string, Docker.ContainerInfo>,
  config: StackConfig,
  outputs: StackOutputs,
): Promise<Finding[]> {
  const check = "backup";
  if (config.backups.schedule === "off") {
    const advice = "pulumi config set --path pgs:backups.schedule 02:30, then ./pgs up (docs/backups.md)";
    return [{ check, level: "note", message: "backups are off", advice }];
  }
  const names = resourceNames(config.prefix);
  const server = (id: string) => containers.get(names.tenant(id));
  const backups = new TenantBackups(config, outputs.stack);
  const all = await judgedBackups(backups, outputs.tenants, config, (id) => server(id)?.Created);
  // Of a server that is down, that is the finding: its backups wait for it.
  const judged = all.filter(
    ({ tenant, state }) => state !== "running" || server(tenant)?.State === "running",
  );
  const bad = judged.filter(({ problem }) => problem !== null);
  const good = judged.filter(
    ({ state, problem, pending }) => state === "running" && problem === null && pending === null,
  );
  const findings: Finding[] = bad.map(({ tenant, problem }) => ({
    check,
    level: "problem",
    tenant,
    message: String(problem),
    advice: `docker logs --tail 20 ${names.backup(tenant)} says why (docs/backups.md)`,
  }));
  if (good.length > 0) {
    const named = firstOf(good.map(({ tenant }) => tenant));
    findings.unshift({ check, level: "good", message: `in order: ${named}` });
  }
  for (const { tenant, pending } of judged) {
    if (pending !== null) findings.push({ check, level: "note", tenant, message: pending });
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

/** @param lost what stops working without it, where that is not everything */
function containerFinding(
  check: Finding["check"],
  name: string,
  info: Docker.ContainerInfo | undefined,
  good: string,
  lost = "",
): Finding {
  if (info?.State === "running" && !info.Status.includes("(unhealthy)"))
    return { check, level: "good", message: `${name} runs, and ${good}` };
  const message = info ? `${name} is ${info.Status}` : `there is no container ${name}`;
  const advice = `./pgs up starts or replaces it; docker logs ${name} says why it stopped`;
  return {
    check,
    level: "problem",
    message: message + (lost && `, so that ${lost}`),
    advice: info ? advice : "./pgs up replaces it",
  };
}

/** Everything found out about one tenant. */
interface Examined {
  id: string;
  host: string;
  port: number;
  /** Whether clients should get in. */
  open: boolean;
  /** Whether the stack's own CA vouches for it. */
  ownCa: boolean;
  /** Whether its server should run. */
  wanted: boolean;
  state: string;
  status: string;
  resolved: string[];
  /** Where port, TLS and login were tried. */
  address: string | undefined;
  tls?: TlsProbe;
  login?: Awaited<ReturnType<typeof login>>;
}

async function examineTenant(
  id: string,
  config: StackConfig,
  outputs: StackOutputs,
  { state, status }: Pick<Examined, "state" | "status">,
  proxyAddress: string | undefined,
): Promise<Examined> {
  const { tenants, connectionStrings } = outputs;
  const tenant = tenants[id] as StackOutputs["tenants"][string];
  const resolved = await resolve(tenant.host);
  // The proxy listens on IPv4 only.
  const address = resolved.find((one) => !one.includes(":")) ?? resolved[0] ?? proxyAddress;
  const wanted = tenant.state !== "stopped";
  const open = tenant.state === "running" && tenant.access;
  const found: Examined = {
    id,
    host: tenant.host,
    port: tenant.port,
    open,
    ownCa: true,
    wanted,
    state,
    status,
    resolved,
    address,
  };
  if (!address) return found;
  const ca = caOf(tenant, outputs, config);
  found.ownCa = ca !== null;
  const target: Target = { address, port: tenant.port, host: tenant.host, ca };
  found.tls = await probeTls(target, tenant.user);
  // Without a server behind it, or with a wrong certificate, a login could only repeat that.
  if (open && answers(state) && found.tls.answered && !found.tls.untrusted) {
    const password = decodeURIComponent(new URL(connectionStrings[id] ?? "").password);
    found.login = await login(target, { user: tenant.user, database: tenant.database, password });
  }
  return found;
}

/** `degraded`: its primary answers. */
function answers(state: string): boolean {
  return state === "running" || state === "degraded";
}

type Judged = Omit<Finding, "check" | "tenant"> | undefined;

/** One finding for all tenants that are well, and one for each that is not. */
function summed(
  check: Finding["check"],
  tenants: Examined[],
  judge: (tenant: Examined) => Judged,
  detail: (tenant: Examined) => string,
): Finding[] {
  const bad: Finding[] = [];
  const good: Examined[] = [];
  for (const one of tenants) {
    const judged = judge(one);
    if (judged && judged.level !== "good") bad.push({ check, tenant: one.id, ...judged });
    else if (judged) good.push(one);
  }
  if (good.length === 0) return bad;
  const details = good.map(detail).filter(Boolean);
  const named = firstOf(good.map((one, index) => (details[index] ? `${one.id} ${details[index]}` : one.id)));
  return [{ check, level: "good", message: `${goodWords[check]}: ${named}` }, ...bad];
}

const goodWords: Partial<Record<Finding["check"], string>> = {
  server: "in order",
  route: "open or closed as they should be",
  login: "with the password of the stack",
};

function clusterServerFinding({ id, wanted, state, status }: Examined): Judged {
  if (wanted ? state === "running" : state === "stopped") return { level: "good", message: "" };
  const advice = {
    incomplete: "./pgs up says why, and tries again",
    missing: "./pgs up makes it again; docs/kubernetes.md says where data stays",
    stopping: "./pgs up stops it",
  }[state];
  return {
    level: "problem",
    message:
      state === "incomplete" ? "it is not complete: no up has made it yet" : `it is ${state}: ${status}`,
    advice: advice ?? `./pgs logs ${id} --tail 50; kubectl describes its Cluster and its pods`,
  };
}

function serverFinding({ id, wanted, state, status }: Examined): Judged {
  if (state === "incomplete") {
    return {
      level: "problem",
      message: "it is not complete: no up has made it yet",
      advice: "./pgs up says why, and tries again",
    };
  }
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
      advice: "./pgs up replaces it, on the same data",
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

function dnsFindings(tenants: Examined[], target: string): Finding[] {
  const check = "DNS";
  const [found, lost] = [
    tenants.filter((one) => one.resolved.length > 0),
    tenants.filter((one) => one.resolved.length === 0),
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
        : `point ${wildcard(hosts[0] ?? "")} at ${target} (docs/certificates.md, DNS)`,
    });
  }
  return findings;
}

/** One finding for each address. */
function ports(tenants: Examined[]): Finding[] {
  const check = "port";
  const tried = new Map<string, Examined>();
  for (const one of tenants) if (one.address) tried.set(`${one.address}:${one.port}`, one);
  return [...tried].map(([address, { tls }]) =>
    tls?.unreachable
      ? {
          check,
          level: "problem",
          message: `${address} cannot be reached (${tls.unreachable})`,
          advice:
            "when the proxy runs: look at firewalls, at the address that the name resolves to, and at pgs:port",
        }
      : { check, level: "good", message: `${address} takes connections` },
  );
}

function routeFinding({ id, open, state, tls }: Examined): Judged {
  // Of a tenant that no up has made yet, that is the finding: its route may be open already.
  if (state === "incomplete" || !tls || tls.unreachable || tls.unknownName) return undefined;
  if (open && !tls.answered) {
    // Without a server behind it, an open route looks like none.
    if (!answers(state)) return undefined;
    const advice = "./pgs up writes it again; the log of the proxy says when it cannot reach the server";
    return { level: "problem", message: "the proxy has no route for its name", advice };
  }
  if (!open && tls.answered) {
    const advice = `./pgs up closes it; ./pgs logs ${id} has what came in`;
    return { level: "problem", message: "its route should be closed, and is open", advice };
  }
  return { level: "good", message: "" };
}

/** One finding for each certificate that is served, and one for each tenant that it does not cover. */
function certificates(tenants: Examined[]): Finding[] {
  const check = "certificate";
  const served = new Map<string, { certificate: PeerCertificate; untrusted?: string; tenants: Examined[] }>();
  for (const one of tenants) {
    const { certificate, untrusted } = one.tls ?? {};
    if (!certificate) continue;
    const known = served.get(certificate.fingerprint256);
    if (known) known.tenants.push(one);
    else served.set(certificate.fingerprint256, { certificate, untrusted, tenants: [one] });
  }
  const unknown = tenants
    .filter((one) => one.tls?.unknownName)
    .map(
      ({ id, host, ownCa }): Finding => ({
        check,
        level: "problem",
        tenant: id,
        message: `the proxy has no certificate for ${host}`,
        advice: ownCa ? "./pgs up" : `use one for ${wildcard(host)}, then ./pgs up`,
      }),
    );
  const judged = [...served.values()].flatMap(({ certificate, untrusted, tenants }) => {
    const findings: Finding[] = [];
    const ownCa = tenants.some((one) => one.ownCa);
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
    for (const { id, host } of tenants) {
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

function loginFinding({ id, login }: Examined): Judged {
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
