import { randomUUID } from "node:crypto";
import * as pulumi from "@pulumi/pulumi";
import { stackName } from "./stack-settings";

type ByTenant<Value> = Record<string, Value>;

/**
 * An `up` that declares some tenants alone, so that what it takes does not grow with the others. `./pgs` asks for
 * it by PGS_LIMITED_TO, tenant ids with commas between them, and passes --target for the same tenants: with it,
 * Pulumi leaves alone what is not declared.
 */
export class LimitedUp<Tenant extends { id: string }> {
  /** Those of the tenants that are declared. */
  readonly declared: Tenant[];
  /** The stack's outputs as the last `up` left them, those that are secret as well: mark what is told of them. */
  private readonly former: Promise<Record<string, ByTenant<unknown>>>;

  /** @returns undefined when all tenants are to be declared */
  static asked<Tenant extends { id: string }>(all: Tenant[]): LimitedUp<Tenant> | undefined {
    const ids = process.env.PGS_LIMITED_TO;
    return ids === undefined ? undefined : new LimitedUp(ids.split(","), all);
  }

  private constructor(
    ids: string[],
    private readonly all: Tenant[],
  ) {
    this.declared = all.filter(({ id }) => ids.includes(id));
    refuseWithoutTarget();
    this.former = pulumi.runtime
      .invoke("pulumi:pulumi:readStackOutputs", { name: stackName() })
      .then(({ outputs }) => outputs);
  }

  /** An output of the stack for all tenants: of one that is not declared it says what it said before. */
  completed<Value>(output: string, told: ByTenant<pulumi.Input<Value>>): pulumi.Output<ByTenant<Value>> {
    return pulumi
      .all([this.former, pulumi.output(told)])
      .apply(([former, now]) =>
        Object.fromEntries(this.all.map(({ id }) => [id, (now[id] ?? former[output]?.[id]) as Value])),
      );
  }
}

/** Without --target, Pulumi would take the other tenants away. With it, something new is not made, and has no id. */
function refuseWithoutTarget(): void {
  // The next whole `up` takes it away, where it was made.
  new pulumi.Stash(`limited-up-${randomUUID()}`, { input: true }).id.apply(() => {
    throw new pulumi.RunError("PGS_LIMITED_TO is for ./pgs, which passes --target with it: unset it");
  });
}
