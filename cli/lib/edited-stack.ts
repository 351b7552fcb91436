import type { Tenant } from "../../tenants";
import type { Edit } from "./edit-tenants";
import { limitedUp } from "./limited-up";
import { confirm, isAttended } from "./prompt";
import { ensureStack, runPulumi } from "./pulumi";
import { type StackConfig, stackConfig, stackOutputs, type TenantSummaries } from "./stack";
import { TenantsFile } from "./tenants-file";
import { coloured } from "./terminal";

export interface EditOptions {
  up: boolean;
  yes?: boolean;
}

/** tenants.yaml, and what the last `up` made of it. */
export class Stack {
  private constructor(
    readonly file: TenantsFile,
    readonly config: StackConfig,
    readonly applied: TenantSummaries | undefined,
  ) {}

  static async read(): Promise<Stack> {
    const ask = () => Promise.all([stackConfig(), stackOutputs()]);
    // There mostly is one selected: to ask for that first would take a quarter of a second.
    const [config, outputs] = await ask().catch(() => {
      ensureStack();
      return ask();
    });
    return new Stack(new TenantsFile(config), config, outputs?.tenants);
  }

  /** As tenants.yaml has it; undefined without an entry. */
  state(id: string): Tenant["state"] | undefined {
    return this.file.tenants().find((tenant) => tenant.id === id)?.state;
  }

  /** Shows the edit, asks where somebody is there to be asked, writes it, and brings it about. */
  async apply(
    ids: string[],
    edits: Edit[],
    options: EditOptions,
    beforeWriting: () => Promise<void> = async () => {},
  ): Promise<void> {
    const change = this.file.plan(edits);
    if (change.diff) console.log(coloured.diff(change.diff));
    else console.error("tenants.yaml says so already.");
    if (change.diff && options.up && !options.yes && isAttended())
      await confirm("Write this, and bring it about?");
    await beforeWriting();
    change.write();
    if (options.up) await this.up(ids, change.tenants);
  }

  async up(ids: string[], wanted: Tenant[]): Promise<void> {
    const { args, env } = limitedUp(ids, this.applied, wanted, this.config);
    await runPulumi(["up", "--yes", "--skip-preview", ...args], env);
  }
}
