import { type Limits, limitsOf, sameLimits, setLimits } from "../../container/limits";
import type { PostgresServerInputs } from "../inputs";
import type { Part, RunningServer } from "../part";

/** Processes and threads: a superuser's shell cannot use up the host's. PostgreSQL has one for each session. */
const processLimit = 2048;

/** The most of its memory that a running server's shared_buffers may be when the limit is lowered under it. */
const largestSharedBuffers = 0.6;

/** Memory, processors and processes: the engine changes them live. */
export const limits: Part & { apply(server: RunningServer, present: Limits): Promise<void> } = {
  name: "limits",

  differs(inputs, { info }) {
    return info !== undefined && !sameLimits(limitsOf(info), limitsFor(inputs));
  },

  async apply({ inputs, container }, present) {
    await setLimits(container, present, limitsFor(inputs));
  },
};

export function limitsFor({ limits: { memory, cpus } }: PostgresServerInputs): Limits {
  return { memory, cpus, pids: processLimit };
}

/** Why a lower memory limit restarts the server, which would be killed under load; undefined where it does not. */
export function restartReason(
  present: number,
  wanted: number,
  sharedBuffers: number | undefined,
): string | undefined {
  if (wanted >= present || (sharedBuffers ?? 0) <= wanted * largestSharedBuffers) return undefined;
  return `its shared_buffers would fill more than ${largestSharedBuffers * 100} % of the new memory limit`;
}
