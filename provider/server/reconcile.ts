import { dockerClient } from "../../docker/client";
import { isOfStack } from "../container/ownership";
import { inspectContainer } from "../container/reconcile";
import { IncompleteError } from "../resource-type";
import { explained, refuseOtherVersion } from "./errors";
import type { PostgresServerInputs, PostgresServerState } from "./inputs";
import { lookInside } from "./inside";
import type { RunningServer } from "./part";
import { access, excludedClients } from "./parts/access";
import { backup } from "./parts/backup";
import { container } from "./parts/container";
import { database } from "./parts/database";
import { extensions } from "./parts/extensions";
import { limits, restartReason } from "./parts/limits";
import { network } from "./parts/network";
import { pooler } from "./parts/pooler";
import { roles } from "./parts/roles";
import { route } from "./parts/route";
import { settings } from "./parts/settings";
import { tls } from "./parts/tls";
import { NotReadyError, readySeconds, Session } from "./session";

type Before = Partial<PostgresServerState>;

/**
 * Makes a tenant's server what its inputs say, by its parts in their order. Each can be applied again after a run that
 * was cut off.
 * @param before what the last `up` left; empty for a new tenant
 * @throws IncompleteError with the state that the server is in
 */
export async function reconcile(inputs: PostgresServerInputs, before: Before): Promise<PostgresServerState> {
  const { containerId, networkIds = [], backupId } = before;
  const excluded = excludedClients(before, inputs);
  const reached: Reached = { containerId, networkIds, backupId, access: inputs.access };
  if (excluded.length > 0) reached.access = { ...inputs.access, allow: before.access?.allow };
  /** Of clients that may no longer come in. The server may be what fails: it needs no session of it. */
  const endExcluded = async (): Promise<void> => {
    if (excluded.length === 0) return;
    await access.endSessions(dockerClient(inputs.host).getContainer(inputs.container.name));
    await pooler.endSessions(inputs);
    reached.access = inputs.access;
  };
  let opened: Awaited<ReturnType<typeof route.apply>>;
  try {
    const networkId = await network.apply(inputs);
    reached.networkIds = [...new Set([...networkIds, networkId])];
    if (inputs.state === "stopped") {
      await stop(inputs, before, reached, networkId);
    } else {
      opened = routeFirst(inputs, before, excluded) ? await route.apply(inputs) : undefined;
      const server = await start(inputs, before, reached);
      if (!inputs.access.open) await close(inputs, server);
      await applyInside(server);
      await pooler.apply(inputs);
      reached.networkIds = await network.leave(inputs, networkId, before);
      const openedLast = inputs.access.open ? await route.apply(inputs) : undefined;
      reached.backupId = await changeBackup(inputs, before);
      for (const applied of [opened, openedLast]) await applied?.();
      await endExcluded();
    }
    return { ...inputs, ...reached };
  } catch (error) {
    // Whatever fails: a route that is to be closed is.
    if (inputs.state === "stopped" || !inputs.access.open) {
      await route.apply(inputs).catch(() => {});
      await pooler.remove(inputs).catch(() => {});
    } else {
      await pooler.resume(inputs).catch(() => {});
      // Where the new route is not there yet, they would come back.
      if (opened)
        await opened()
          .then(endExcluded, endExcluded)
          .catch(() => {});
    }
    // Until an `up` has ended well, nobody could log in yet.
    const state = [undefined, "incomplete"].includes(before.state) ? "incomplete" : "failed";
    const there = await present(inputs, before, reached);
    const incomplete = { ...inputs, access: reached.access, ...there, state };
    throw new IncompleteError(inputs.container.name, incomplete, await explained(error, inputs));
  }
}

/** Engine's ids of what there is, as far as it is known, and who may have a session. */
type Reached = Pick<PostgresServerState, "containerId" | "networkIds" | "backupId" | "access">;

