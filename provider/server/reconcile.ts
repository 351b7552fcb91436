import { dockerClient } from "../../docker/client";
import { isOfStack } from "../container/ownership";
import { inspectContainer } from "../container/reconcile";
import { IncompleteError } from "../resource-type";
import { explained, refuseOtherVersion } from "./errors";
import type { PostgresServerInputs, PostgresServerState } from "./inputs";
import { lookInside } from "./inside";
import type { RunningServer } from "./part";
import { access } from "./parts/access";
import { backup } from "./parts/backup";
import { container } from "./parts/container";
import { database } from "./parts/database";
import { limits, restartReason } from "./parts/limits";
import { network } from "./parts/network";
import { route } from "./parts/route";
import { settings } from "./parts/settings";
import { tls } from "./parts/tls";
import { readySeconds, Session } from "./session";

type Before = Partial<PostgresServerState>;

/**
 * Makes a tenant's server what its inputs say, by its parts in their order. Each can be applied again after a run that
 * was cut off.
 * @param before what the last `up` left; empty for a new tenant
 * @throws IncompleteError with the state that the server is in
 */
export async function reconcile(inputs: PostgresServerInputs, before: Before): Promise<PostgresServerState> {
  const reached: Pick<PostgresServerState, "containerId" | "networkId" | "backupId"> = {
    containerId: before.containerId,
    networkId: before.networkId,
    backupId: before.backupId,
  };
  try {
    reached.networkId = await network.apply(inputs);
    if (inputs.state === "stopped") return await stop(inputs, before, reached);
    const opened = inputs.access.open && !inputs.tls ? await route.apply(inputs) : undefined;
    const server = await start(inputs, before, reached);
    const closed = inputs.access.open ? undefined : await close(inputs, server);
    await applyInside(server);
    const openedLast = inputs.access.open && inputs.tls ? await route.apply(inputs) : undefined;
    reached.backupId = await changeBackup(inputs, before);
    for (const applied of [opened, closed, openedLast]) await applied?.();
    return { ...inputs, ...reached };
  } catch (error) {
    const info = await inspectContainer({ host: inputs.host, name: inputs.container.name }).catch(
      () => undefined,
    );
    if (info && isOfStack(info, inputs.stack)) reached.containerId = info.Id;
    const incomplete = { ...inputs, ...reached, state: "incomplete" };
    throw new IncompleteError(inputs.container.name, incomplete, await explained(error, inputs));
  }
}

/** Network and container, and the server in it until it answers. */
async function start(
  inputs: PostgresServerInputs,
  before: Before,
  reached: Pick<PostgresServerState, "containerId" | "networkId">,
): Promise<RunningServer & { present: Awaited<ReturnType<typeof container.apply>>["limits"] }> {
  const { containerId, limits: present } = await container.apply(inputs, before);
  reached.containerId = containerId;
  if (reached.networkId) await network.leave(inputs, reached.networkId, before);
  const running = dockerClient(inputs.host).getContainer(containerId);
  const session = new Session(running, inputs.version);
  // Whatever else fails: a route that is to be closed is.
  const inside = await lookInside(session, inputs.tenant, readySeconds).catch(async (error) => {
    if (!inputs.access.open) await route.apply(inputs);
    throw error;
  });
  refuseOtherVersion(inputs, inside);
  return { inputs, before, container: running, session, inside, present };
}

async function applyInside(server: Awaited<ReturnType<typeof start>>): Promise<void> {
  const { inputs, inside, present } = server;
  const shrinks = restartReason(present.memory, inputs.limits.memory, inside.sharedBuffers);
  await settings.apply(server, { restart: shrinks !== undefined });
  await limits.apply(server, present);
  await tls.apply(server);
  await database.apply(server);
  await access.apply(server);
}

/** The server refuses clients before its route closes: one that is at the door already does not get in. */
async function close(inputs: PostgresServerInputs, server: RunningServer) {
  try {
    if (await access.differs(inputs, { info: undefined, inside: server.inside })) {
      await access.close(server.container);
    }
  } finally {
    // A server that cannot be changed is at least out of reach.
    await route.apply(inputs);
  }
  return undefined;
}

async function stop(
  inputs: PostgresServerInputs,
  before: Before,
  { containerId, networkId }: Pick<PostgresServerState, "containerId" | "networkId">,
): Promise<PostgresServerState> {
  await route.apply(inputs);
  await container.remove(inputs, containerId);
  if (networkId) await network.leave(inputs, networkId, before);
  return { ...inputs, networkId, backupId: await changeBackup(inputs, before) };
}

async function changeBackup(inputs: PostgresServerInputs, before: Before): Promise<string | undefined> {
  const former = before.backup && { ...inputs, ...before, backup: before.backup };
  if (former && former.backup.name !== inputs.backup?.name) await backup.remove(former, before.backupId);
  return backup.apply(inputs, before.backupId);
}
