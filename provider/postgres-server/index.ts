import { performance } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import * as pulumi from "@pulumi/pulumi";
import type Docker from "dockerode";
import { networksByName } from "../../docker/cache";
import { dockerClient, ifPresent } from "../../docker/client";
import { isAttached } from "../attachment";
import { reservedAddress } from "../network";
import { IncompleteError, type ResourceType } from "../resource-type";
import { readFile, removeFile, type TraefikFileInputs, writeFile } from "../traefik-file";
import { type Backup, backUp, barmanRole, endBackup, isBackedUp } from "./backup";
import { createBarmanRole, lockBarmanRole } from "./barman";
import { certificateDigest, hasCertificate, type ServerCertificate, setCertificate } from "./certificate";
import { type Admitted, admit, admittedNow } from "./clients";
import {
  definitionOf,
  inspectServer,
  isMadeOf,
  isOfStack,
  removeServer,
  runContainer,
  type ServerContainer,
} from "./container";
import { createDatabase } from "./database";
import { limitsOf, setLimits } from "./limits";
import { matches, scramVerifier } from "./password";
import { endCutOffRun, literal, NotReadyError, psql, readyTimeout } from "./psql";
import { endSessions } from "./sessions";
import { applySettings, asWritten, type Settings } from "./settings";
import { restart } from "./start";

/** One tenant's server: its container, what is true of it while it runs, and what the proxy and Barman know of it. */
export interface PostgresServerInputs extends ServerContainer {
  /** `running`, or `stopped`: then there is no container. */
  state: string;
  /** Major version; that of existing data cannot be changed. */
  version: number;
  /** The database to make; its init scripts run in it. */
  database: string;
  /** Of the role postgres; printable ASCII. */
  password: string;
  /** Absolute paths of SQL files on this machine, run once in this order when the database is first made. */
  init?: string[];
  /** Settings that count after a reload. */
  settings: Settings;
  /** Settings whose change restarts the server, once. */
  settingsWithRestart: Settings;
  /** Whether the tenant's route is open. Closing it ends the sessions that came by it. */
  access: boolean;
  /** From where clients may come: a CIDR, or `all` where the network holds nobody but the proxy. */
  clients: string;
  /** What clients see whose TLS the proxy passes through, PEM, leaf first; without one the server has no TLS. */
  certificate?: string;
  /** Its private key, PEM; a secret. */
  key?: string;
  /** Of the role that Barman logs in as; without one there is no such role. */
  barmanPassword?: string;
  /** How Barman backs it up; without it, it does not. */
  backup?: Pick<Backup, "barman" | "schedule" | "retention" | "stopped">;
  /** The proxy's file for it; a closed route is a file without a router. */
  route: Omit<TraefikFileInputs, "host">;
  /** What the operator is told when the tenant is removed. */
  farewell: string;
  /** Where the operator wrote each setting, for messages. */
  positions?: Record<string, string>;
}

export interface PostgresServerState extends PostgresServerInputs {
  /** Id of the container; a stopped tenant has none. */
  containerId?: string;
  /** What the running server has, in bytes: it may wait for a restart to have less. */
  sharedBuffers?: number;
  /** What is written in a stopped tenant's data, and may not be wanted any more when it starts. */
  left?: Settings;
}

/** The most of its memory that a running server's shared_buffers may be when the limit is lowered under it. */
const largestSharedBuffers = 0.6;

