import { type ClusterAddress, kubernetesClient } from "../../kubernetes/client";
import { IncompleteError, type ResourceType } from "../resource-type";
import type { RoleInputs, ServerContents } from "../server/inputs";
import { creatingSetting, type Inside, lookInside } from "../server/inside";
import type { OpenServer } from "../server/part";
import { runScript } from "../server/parts/database";
import { changesIn, extensions } from "../server/parts/extensions";
import { roles, rolesWarnings } from "../server/parts/roles";
import { matches, scramVerifier } from "../server/scram";
import { identifier, literal, type SqlSession } from "../server/session";
import { PrimarySession } from "./session";

/**
 * What is true inside of a tenant's servers, by SQL as on Docker: init scripts, passwords, roles, extensions. It comes
 * after the rollout of its Cluster and before its route.
 */
export interface TenantDatabaseInputs extends ClusterAddress, Omit<ServerContents, "container"> {
  namespace: string;
  /** PostgreSQL's major version. */
  version: number;
  /** The Cluster's: what changes it may have changed what is inside. */
  generation: number;
  state: string;
  roles: Record<string, RoleInputs>;
  rolePasswords: Record<string, string>;
  extensions: Record<string, string>;
  positions: Record<string, string>;
  /** SQL files on this machine, run once in this order; paths from the project's folder. */
  init: string[];
}

interface State extends TenantDatabaseInputs {
  leftExtensions?: Record<string, string>;
}

export const TenantDatabase: ResourceType<TenantDatabaseInputs, State> = {
  updatable: [
    "kubeconfig",
    "context",
    "version",
    "generation",
    "state",
    "password",
    "user",
    "roles",
    "rolePasswords",
    "extensions",
  ],
  replacing: ["namespace", "tenant"],

  check({ password, rolePasswords = {} }) {
    const isFine = (value: string | undefined) => value === undefined || /^[ -~]{1,256}$/.test(value);
    const reason = "a password is 1 to 256 printable ASCII characters";
    return [
      ...(isFine(password) ? [] : [{ property: "password" as const, reason }]),
      ...(Object.values(rolePasswords).every(isFine) ? [] : [{ property: "rolePasswords" as const, reason }]),
    ];
  },

  async planWarnings(state, inputs) {
    if (state.state !== "running" || inputs.state !== "running") return [];
    const [before, after] = [contentsOf(state), contentsOf(inputs)];
    const session = await PrimarySession.open(await kubernetesClient(inputs), inputs).catch(() => undefined);
    if (!session) return [];
    const inside = hasExtensions(state, inputs)
      ? await lookInside(session).catch(() => undefined)
      : undefined;
    const changes = changesIn(before, after, inside);
    return [
      ...changes.map((change) => `${inputs.namespace}: ${change}`),
      ...(await rolesWarnings(before, after, session)),
    ];
  },

  async create(inputs) {
    return { id: inputs.namespace, state: await applied(inputs, {}) };
  },

  async read(_id, state) {
    const drift = (await this.drift?.(state.namespace, state)) ?? [];
    return drift.length > 0 ? { ...state, state: drift.join(", ") } : state;
  },

  /** What cannot be seen does not differ: that a server is down is the Cluster's matter. */
  async drift(_id, state) {
    if (state.state !== "running") return [];
    const client = await kubernetesClient(state);
    const inside = await PrimarySession.open(client, state)
      .then(lookInside)
      .catch(() => undefined);
    if (!inside) return [];
    const contents = contentsOf(state);
    return [
      ...((await isLogin(state, inside)) ? [] : ["password"]),
      ...((await roles.differs(contents, { inside })) ? ["roles"] : []),
      ...((await extensions.differs(contents, { inside })) ? ["extensions"] : []),
    ];
  },

  async update(_id, state, inputs) {
    return applied(inputs, state);
  },

  async delete() {
    // The data stays, or goes as a whole.
  },
};

function contentsOf(inputs: TenantDatabaseInputs): TenantDatabaseInputs & ServerContents {
  return { ...inputs, container: { name: inputs.namespace } };
}

function hasExtensions(...all: TenantDatabaseInputs[]): boolean {
  return all.some(({ extensions: names }) => Object.keys(names).length > 0);
}

/** @throws IncompleteError: the next `up` goes on */
async function applied(inputs: TenantDatabaseInputs, before: Partial<State>): Promise<State> {
  const left = { leftExtensions: { ...before.leftExtensions, ...before.extensions } };
  if (inputs.state === "stopped") return { ...inputs, ...left };
  try {
    const client = await kubernetesClient(inputs);
    const session = await PrimarySession.open(client, inputs);
    await runInitScripts(inputs, session, [undefined, "incomplete"].includes(before.state));
    const inside = await lookInside(session);
    const server: OpenServer = {
      inputs: contentsOf(inputs),
      before: before.state === undefined ? {} : { ...before, container: { name: inputs.namespace } },
      session,
      inside,
    };
    await extensions.remove(server);
    await extensions.apply(server);
    await roles.apply(server);
    await setPassword(inputs, session, inside);
    return inputs;
  } catch (error) {
    const state = [undefined, "incomplete"].includes(before.state) ? "incomplete" : "failed";
    throw new IncompleteError(inputs.namespace, { ...inputs, ...left, state }, error as Error);
  }
}

/** Where the tenant is no superuser, its password is that of one of the roles. */
async function isLogin({ user, password }: TenantDatabaseInputs, inside: Inside): Promise<boolean> {
  if (user !== undefined) return true;
  return inside.validUntil === null && (await matches(inside.verifier, password));
}

/** The operator sets the same some seconds after a change of its Secret, and not again when the tenant has another. */
async function setPassword(inputs: TenantDatabaseInputs, session: SqlSession, inside: Inside): Promise<void> {
  if (await isLogin(inputs, inside)) return;
  const verifier = literal(await scramVerifier(inputs.password));
  await session.run(`ALTER ROLE postgres PASSWORD ${verifier} VALID UNTIL 'infinity';`);
}

/** The value of `pgs.creating` once scripts have begun; before, it is the tenant's id (components/kubernetes). */
const begun = "scripts";

/**
 * A server that CloudNativePG has just made says so by `pgs.creating`. Data that was there before, or came from a backup,
 * does not, and is left as it is. Where a run was cut off, the database is made again; roles that its scripts made stay.
 */
async function runInitScripts(
  inputs: TenantDatabaseInputs,
  session: SqlSession,
  isNew: boolean,
): Promise<void> {
  // Whatever a superuser, or a dump, has set in a server that was complete once.
  if (!isNew) return;
  const found = await session.read(`SELECT current_setting('${creatingSetting}', true)`);
  if (found === "") return;
  const name = identifier(inputs.tenant);
  if (found === begun) {
    await session.run(
      `DROP DATABASE IF EXISTS ${name} WITH (FORCE);\nCREATE DATABASE ${name} OWNER ${name};`,
    );
  }
  if (inputs.init.length > 0) {
    await session.run(`ALTER DATABASE postgres SET ${creatingSetting} = ${literal(begun)};`);
    const contents = contentsOf(inputs);
    for (const script of inputs.init) await runScript({ inputs: contents, session }, script);
  }
  await session.run(`ALTER DATABASE postgres RESET ${creatingSetting};`);
}
