import { type Digests, digestsOf } from "../../config/digest";
import type { Tenant } from "../../tenants";
import type { Edit } from "./edit-tenants";
import { limitedUp } from "./limited-up";
import { confirm, isAttended } from "./prompt";
import { ensureStack, projectFolder, runPulumi } from "./pulumi";
import {
  commandsConfig,
  lastUpSucceeded,
  readConfiguration,
  type StackConfig,
  type StackConfiguration,
  type StackOutputs,
  stackOutputs,
  type TenantSummaries,
} from "./stack";
import { TenantsFile } from "./tenants-file";
import { coloured } from "./terminal";

export interface EditOptions {
  up: boolean;
  yes?: boolean;
}

/** tenants.yaml, and what the last `up` made of it. */
export class Stack {
  readonly config: StackConfig;
  readonly file: TenantsFile;
  readonly applied: TenantSummaries | undefined;
  /** Undefined also when the last `up` failed. */
  private readonly digest: Digests | undefined;

  private constructor(
    private readonly configuration: StackConfiguration,
    outputs: StackOutputs | undefined,
    upSucceeded: boolean,
  ) {
    this.config = commandsConfig(configuration.settings);
    this.file = new TenantsFile(this.config);
    this.applied = outputs?.tenants;
    this.digest = upSucceeded ? outputs?.digest : undefined;
  }

  static async read(): Promise<Stack> {
    const ask = () =>
      Promise.all([
        readConfiguration({ withoutSecrets: false }),
        stackOutputs({ secrets: true }),
        lastUpSucceeded(),
      ]);
    // There mostly is one selected: to ask for that first would take a quarter of a second.
    const [configuration, outputs, upSucceeded] = await ask().catch(() => {
      ensureStack();
      return ask();
    });
    return new Stack(configuration, outputs, upSucceeded);
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
    const { settings, raw } = this.configuration;
    const { DOCKER_HOST: dockerHost } = process.env;
    const digests = digestsOf({ settings, raw, dockerHost, tenants: wanted, folder: projectFolder });
    const { args, env } = limitedUp(ids, this.digest, digests);
    await runPulumi(["up", "--yes", "--skip-preview", ...args], env);
  }
}
