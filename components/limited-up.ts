import * as pulumi from "@pulumi/pulumi";
import { type Digests, limitedIds } from "../config/digest";
import { stackName } from "./stack-settings";

type ByTenant<Value> = Record<string, Value>;

/**
 * An `up` that declares some tenants alone, so that its time does not grow with the others. `./pgs` asks for it by
 * PGS_LIMITED_TO (config/digest.ts), and passes --target for the same tenants: with it, Pulumi leaves alone what is
 * not declared.
 */
export class LimitedUp<Tenant extends { id: string }> {
  /** Those of the tenants that are declared. */
  readonly declared: Tenant[];
  /** The stack's outputs as the last `up` left them. Secrets among them are plain here: mark them again. */
  private readonly applied: Promise<Record<string, ByTenant<unknown>>>;

  /**
   * @returns undefined when all tenants are to be declared
   * @throws pulumi.RunError when the variable is not what `./pgs` sets for this configuration and these tenants:
   * without --target beside it, Pulumi would delete the others
   */
  static asked<Tenant extends { id: string }>(
    all: Tenant[],
    digests: Digests,
  ): LimitedUp<Tenant> | undefined {
    const variable = process.env.PGS_LIMITED_TO;
    if (variable === undefined) return undefined;
    const ids = limitedIds(variable, digests);
    if (ids) return new LimitedUp(ids, all);
    throw new pulumi.RunError(
      "PGS_LIMITED_TO does not fit this stack's configuration and tenants. ./pgs sets it for one run: unset it where it was set by hand, and run the command again where a file was edited meanwhile",
    );
  }

  private constructor(
    ids: string[],
    private readonly all: Tenant[],
  ) {
    this.declared = all.filter(({ id }) => ids.includes(id));
    this.applied = pulumi.runtime
      .invoke("pulumi:pulumi:readStackOutputs", { name: stackName() })
      .then(({ outputs }) => outputs);
  }

  /** An output of the stack for all tenants: of one that is not declared it has what the last `up` left. */
  completed<Value>(output: string, values: ByTenant<pulumi.Input<Value>>): pulumi.Output<ByTenant<Value>> {
    return pulumi
      .all([this.applied, pulumi.output(values)])
      .apply(([applied, now]) =>
        Object.fromEntries(this.all.map(({ id }) => [id, (now[id] ?? applied[output]?.[id]) as Value])),
      );
  }
}
