import { type Digests, isLimitedTo, limitedTo } from "../../config/digest";

/** An `up`: arguments for Pulumi, and environment variables for the program. */
export interface Up {
  args: string[];
  /** Environment variables. */
  env: Record<string, string>;
}

/**
 * An `up` of these tenants alone, which takes as long with two hundred others as with two; a whole one where that
 * would leave the stack otherwise than a whole one.
 * @param applied the stack's output `digest`, if there was an `up` that ended well
 * @param wanted of what the program is about to read
 */
export function limitedUp(ids: string[], applied: Digests | undefined, wanted: Digests): Up {
  if (!isLimitedTo(ids, applied, wanted)) return { args: [], env: {} };
  // The component and, by the wildcard in the type, its children: each bears the tenant's id. Naming the component
  // alone with --target-dependents works neither for a tenant that is new nor with a refresh (Pulumi 3.259).
  const targets = ids.map((id) => `urn:pulumi:*::pgs::pgs:index:PgTenant**::${id}`);
  // components/limited-up.ts reads it.
  return {
    args: targets.flatMap((target) => ["--target", target]),
    env: { PGS_LIMITED_TO: limitedTo(ids, wanted) },
  };
}
