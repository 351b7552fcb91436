import { setTimeout as delay } from "node:timers/promises";
import { type EngineEvent, RunReport } from "./engine-events";
import { explainError, holderRuns, locksIn } from "./explain-error";
import { upWithout } from "./limited-up";
import { CommandError, streamPulumi, wasInterrupted, watchPulumi } from "./pulumi";
import { errorText, outcomeText, summaryText } from "./run-text";
import { isTerminal } from "./terminal";

export interface Run {
  /** Options of Pulumi's. */
  args?: string[];
  /** Environment variables beside this process's own. */
  env?: Record<string, string>;
  /** Pulumi's own full output, as it comes. */
  verbose?: boolean;
}

/** A run of Pulumi that failed. */
export class RunError extends CommandError {
  constructor(
    message: string,
    exitCode: number,
    /** The tenants that failed, where nothing but tenants did: the changes of the others are made. */
    readonly failed: string[],
  ) {
    super(message, exitCode);
  }
}

/** What an `up` would do. @throws CommandError with the reason why it cannot be planned */
export async function plan({ args = [], env = {} }: Run = {}): Promise<RunReport> {
  return reported(["preview", ...args], env);
}

/** Applies tenants.yaml and the configuration, a tenant a line. @throws CommandError with Pulumi's exit code */
export async function apply(
  { args = [], env = {}, verbose }: Run = {},
  operation: "up" | "destroy" = "up",
): Promise<RunReport | undefined> {
  const command = [operation, "--yes", "--skip-preview", ...args];
  if (!verbose) return reported(command, env, new Outcomes());
  const report = new RunReport();
  const run = (some: string[]) => watchPulumi(some, env, (event) => report.add(event));
  const code = await run(command);
  if (code === 0) return undefined;
  await applyOthers(command, report, run);
  throw new RunError("", code, report.failed());
}

/**
 * After an `up` that failed: where only resources of tenants failed, makes the changes of the other tenants.
 * @param run runs Pulumi with other arguments, adds its events to the report, and returns its exit code
 */
async function applyOthers(
  args: string[],
  report: RunReport,
  run: (args: string[]) => Promise<number>,
): Promise<void> {
  let known = 0;
  for (let code = 1; code !== 0 && !wasInterrupted(); ) {
    const failed = report.failed();
    // Any more of them came to light when they were not the first.
    const others = args[0] === "up" && failed.length > known ? upWithout(failed, args) : undefined;
    if (!others) return;
    known = failed.length;
    const names = failed.join(", ");
    console.error(`${names} failed; applying the changes of the others.`);
    code = await run(others);
    if (wasInterrupted()) {
      console.error(
        `Interrupted: not all changes of the others are made. ./pgs up makes them, also while ${names} still fails.`,
      );
    }
  }
}

/** Prints each tenant when it is done, and at a terminal what is under way. */
class Outcomes {
  private readonly printed = new Set<string>();
  private readonly timer: NodeJS.Timeout | undefined;
  private report: RunReport | undefined;
  private readonly begun = Date.now();

  constructor() {
    if (isTerminal(process.stderr)) this.timer = setInterval(() => this.showProgress(), 500);
  }

  take(event: EngineEvent, report: RunReport): void {
    this.report = report;
    const ended = report.endedBy(event);
    // What failed may be tried again or have its reason behind it: at the end.
    if (ended && ended.effect !== "failed") this.print(ended.id);
  }

  end(report: RunReport, succeeded: boolean): void {
    clearInterval(this.timer);
    for (const { id } of report.changes()) this.print(id);
    const summary = summaryText(report, succeeded);
    this.clear();
    if (summary) console.log(summary);
    const errors = errorText(report);
    if (errors) console.error(errors);
  }

  private print(id: string): void {
    if (this.printed.has(id)) return;
    const change = this.report?.changes().find((one) => one.id === id);
    if (!change) return;
    this.printed.add(id);
    this.clear();
    console.log(outcomeText(change, this.report?.idWidth()));
  }

  private showProgress(): void {
    const open = (this.report?.changes() ?? []).filter(({ id }) => !this.printed.has(id)).map(({ id }) => id);
    const what = open.length > 4 ? `${open.slice(0, 4).join(", ")}, …` : open.join(", ");
    this.clear();
    process.stderr.write(`  ${what || "planning"} … ${Math.round((Date.now() - this.begun) / 1000)} s`);
  }

  clear(): void {
    if (this.timer) process.stderr.write("\r\x1b[K");
  }
}

async function reported(
  args: string[],
  env: Record<string, string>,
  outcomes?: Outcomes,
): Promise<RunReport> {
  const report = new RunReport();
  const run = (some: string[]) =>
    streamPulumi(some, env, (event) => {
      report.add(event);
      outcomes?.take(event, report);
    });
  const { code, output } = await run(args);
  if (code !== 0 && outcomes) {
    await applyOthers(args, report, async (some) => {
      outcomes.clear();
      return (await run(some)).code;
    });
  }
  outcomes?.end(report, code === 0);
  if (code === 0) return report;
  if (await otherRunEnded(output)) return reported(args, env, outcomes && new Outcomes());
  const errors = errorText(report);
  // Those of an `up` are printed already.
  const message = errors ? (outcomes ? "" : errors) : (explainError(output) ?? output.trim());
  throw new RunError(message, code, report.failed());
}

/** Waits for a run of Pulumi on this machine that holds the stack. @returns whether there was one */
async function otherRunEnded(output: string): Promise<boolean> {
  if (!/stack is currently locked/.test(output)) return false;
  const [lock] = locksIn(output);
  if (!lock || !holderRuns(lock)) return false;
  console.error(`Waiting for a run of ${lock.user}, process ${lock.pid}, since ${lock.since}.`);
  while (holderRuns(lock)) await delay(200);
  return true;
}
