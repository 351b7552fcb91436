import { innerPort } from "../../docker/names";
import { withClientContainer } from "./client-container";
import { type PodProgram, runInClientPod } from "./client-pod";
import { type ClientStreams, runClient } from "./client-stream";
import type { TenantLogin } from "./tenant-login";

/**
 * Runs one of PostgreSQL's client programs, of the tenant's own image, on the tenant's platform.
 * @returns its exit code
 * @throws what a stream threw; CommandError when a signal came, or the platform was cut off
 */
export function runClientProgram(
  login: TenantLogin,
  program: PodProgram,
  streams: ClientStreams,
): Promise<number> {
  if (login.config.platform === "kubernetes") return runInClientPod(login, program, streams);
  return withClientContainer(login, { ...program, port: innerPort }, (container) =>
    runClient(container, streams),
  );
}
