import * as pulumi from "@pulumi/pulumi";
import { dockerClient, ifPresent } from "../../docker/client";
import { versionLabel } from "../../docker/labels";
import { nameProblem } from "../container/ownership";
import { digestOf } from "../container/reconcile";
import { networkNameProblem, poolProblem } from "../networks";
import type { ResourceType } from "../resource-type";
import { otherVersion } from "./errors";
import { extensionsProblem, newestIn, versionProblem } from "./image";
import type { PostgresServerInputs, PostgresServerState } from "./inputs";
import type { Inside } from "./inside";
import { isMadeSo, missingLocale, otherLocale } from "./locale";
import type { Part } from "./part";
import { access, excludedClients } from "./parts/access";
import { backup } from "./parts/backup";
import { container, dataElsewhere, serverContainer } from "./parts/container";
import { database, isMade } from "./parts/database";
import { budgetOf, budgetWarnings, disk, softBudget } from "./parts/disk";
import { changesIn, extensions } from "./parts/extensions";
import { limits, restartReason } from "./parts/limits";
import { network } from "./parts/network";
import { pooler, poolerEnds } from "./parts/pooler";
import { roles, rolesWarnings } from "./parts/roles";
import { route } from "./parts/route";
import { isLoaded, restartingSettings, settings } from "./parts/settings";
import { tls } from "./parts/tls";
import { reconcile } from "./reconcile";
import { Session } from "./session";
import { see } from "./sight";

/** In the order in which they are applied. */
const parts: Part[] = [
  network,
  container,
  limits,
  settings,
  disk,
  access,
  tls,
  database,
  extensions,
  roles,
  pooler,
  route,
  backup,
];

/** What a stopped tenant has. */
const withoutServer: Part[] = [network, pooler, route, backup];

/** One tenant's server. A change of any of its parts is applied in place; its data is the volume's. */
export const PostgresServer: ResourceType<PostgresServerInputs, PostgresServerState> = {
  updatable: [
    "state",
    "network",
    "container",
    "limits",
    "settings",
    "password",
    "user",
    "roles",
    "rolePasswords",
    "access",
    "tls",
    "extensions",
    "route",
    "backup",
    "pooler",
    "deleteMessage",
  ],
  replacing: ["host"],

  async check(inputs, before) {
    const { host, stack, version, password, rolePasswords } = inputs;
    const { network, container, backup, pooler, database, positions } = inputs;
    const failures: Awaited<ReturnType<NonNullable<typeof PostgresServer.check>>> = [];
    const fails = (property: keyof PostgresServerInputs, reason: string | undefined) => {
      if (reason) failures.push({ property, reason });
    };
    const passwords = { password: [password], rolePasswords: Object.values(rolePasswords ?? {}) };
    for (const [property, values] of Object.entries(passwords)) {
      if (values.every((value) => value === undefined || /^[ -~]{1,256}$/.test(value))) continue;
      fails(property as keyof typeof passwords, "a password is 1 to 256 printable ASCII characters");
    }
    const present = before.version ?? (await versionOf(host, container?.volume));
    if (present && version && present !== version) fails("version", otherVersion(present, version));
    if (network) {
      fails("network", poolProblem(network.pool, before.network?.pool));
      fails("network", await networkNameProblem(host, network.name, stack));
    }
    if (container) fails("container", await nameProblem(host, container.name, stack));
    if (container?.imageId) {
      fails("container", await versionProblem(inputs, before));
      fails("extensions", await extensionsProblem(inputs, before));
    }
    if (backup) fails("backup", await nameProblem(host, backup.name, stack));
    if (pooler) fails("pooler", await nameProblem(host, pooler.name, stack));
    const { imageId } = container ?? {};
    if (database && imageId && stack && !before.container) {
      const missing = await missingLocale(inputs, database);
      fails("database", missing && at(positions, missing));
    }
    return failures;
  },

  async refusal(state, inputs) {
    if (!isMade(state)) return undefined;
    const other = otherLocale(inputs.tenant, state.database, inputs.database);
    if (other && !(await isMadeSo(state, inputs.database))) return at(inputs.positions, other);
    return dataElsewhere(state);
  },

  async planWarnings(state, inputs) {
    if (state.state !== "running" || inputs.state !== "running") return [];
    const { name } = inputs.container;
    const seen = needsSight(state, inputs) ? await see(state).catch(() => undefined) : undefined;
    const restart = restartOf(state, inputs, seen?.inside);
    const waits = state.pooler && inputs.pooler ? " (clients of its pooler wait)" : "";
    const ended = restart === undefined && excludedClients(state, inputs).length > 0;
    const newest =
      inputs.container.imageId !== state.container.imageId && seen?.inside?.installed
        ? await newestIn(inputs).catch(() => new Map<string, string>())
        : undefined;
    const changes = changesIn(state, inputs, seen?.inside, newest);
    return [
      ...(restart ? [`${name} is restarted once: ${restart}${waits}`] : []),
      ...(inputs.access.open && poolerEnds(state, inputs)
        ? [
            `${name}: the sessions of its pooler's clients end, as the pooler is ${inputs.pooler ? "replaced" : "removed"}`,
          ]
        : []),
      ...(ended ? [`all open sessions of ${name} are ended: fewer addresses than before may connect`] : []),
      ...changes.map((change) => `${name}: ${change}`),
      ...(await budgetWarnings(state, inputs, seen?.inside)),
      ...(await rolesWarnings(state, inputs, sessionOf(state))),
    ];
  },

  creationWarnings: softBudget,

  async create(inputs) {
    return { id: inputs.container.name, state: await reconcile(inputs, {}) };
  },

  /** One whose container is gone stays in the state, since its data does. */
  async read(id, state) {
    const drift = (await this.drift?.(id, state)) ?? [];
    const { containerId, ...without } = state;
    const gone = drift.includes("container is missing");
    return { ...(gone ? without : state), state: drift.length > 0 ? drift.join(", ") : state.state };
  },

  async drift(_id, state) {
    if (state.state === "stopped") return differing(withoutServer, state, undefined);
    const sight = await see(state);
    if (!sight) return ["container is missing"];
    return [...(sight.silent ? [sight.silent] : []), ...(await differing(parts, state, sight))];
  },

  async update(_id, state, inputs) {
    return reconcile(inputs, state);
  },

  async delete(_id, state) {
    if (state.deleteMessage) await pulumi.log.info(state.deleteMessage);
    await route.remove(state);
    await pooler.remove(state);
    await container.remove(state, state.containerId);
    await backup.remove(state, state.backupId);
    for (const id of state.networkIds ?? []) await network.remove(state, id, state.network.proxy);
  },
};

