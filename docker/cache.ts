import type Docker from "dockerode";
import { dockerClient, ifPresent } from "./client";

const answers = new Map<string, Promise<unknown>>();

/**
 * One answer for all resources that are planned together, which ask the engine the same. It holds for three seconds,
 * and no longer than until something is changed by this process.
 */
export function askedOnce<T>(question: string, ask: () => Promise<T>): Promise<T> {
  const known = answers.get(question);
  if (known) return known as Promise<T>;
  const answer = ask();
  answers.set(question, answer);
  const forget = () =>
    setTimeout(() => {
      if (answers.get(question) === answer) answers.delete(question);
    }, 3000).unref();
  answer.then(forget, forget);
  return answer;
}

/** Before and after a change. */
export function clearCache(): void {
  answers.clear();
}

/** All containers of the engine by name, running or not. */
export function containersByName(host: string | undefined): Promise<Map<string, Docker.ContainerInfo>> {
  return askedOnce(`containers ${host}`, async () => {
    const list = await dockerClient(host).listContainers({ all: true });
    return new Map(list.flatMap((info) => info.Names.map((name) => [name.replace(/^\//, ""), info])));
  });
}

/** The engine's networks by name, without the containers in them: its list has none. */
export function networksByName(host: string | undefined): Promise<Map<string, Docker.NetworkInspectInfo>> {
  return askedOnce(`networks ${host}`, async () => {
    const list = await dockerClient(host).listNetworks();
    return new Map(list.map((network) => [network.Name, network]));
  });
}

/** A container that many resources have to do with; undefined when it is gone. */
export function sharedContainer(
  host: string | undefined,
  id: string,
): Promise<Docker.ContainerInspectInfo | undefined> {
  return askedOnce(`container ${host} ${id}`, () => ifPresent(dockerClient(host).getContainer(id).inspect()));
}