export const PostgresServer: ResourceType<PostgresServerInputs, PostgresServerState> = {
  updatable: [
    "state",
    "image",
    "definition",
    "database",
    "password",
    "memory",
    "cpus",
    "settings",
    "settingsWithRestart",
    "settingsAtNextStart",
    "access",
    "clients",
    "network",
    "certificate",
    "key",
    "barmanPassword",
    "backup",
    "route",
    "farewell",
  ],
  replacing: ["host", "container"],

  derived({ adopted = false }) {
    return { definition: definitionOf(adopted) };
  },

  async check({ host, password, version, volume }, before) {
    const failures: Awaited<ReturnType<NonNullable<typeof PostgresServer.check>>> = [];
    if (password !== undefined && !/^[ -~]{1,256}$/.test(password)) {
      failures.push({ property: "password", reason: "a password is 1 to 256 printable ASCII characters" });
    }
    const present = before.version ?? (volume && (await versionOf(host, volume)));
    if (present && version !== undefined && present !== version) {
      failures.push({ property: "version", reason: otherVersion(present, version) });
    }
    return failures;
  },

  async remark(state, { container, state: wanted, image, definition, memory }) {
    // A state of before the container was a part of the server does not say that it runs.
    const ran = state.containerId !== undefined && (state.state ?? "running") === "running";
    if (!ran || wanted !== "running") return undefined;
    // In a preview, a new image is not known yet.
    if (image !== state.image || definition !== state.definition) {
      return `${container} is restarted once: its container is made anew`;
    }
    if (memory === undefined || memory >= state.memory) return undefined;
    // A restart since the last `up` may have given it the buffers that waited for one.
    const present = await this.read("", state).catch(() => undefined);
    if (!tooLarge({ ...state, sharedBuffers: present?.sharedBuffers ?? state.sharedBuffers }, memory))
      return undefined;
    return `${container} is restarted once: its shared_buffers would fill more than ${largestSharedBuffers * 100} % of the new memory limit`;
  },

  async create(inputs) {
    return { id: inputs.container, state: await bringAbout(inputs, {}) };
  },

  /** One whose container is gone stays in the state: what was set in its data stays known. */
  async read(_id, state) {
    return (await compared(state, (container) => observe(container, 15))) ?? { ...state, state: "gone" };
  },

  /** What the server itself has to be asked is compared in an `up` alone. */
  look(_id, state) {
    return compared(state, (_container, id) => lookInto(id));
  },

  async update(_id, state, inputs) {
    return bringAbout(inputs, state);
  },

  /** What it set on the server stays with the data. */
  async delete(_id, state) {
    if (state.farewell) await pulumi.log.info(state.farewell);
    // A state that was written before it had these parts has none.
    if (state.route) await removeFile(routeOf(state));
    const backup = backupOf(state);
    if (backup) await endBackup(backup);
    await removeServer(state, state.containerId);
  },
};

/** Servers that this run may look into and has not yet: ids of their containers. */
const toLookInto = new Map<string, Docker.Container>();
const looks = new Map<string, Promise<Observed>>();

/** How many looks are under way beside the one that is waited for: they keep two processors busy. */
const ahead = 7;

/** Has a plan compare also what only these running servers can tell: a process in each container. */
export function lookInside(docker: Docker, containers: string[]): void {
  for (const id of containers) toLookInto.set(id, docker.getContainer(id));
}

/**
 * Pulumi plans one resource after another, so the next ones are begun before they are asked for; few, as an `up` of one
 * tenant asks for none of them.
 */
function lookInto(id: string): Promise<Observed> | undefined {
  begin(id);
  const look = looks.get(id);
  looks.delete(id);
  for (const next of [...toLookInto.keys()].slice(0, Math.max(0, ahead - looks.size))) begin(next);
  return look;
}

function begin(id: string): void {
  const container = toLookInto.get(id);
  if (!container) return;
  toLookInto.delete(id);
  const look = observe(container, 15);
  look.catch(() => {});
  looks.set(id, look);
}

/** The state as it would be if the last `up` had left what is there now; without what is observed, the rest of it. */
async function compared(
  state: PostgresServerState,
  observed: (container: Docker.Container, id: string) => Promise<Observed> | undefined,
): Promise<PostgresServerState | undefined> {
  const { route, backup } = state;
  const around = {
    ...state,
    route: route && { ...route, content: (await readFile(routeOf(state))) ?? "" },
    backup: backup && { ...backup, schedule: (await keepsBackup(state)) ? backup.schedule : "" },
  };
  if (state.containerId === undefined) return around;
  const container = dockerClient(state.host).getContainer(state.container);
  const info = await inspectServer(state);
  if (!info) return undefined;
  // Whatever cannot be seen now is brought about again by the next `up`.
  const { Running, Paused, Restarting, Status } = info.State;
  if (!Running || Paused || Restarting) return { ...around, state: Status };
  const outside = {
    ...around,
    ...limitsOf(info),
    definition: isMadeOf(state, info) ? state.definition : "",
    containerId: info.Id,
    network: (await isAttached(state.host, info, state.network)) ? state.network : "",
  };
  try {
    const present = await observed(container, info.Id);
    if (!present) return outside;
    return {
      ...outside,
      sharedBuffers: present.sharedBuffers,
      database: present.databases.includes(state.database) && !present.creating ? state.database : "",
      clients: present.admitted.clients,
      barmanPassword: await barmanPasswordOf(state, present),
      password: matches(present.verifier, state.password) ? state.password : "",
      certificate: hasCertificate(certificateOf(state), present) ? state.certificate : "",
      settings: asWritten(state.settings, present.settings),
      settingsWithRestart: asWritten(state.settingsWithRestart, present.settings),
      settingsAtNextStart: asWritten(state.settingsAtNextStart, present.settings),
    };
  } catch {
    return { ...around, state: "without an answer" };
  }
}

