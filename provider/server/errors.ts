import { inspectContainer } from "../container/reconcile";
import type { PostgresServerInputs } from "./inputs";
import type { Inside } from "./inside";
import { NotReadyError } from "./session";

/** Names the server that a failure is about and, of one that does not come up, where to look. */
export async function explained(error: unknown, inputs: PostgresServerInputs): Promise<Error> {
  const { message } = error as Error;
  const { name } = inputs.container;
  if (inputs.state === "stopped") return new Error(`${name}: ${message}`);
  const info = await inspectContainer({ host: inputs.host, name }).catch(() => undefined);
  if (info && !(error instanceof NotReadyError) && info.State.Running && !info.State.Restarting) {
    return new Error(`${name}: ${message}`);
  }
  const state = !info ? "is gone" : info.State.Status === "running" ? "runs" : `is ${info.State.Status}`;
  return new Error(
    `${name}: ${message} (the container ${state}); \`docker logs --tail 20 ${name}\` says why`,
  );
}

/** An entry that was removed and added again with another version finds data that it cannot use. */
export function refuseOtherVersion({ version }: PostgresServerInputs, { database, versions }: Inside): void {
  const other = versions.find((found) => found !== version);
  if (other !== undefined && !database) throw new Error(otherVersion(other, version));
}

export function otherVersion(present: number, wanted: number): string {
  return (
    `the tenant's data is that of PostgreSQL ${present} and cannot be used by ${wanted}: write version: ${present} again. ` +
    `To move to ${wanted}, add a second tenant with it and copy the data by pg_dump and psql (docs/lifecycle.md)`
  );
}
