import { Provider } from "../../../provider/provider";
import { IncompleteError } from "../../../provider/resource-type";

/** One resource in a stack, with which an `up` does what Pulumi's engine does: check, diff, then the change. */
export class StackOfOne {
  id: string | undefined;
  /** As on the wire. */
  state: Record<string, unknown> | undefined;
  private readonly urn: string;
  private readonly provider = new Provider(0);

  constructor(type: string) {
    this.urn = `urn:pulumi:dev::pgs::pgs:index:${type}::acme`;
  }

  /** @returns what was done: `create`, `update`, `replace` or nothing */
  async up(inputs: object): Promise<string | undefined> {
    const { failures = [] } = await this.provider.check(this.urn, this.state ?? {}, inputs);
    if (failures.length > 0) throw new Error(failures.map(({ reason }) => reason).join("\n"));
    if (this.id === undefined || this.state === undefined) {
      await this.create(inputs);
      return "create";
    }
    const { changes, replaces = [] } = await this.provider.diff(this.id, this.urn, this.state, inputs);
    if (!changes) return undefined;
    if (replaces.length > 0) {
      await this.destroy();
      await this.create(inputs);
      return "replace";
    }
    const [id, state] = [this.id, this.state];
    await this.keeping(async () => {
      this.state = (await this.provider.update(id, this.urn, state, inputs)).outs;
    });
    return "update";
  }

  /** Whether a preview shows a change. */
  async differs(inputs: object): Promise<boolean | undefined> {
    if (this.id === undefined) return true;
    return (await this.provider.diff(this.id, this.urn, this.state, inputs)).changes;
  }

  async destroy(): Promise<void> {
    if (this.id !== undefined) await this.provider.delete(this.id, this.urn, this.state);
    this.id = undefined;
    this.state = undefined;
  }

  /** A Pulumi that is killed in the middle writes nothing of what the `up` did. */
  async killedUp(inputs: object): Promise<void> {
    const { id, state } = this;
    await this.up(inputs).catch(() => {});
    Object.assign(this, { id, state });
  }

  private async create(inputs: object): Promise<void> {
    await this.keeping(async () => {
      const { id, outs } = await this.provider.create(this.urn, inputs);
      this.id = id;
      this.state = outs;
    });
  }

  /** What a failed change says of the resource is kept. */
  private async keeping(change: () => Promise<void>): Promise<void> {
    try {
      await change();
    } catch (error) {
      if (error instanceof IncompleteError) {
        this.id = error.id;
        this.state = error.properties as Record<string, unknown>;
      }
      throw error;
    }
  }
}