/** Of an `up` that failed: all that this stack has under the wanted names, whether the `up` got to know it or not. */
async function present(inputs: PostgresServerInputs, before: Before, reached: Reached): Promise<Before> {
  const { host, stack } = inputs;
  const containerOf = async (name: string | undefined) => {
    const info = name && (await inspectContainer({ host, name }).catch(() => undefined));
    return info && isOfStack(info, stack) ? info.Id : undefined;
  };
  const networkId = await network.find(inputs).catch(() => undefined);
  const backupId = await containerOf(inputs.backup?.name);
  return {
    containerId: (await containerOf(inputs.container.name)) ?? reached.containerId,
    networkIds: [...new Set([...(reached.networkIds ?? []), ...(networkId ? [networkId] : [])])],
    ...(backupId ? { backupId } : { backupId: reached.backupId, backup: before.backup }),
  };
}

/**
 * Whether the route comes before the server. One that is opened does, as the proxy applies it meanwhile, and so does
 * one that keeps clients out; one that passed TLS through goes before the server's certificate does, and comes after it.
 * Any other change comes last: it may follow from one that the server refuses.
 */
function routeFirst(inputs: PostgresServerInputs, before: Before, excluded: string[]): boolean {
  if (!inputs.access.open || (inputs.tls && !before.tls)) return false;
  const opens = !before.access?.open || before.state === "stopped";
  return opens || excluded.length > 0 || (before.tls !== undefined && !inputs.tls);
}

/** Network and container, and the server in it until it answers. */
async function start(
  inputs: PostgresServerInputs,
  before: Before,
  reached: Reached,
): Promise<RunningServer & { present: Awaited<ReturnType<typeof container.apply>>["limits"] }> {
  await pauseForReplacement(inputs);
  const { containerId, limits: present } = await container.apply(inputs, before);
  reached.containerId = containerId;
  const running = dockerClient(inputs.host).getContainer(containerId);
  const session = new Session(running, inputs.version, inputs.tenant);
  const look = () => lookInside(session, readySeconds);
  const inside = await look().catch(async (error) => {
    if (inputs.access.open) throw error;
    // Clients that are to go may be what keeps this session out.
    await access.close(running, inputs).catch(() => {});
    if (error instanceof NotReadyError) throw error;
    return look();
  });
  refuseOtherVersion(inputs, inside);
  return { inputs, before, container: running, session, inside, present };
}

/** A server that is to run in another container is restarted by that. */
async function pauseForReplacement(inputs: PostgresServerInputs): Promise<void> {
  const info = await inspectContainer({ host: inputs.host, name: inputs.container.name });
  if (!info?.State.Running || !(await container.differs(inputs, { info, inside: undefined }))) return;
  const session = new Session(dockerClient(inputs.host).getContainer(info.Id), inputs.version, inputs.tenant);
  await pooler.pause({ inputs, session });
}

async function applyInside(server: Awaited<ReturnType<typeof start>>): Promise<void> {
  const { inputs, inside, present } = server;
  await database.maintain(server);
  await database.startOver(server);
  await extensions.remove(server);
  const shrinks = restartReason(present.memory, inputs.limits.memory, inside.sharedBuffers);
  await settings.apply(server, { restart: shrinks !== undefined });
  await limits.apply(server, present);
  // Its restarts are over.
  if (inputs.pooler) await pooler.resume(inputs);
  await tls.apply(server);
  await database.apply(server);
  await extensions.apply(server);
  await roles.apply(server);
  await access.apply(server);
}

/** The server refuses clients before its route closes: one that is at the door already does not get in. */
async function close(inputs: PostgresServerInputs, server: RunningServer): Promise<void> {
  if (await access.differs(inputs, { info: undefined, inside: server.inside })) {
    await access.close(server.container, inputs);
  }
  await pooler.remove(inputs);
  await route.apply(inputs);
}

async function stop(
  inputs: PostgresServerInputs,
  before: Before,
  reached: Reached,
  networkId: string,
): Promise<void> {
  await route.apply(inputs);
  await pooler.remove(inputs);
  await container.remove(inputs, reached.containerId);
  reached.containerId = undefined;
  reached.networkIds = await network.leave(inputs, networkId, before);
  reached.backupId = await changeBackup(inputs, before);
}

async function changeBackup(inputs: PostgresServerInputs, before: Before): Promise<string | undefined> {
  const former = before.backup && { ...inputs, ...before, backup: before.backup };
  if (former && former.backup.name !== inputs.backup?.name) await backup.remove(former, before.backupId);
  return backup.apply(inputs, before.backupId);
}