/** `before` is empty for a tenant that is new. */
async function bringAbout(
  inputs: PostgresServerInputs,
  before: Partial<PostgresServerState>,
): Promise<PostgresServerState> {
  const runs = inputs.state === "running";
  // It is closed before the sessions that came by it are ended. One to a server that has TLS itself is opened when it
  // has its certificate.
  const routeFirst = !runs || !inputs.access || !inputs.certificate;
  try {
    let changed = routeFirst ? await writeRoute(inputs, before) : undefined;
    const learnt = runs ? await bringUp(inputs, before) : { left: settingsIn(before) };
    if (!routeFirst) changed = await writeRoute(inputs, before);
    const state = { ...inputs, ...learnt };
    await changeBackup(state, before);
    if (!runs) await removeServer(inputs, before.containerId);
    if (changed) await takenUp(changed);
    return state;
  } catch (error) {
    // The backup as it was before: one that has to begin anew does so when it is tried again.
    const containerId = await idOf(inputs, before);
    const incomplete = {
      ...inputs,
      ...written(before),
      backup: before.backup,
      containerId,
      state: "incomplete",
    };
    throw new IncompleteError(inputs.container, incomplete, await explain(error, inputs));
  }
}

/** The server itself, running as it should be. */
async function bringUp(
  inputs: PostgresServerInputs,
  before: Partial<PostgresServerState>,
): Promise<{ containerId: string; sharedBuffers: number }> {
  const { containerId, limits } = await runContainer(inputs, before.containerId);
  const container = dockerClient(inputs.host).getContainer(inputs.container);
  let present = await observe(container, readyTimeout);
  if (present.creating) {
    await endCutOffRun(container);
    present = await observe(container, readyTimeout);
  }
  refuseOtherVersion(inputs, present);
  const pending = await setSettings(container, inputs, before, present.settings);
  const restarts =
    tooLarge({ ...present, ...limits }, inputs.memory) ||
    pending.some((name) => name in { ...before.settingsWithRestart, ...inputs.settingsWithRestart });
  if (restarts) await restartWithSettings(container, inputs, present.settings);
  await setLimits(container, limits, inputs);
  await admitClients(container, inputs, present);
  await setCertificate(container, certificateOf(inputs), present);
  await createDatabase(
    container,
    inputs.database,
    inputs.init ?? [],
    present,
    passwordChange(inputs.password, present.verifier),
  );
  if (!inputs.access) await endSessions(container);
  const { sharedBuffers } = restarts ? await observe(container, readyTimeout) : present;
  return { containerId, sharedBuffers };
}

/** For the state of what is not yet as it should be: a container that is in no state counts as a leftover. */
async function idOf(
  inputs: PostgresServerInputs,
  before: Partial<PostgresServerState>,
): Promise<string | undefined> {
  try {
    const info = await inspectServer(inputs);
    return info && isOfStack(inputs, info) ? info.Id : undefined;
  } catch {
    return before.containerId;
  }
}

function routeOf({ host, route }: PostgresServerInputs): TraefikFileInputs {
  return { host, ...route };
}

/** @returns when it was written; undefined when it is as it should be */
async function writeRoute(
  inputs: PostgresServerInputs,
  before: Partial<PostgresServerState>,
): Promise<number | undefined> {
  const route = routeOf(inputs);
  const holds = isDeepStrictEqual(inputs.route, before.route) && (await readFile(route)) === route.content;
  if (holds) return undefined;
  await writeFile(route);
  return performance.now();
}

