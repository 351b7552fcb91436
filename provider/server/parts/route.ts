import { setTimeout as delay } from "node:timers/promises";
import { readFile, removeFile, resolved, writeFile } from "../../traefik-file";
import type { PostgresServerInputs } from "../inputs";
import type { Part } from "../part";

/** Milliseconds after which the proxy has applied a route that was written (bench/results.md). */
const applied = 400;

/** What passes cancel requests on reads it too, and nothing else in the folder (components/docker/cancel-requests.ts). */
const mode = 0o644;

/** The proxy's file for the tenant. */
export const route: Part & {
  /** @returns a wait until the proxy has applied it; undefined where the file was as it should be */
  apply(inputs: PostgresServerInputs): Promise<(() => Promise<void>) | undefined>;
  remove(inputs: PostgresServerInputs): Promise<void>;
} = {
  name: "route",

  async differs(inputs) {
    const file = fileOf(inputs);
    const wanted = await resolved(file);
    return wanted === undefined || (await readFile(file, mode)) !== wanted;
  },

  async apply(inputs) {
    if (!(await this.differs(inputs, { info: undefined, inside: undefined }))) return undefined;
    await writeFile(fileOf(inputs), mode);
    const due = performance.now() + applied;
    return () => delay(Math.max(0, due - performance.now()));
  },

  async remove(inputs) {
    await removeFile(fileOf(inputs));
  },
};

function fileOf({ host, route: { proxy, path, content } }: PostgresServerInputs) {
  return { host, container: proxy, path, content };
}