function sessionOf({ host, container, version, tenant }: PostgresServerState): Session {
  return new Session(dockerClient(host).getContainer(container.name), version, tenant);
}

/** With where tenants.yaml says how the database is made, where it does. */
function at(positions: PostgresServerInputs["positions"], message: string): string {
  return positions?.locale ? `${positions.locale}: ${message}` : message;
}

/** Whether what a plan says depends on the running server. */
function needsSight(state: PostgresServerState, inputs: PostgresServerInputs): boolean {
  return (
    inputs.limits.memory < state.limits.memory ||
    budgetOf(inputs) !== budgetOf(state) ||
    Boolean(state.extensions) ||
    Boolean(inputs.extensions)
  );
}

/** Why the server is restarted; undefined when it is not. */
function restartOf(
  state: PostgresServerState,
  inputs: PostgresServerInputs,
  inside: Inside | undefined,
): string | undefined {
  if (digestOf(serverContainer(state)) !== digestOf(serverContainer(inputs))) {
    return "its container is replaced";
  }
  const names = restartingSettings(state, inputs).filter(
    (name) => name !== "shared_preload_libraries" || !isLoaded(inputs, inside),
  );
  if (names.length > 0) return names.join(", ");
  return restartReason(state.limits.memory, inputs.limits.memory, inside?.sharedBuffers);
}

async function differing(
  looked: Part[],
  state: PostgresServerState,
  sight: Awaited<ReturnType<typeof see>>,
): Promise<string[]> {
  const seen = sight ?? { info: undefined, inside: undefined };
  const differ = await Promise.all(looked.map((part) => part.differs(state, seen)));
  return looked.filter((_, index) => differ[index]).map(({ name }) => name);
}

/** Of a volume that exists and was made by this program: the data's version, also while no server runs. */
async function versionOf(host: string | undefined, volume: string | undefined): Promise<number | undefined> {
  if (!volume) return undefined;
  const info = await ifPresent(dockerClient(host).getVolume(volume).inspect());
  return Number(info?.Labels?.[versionLabel]) || undefined;
}