/** The proxy lets clients in a moment after a route is written (bench/results.md): who logs in after an `up` finds it open. */
async function takenUp(written: number): Promise<void> {
  await delay(Math.max(0, written + 400 - performance.now()));
}

function backupOf(state: Partial<PostgresServerState>): Backup | undefined {
  const { host, backup, database, container, containerId, network, barmanPassword } = state;
  if (!backup || !database || !container || !network) return undefined;
  const server = { tenant: database, server: container, serverId: containerId, network };
  return { host, ...backup, ...server, password: barmanPassword ?? "" };
}

async function keepsBackup(state: PostgresServerState): Promise<boolean> {
  const backup = backupOf(state);
  return backup !== undefined && (await isBackedUp(backup));
}

/** After the server has the role: Barman logs in as soon as it hears of it. */
async function changeBackup(
  inputs: PostgresServerInputs,
  before: Partial<PostgresServerState>,
): Promise<void> {
  const backup = backupOf(inputs);
  const former = backupOf(before);
  if (!backup) {
    if (former) await endBackup(former);
  } else if (!isDeepStrictEqual(backup, former) || !(await isBackedUp(backup))) {
    await backUp(backup, former);
  }
}

/** Whether a lower limit would leave a server that is killed under load: its buffers nearly fill it. */
function tooLarge({ memory, sharedBuffers = 0 }: { memory: number; sharedBuffers?: number }, limit: number) {
  return limit < memory && sharedBuffers > limit * largestSharedBuffers;
}

function certificateOf({ certificate, key }: PostgresServerInputs): ServerCertificate | undefined {
  return certificate !== undefined && key !== undefined ? { chain: certificate, key } : undefined;
}

/** Settings that an incomplete run may have left in the file stay known, so that they can be taken back. */
function written(before: Partial<PostgresServerState>): Partial<PostgresServerState> {
  const { settings, settingsWithRestart, settingsAtNextStart, left } = before;
  return settings ? { settings, settingsWithRestart, settingsAtNextStart, left } : {};
}

interface Observed {
  verifier: string | null;
  databases: string[];
  /** A database is being made, or a run that made one was cut off. */
  creating: boolean;
  /** Contents of postgresql.auto.conf, names in lower case. */
  settings: Settings;
  /** Of the file with the server's certificate. */
  certificateDigest: string | null;
  admitted: Admitted;
  /** Of Barman's role; null when there is none that may log in. */
  barmanVerifier: string | null;
  /** Of the running server, in bytes. */
  sharedBuffers: number;
  /** Major versions that have a data directory in the volume. */
  versions: number[];
}

async function observe(container: Docker.Container, timeout: number): Promise<Observed> {
  const answer = await psql(
    container,
    `SELECT json_build_object(
       'verifier', (SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'),
       'databases', (SELECT json_agg(datname) FROM pg_database),
       'creating', current_setting('pgs.creating', true) <> '' IS TRUE,
       'settings', (SELECT coalesce(json_object_agg(lower(name), setting), '{}') FROM pg_file_settings
                    WHERE sourcefile LIKE '%/postgresql.auto.conf'),
       'certificateDigest', ${certificateDigest},
       'admitted', ${admittedNow(barmanRole)},
       'barmanVerifier', (SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = '${barmanRole}' AND rolcanlogin),
       'sharedBuffers', pg_size_bytes(current_setting('shared_buffers')),
       'versions', (SELECT json_agg(name::int) FROM pg_ls_dir('/var/lib/postgresql') AS name WHERE name ~ '^[0-9]+$'))`,
    { timeout },
  );
  return JSON.parse(answer);
}

/** An entry that was taken away and written again with another version finds data that is not its own. */
function refuseOtherVersion({ database, version }: PostgresServerInputs, present: Observed): void {
  const other = present.versions.find((found) => found !== version);
  if (other === undefined || present.databases.includes(database)) return;
  throw new Error(otherVersion(other, version));
}

/** Of a volume that exists and was made by this program: the data's version, also while no server runs. */
async function versionOf(host: string | undefined, volume: string): Promise<number | undefined> {
  const info = await ifPresent(dockerClient(host).getVolume(volume).inspect());
  return Number(info?.Labels?.["pgs.version"]) || undefined;
}

