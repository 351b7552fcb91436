import { type Digests, digestsOf } from "../../config/digest";
import type { Tenant } from "../../tenants";
import type { Edit } from "./edit-tenants";
import { limitedUp, wasWhole } from "./limited-up";
import { confirm, isAttended } from "./prompt";
import { CommandError, ensureStack, projectFolder, wasInterrupted } from "./pulumi";
import { apply, plan, type Run, RunError } from "./run";
import { consequenceQuestion, hasConsequence, planText } from "./run-text";
import {
  commandsConfig,
  readConfiguration,
  refreshing,
  type StackConfig,
  type StackConfiguration,
  type StackOutputs,
  stackHistory,
  stackOutputs,
  type TenantSummaries,
} from "./stack";
import { type Change, TenantsFile } from "./tenants-file";
import { coloured } from "./terminal";
import { inTurn } from "./turn";

export interface EditOptions {
  up: boolean;
  yes?: boolean;
  verbose?: boolean;
}

/** tenants.yaml, and what the last `up` made of it. */
export class Stack {
  readonly config: StackConfig;
  readonly file: TenantsFile;
  readonly applied: TenantSummaries | undefined;
  /** Undefined also when the last `up` was not a whole one. */
  private readonly digest: Digests | undefined;

  private constructor(
    private readonly configuration: StackConfiguration,
    outputs: StackOutputs | undefined,
    upWasWhole: boolean,
  ) {
    this.config = commandsConfig(configuration.settings);
    this.file = new TenantsFile(this.config);
    this.applied = outputs?.tenants;
    this.digest = upWasWhole ? outputs?.digest : undefined;
  }

  /** Does work on the stack while no other command edits or applies tenants.yaml. */
  static async edit(work: (stack: Stack) => Promise<void>): Promise<void> {
    const stack = await Stack.read();
    await inTurn(stack.file.path, async ({ waited }) => work(waited ? await Stack.read() : stack));
  }

  /** As the stack is now: after an `up` of this command's own, or one that it waited for. */
  static async read(): Promise<Stack> {
    const ask = () =>
      Promise.all([
        readConfiguration({ withoutSecrets: false }),
        stackOutputs({ secrets: true }),
        stackHistory(),
      ]);
    // There mostly is one selected: to ask for that first would take a quarter of a second.
    const [configuration, outputs, history] = await ask().catch((error) => {
      ensureStack(error);
      return ask();
    });
    return new Stack(configuration, outputs, wasWhole(history));
  }

  /** As tenants.yaml has it; undefined without an entry. */
  state(id: string): Tenant["state"] | undefined {
    return this.file.tenants().find((tenant) => tenant.id === id)?.state;
  }

  /** Shows the edit, asks at a terminal where it takes something from clients, writes and applies it. */
  async apply(
    ids: string[],
    edits: Edit[],
    options: EditOptions,
    beforeUp: () => Promise<void> = async () => {},
  ): Promise<void> {
    const change = this.file.plan(edits);
    if (change.diff) console.log(coloured.diff(change.diff));
    else console.error("No change to tenants.yaml.");
    if (!options.up) {
      await beforeUp();
      return change.write();
    }
    const run = { ...this.limited(ids, change.tenants), verbose: options.verbose };
    change.write();
    try {
      if (change.diff && !options.yes && isAttended()) await confirmConsequences(run);
      await beforeUp();
    } catch (error) {
      change.takeBack();
      throw error;
    }
    await applyEdit(run, change, ids);
  }

  async up(ids: string[], wanted: Tenant[]): Promise<void> {
    await apply(this.limited(ids, wanted));
  }

  private limited(ids: string[], wanted: Tenant[]): Run {
    const { settings, raw } = this.configuration;
    const { DOCKER_HOST: dockerHost } = process.env;
    const digests = digestsOf({ settings, raw, dockerHost, tenants: wanted, folder: projectFolder });
    const up = limitedUp(ids, this.digest, digests);
    return { ...up, args: [...refreshing(this.config), ...up.args] };
  }
}

/** @returns the tenants that change @throws CommandError when the answer is no */
export async function confirmConsequences(run: Run): Promise<string[]> {
  const report = await plan(run);
  if (hasConsequence(report)) {
    console.log(planText(report));
    await confirm(consequenceQuestion(report));
  }
  return report.changes().map(({ id }) => id);
}

async function applyEdit(run: Run, change: Change, ids: string[]): Promise<void> {
  try {
    const report = await apply(run);
    const created = report?.changes().filter(({ effect }) => effect === "new") ?? [];
    for (const { id } of created) {
      const open = change.tenants.find((tenant) => tenant.id === id)?.access;
      console.log(`Next: ./pgs ${open ? `connect ${id}, or ./pgs url ${id}` : `enable-access ${id}`}`);
    }
  } catch (error) {
    if (!(error instanceof CommandError) || !change.diff) throw error;
    // It was another tenant that failed: this edit is made.
    const failed = error instanceof RunError && !wasInterrupted() ? error.failed : [];
    if (failed.length > 0 && !failed.some((id) => ids.includes(id))) throw error;
    const lines = [
      error.message,
      `The edit stays in tenants.yaml; ./pgs up tries again. To take it back, reverse the lines shown above for ${ids.join(", ")}, then ./pgs up.`,
    ];
    throw new CommandError(lines.filter(Boolean).join("\n"), error.exitCode);
  }
}
