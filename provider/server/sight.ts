import { askedOnce, containersByName } from "../../docker/cache";
import { dockerClient, ifPresent } from "../../docker/client";
import { roleLabel, stackLabel, tenantLabel } from "../../docker/labels";
import { isOfStack } from "../container/ownership";
import type { PostgresServerState } from "./inputs";
import { type Inside, lookInside } from "./inside";
import type { Sight } from "./part";
import { Session } from "./session";

/** Seconds until a server has to answer while a plan is made. */
const planSeconds = 15;

/** How many servers are asked at a time while a plan is made: they keep two processors busy. */
const atOnce = 8;

/** What can be seen of a server now, and why it cannot be asked; of one that is gone, undefined. */
export async function see(state: PostgresServerState): Promise<(Sight & { silent?: string }) | undefined> {
  const info = await ifPresent(dockerClient(state.host).getContainer(state.container.name).inspect());
  if (!info || !isOfStack(info, state.stack)) return undefined;
  const { Running, Paused, Restarting, Status } = info.State;
  if (!Running || Paused || Restarting) return { info, inside: undefined, silent: `is ${Status}` };
  try {
    return { info, inside: await answerOf(state, info.Id) };
  } catch {
    return { info, inside: undefined, silent: "does not answer" };
  }
}

/**
 * Pulumi plans one resource after another. So the servers that come next are asked before their turn: few, since an `up`
 * of one tenant asks for none of them.
 */
async function answerOf(state: PostgresServerState, id: string): Promise<Inside> {
  const answer = ask(state.host, id, state.tenant, state.version);
  const all = [...(await containersByName(state.host)).values()].filter(
    ({ Labels, State }) =>
      State === "running" && Labels[stackLabel] === state.stack && Labels[roleLabel] === "server",
  );
  // The engine lists the newest first, and they are planned mostly in the order in which they were made.
  const servers = all.reverse();
  const own = servers.findIndex(({ Id }) => Id === id);
  // How a server is asked depends on its version. Those of the same image have the same one.
  const next = servers.slice(own + 1).filter(({ ImageID }) => ImageID === servers[own]?.ImageID);
  for (const { Id, Labels } of next.slice(0, atOnce)) {
    ask(state.host, Id, Labels[tenantLabel] ?? "", state.version).catch(() => {});
  }
  return answer;
}

function ask(host: string | undefined, id: string, tenant: string, version: number): Promise<Inside> {
  return askedOnce(`inside ${host} ${id} ${version}`, () =>
    lookInside(new Session(dockerClient(host).getContainer(id), version, tenant), planSeconds),
  );
}
