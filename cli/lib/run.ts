import { setTimeout as delay } from "node:timers/promises";
import { type EngineEvent, RunReport } from "./engine-events";
import { explainError, holderRuns, locksIn } from "./explain-error";
import { CommandError, runPulumi, streamPulumi } from "./pulumi";
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
  await runPulumi(command, env);
  return undefined;
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

  private clear(): void {
    if (this.timer) process.stderr.write("\r\x1b[K");
  }
}

async function reported(
  args: string[],
  env: Record<string, string>,
  outcomes?: Outcomes,
): Promise<RunReport> {
  const report = new RunReport();
  const { code, output } = await streamPulumi(args, env, (event) => {
    report.add(event);
    outcomes?.take(event, report);
  });
  outcomes?.end(report, code === 0);
  if (code === 0) return report;
  if (await otherRunEnded(output)) return reported(args, env, outcomes && new Outcomes());
  const errors = errorText(report);
  // Those of an `up` are printed already.
  throw new CommandError(errors ? (outcomes ? "" : errors) : (explainError(output) ?? output.trim()), code);
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