function otherVersion(present: number, wanted: number): string {
  return (
    `the tenant's data is that of PostgreSQL ${present} and cannot be used by ${wanted}: write version: ${present} again. ` +
    `To move to ${wanted}, add a second tenant with it and copy the data by pg_dump and psql (docs/lifecycle.md)`
  );
}

/** All that an `up` has written, or is to write, into postgresql.auto.conf. */
function settingsIn(state: Partial<PostgresServerState>): Settings {
  return state.left ?? { ...state.settings, ...state.settingsWithRestart, ...state.settingsAtNextStart };
}

async function setSettings(
  container: Docker.Container,
  inputs: PostgresServerInputs,
  before: Partial<PostgresServerInputs>,
  present: Settings,
): Promise<string[]> {
  const trial = Object.keys({ ...before.settingsWithRestart, ...inputs.settingsWithRestart }).length > 0;
  try {
    return await applySettings(container, settingsIn(inputs), settingsIn(before), present, trial);
  } catch (error) {
    throw positioned(error, inputs);
  }
}

/** Says where in tenants.yaml the setting stands that a message begins with. */
function positioned(error: unknown, inputs: PostgresServerInputs): unknown {
  const [, name] = /^setting ([^\s,:]+)/.exec((error as Error).message) ?? [];
  const position = name && inputs.positions?.[name];
  return position ? new Error(`${position}: ${(error as Error).message}`) : error;
}

/** With settings that the server does not come up with, it goes on with those it had. */
async function restartWithSettings(
  container: Docker.Container,
  inputs: PostgresServerInputs,
  present: Settings,
): Promise<void> {
  const refused = await restart(container, present);
  if (refused === undefined) return;
  const changed = Object.entries(inputs.settingsWithRestart).filter(
    ([name, value]) => present[name] !== value,
  );
  const names = changed.map(([name]) => name).join(", ");
  const message = `${names && `setting ${names}: `}the server does not start with it and runs with its former settings again: ${refused}`;
  throw positioned(new Error(message), inputs);
}

/** Opens the server to its clients and, where there is to be a backup, to Barman. */
async function admitClients(
  container: Docker.Container,
  inputs: PostgresServerInputs,
  { admitted, barmanVerifier }: Observed,
): Promise<void> {
  const { barmanPassword, clients } = inputs;
  const barman = barmanPassword ? await barmanAddress(inputs) : "";
  if (barmanPassword && !matches(barmanVerifier, barmanPassword)) {
    await createBarmanRole(container, barmanPassword);
  }
  if (!barmanPassword && barmanVerifier !== null) await lockBarmanRole(container);
  await admit(container, { clients, barman }, admitted, barmanRole);
}

/** The password when the role has it and may log in from where Barman is. */
async function barmanPasswordOf(
  state: PostgresServerInputs,
  { admitted, barmanVerifier }: Observed,
): Promise<string | undefined> {
  const { barmanPassword } = state;
  if (!barmanPassword) return barmanVerifier === null ? undefined : "";
  const holds = matches(barmanVerifier, barmanPassword) && admitted.barman === (await barmanAddress(state));
  return holds ? barmanPassword : "";
}

async function barmanAddress({ host, network }: PostgresServerInputs): Promise<string> {
  const info = (await networksByName(host)).get(network);
  const address = info && reservedAddress(info, "barman");
  if (!address) throw new Error(`the network ${network} has no subnet of pgs:tenantSubnets`);
  return address;
}

/** SQL; empty where the role has it. */
function passwordChange(password: string, stored: string | null): string {
  return matches(stored, password) ? "" : `ALTER ROLE postgres PASSWORD ${literal(scramVerifier(password))}`;
}

/** Says which server it is about, and of one that does not come up where to look. */
async function explain(error: unknown, inputs: PostgresServerInputs): Promise<Error> {
  const { message } = error as Error;
  if (inputs.state === "stopped") return new Error(`${inputs.container}: ${message}`);
  const info = await inspectServer(inputs).catch(() => undefined);
  if (info && !(error instanceof NotReadyError) && info.State.Running && !info.State.Restarting) {
    return new Error(`${inputs.container}: ${message}`);
  }
  const state = !info ? "is gone" : info.State.Status === "running" ? "runs" : `is ${info.State.Status}`;
  return new Error(
    `${inputs.container}: ${message} (the container ${state}); \`docker logs --tail 20 ${inputs.container}\` says why`,
  );
}
