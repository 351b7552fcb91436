import { type Digests, isLimitedTo, limitedTo } from "../../config/digest";
import { firstOf } from "./terminal";

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
  // components/limited-up.ts reads the variable.
  return {
    args: [
      ...ids.flatMap((id) => resourcesOf(id).flatMap((urn) => ["--target", urn])),
      ...["--message", `${mark}: ${firstOf(ids)}`],
    ],
    env: { PGS_LIMITED_TO: limitedTo(ids, wanted) },
  };
}

/**
 * The component and, by the wildcard in the type, its children: each bears the tenant's id, and with the name of a role
 * behind it those of the role. Naming the component alone
 * with --target-dependents works neither for a tenant that is new nor with a refresh (Pulumi 3.259).
 */
function resourcesOf(id: string): string[] {
  const urn = `urn:pulumi:*::pgs::pgs:index:PgTenant**::${id}`;
  return [urn, `${urn}/*`];
}

/** Tells a limited `up` that is as good as a whole one from those that an operator limits. */
const mark = "one edit of pgs";

/** The tenants of such an `up`, from its message in the history; undefined of another. */
export function tenantsIn(message: string): string | undefined {
  return message.startsWith(`${mark}: `) ? message.slice(mark.length + 2) : undefined;
}

/** The same of a whole `up` whose plan is known, for the history alone. */
const plannedMark = "an up of pgs";

/** Arguments for a whole `up` that changes these tenants. @param args the operator's, who may have a message */
export function namingTenants(ids: string[], args: string[]): string[] {
  if (ids.length === 0 || args.some((arg) => /^(-m|--message)/.test(arg))) return [];
  return ["--message", `${plannedMark}: ${firstOf(ids)}`];
}

/** The tenants that a run changed, where its message says so. */
export function tenantsChanged(message: string): string | undefined {
  return message.startsWith(`${plannedMark}: `) ? message.slice(plannedMark.length + 2) : tenantsIn(message);
}

/**
 * The same `up` without the tenants that failed in it. Pulumi starts no deletions after a failure, and with
 * --continue-on-error it may write a state that it does not read any more (Pulumi 3.259).
 * @returns the arguments; undefined where nothing is left, or where the operator chose resources
 */
export function upWithout(failed: string[], args: string[]): string[] | undefined {
  if (!args.some((arg) => tenantsIn(arg) !== undefined)) {
    if (args.some((arg) => /^(-t|--target|--exclude|--replace)/.test(arg))) return undefined;
    return [...args, ...failed.flatMap((id) => resourcesOf(id).flatMap((urn) => ["--exclude", urn]))];
  }
  const left = args.filter(
    (arg) => arg.startsWith("urn:") && !failed.some((id) => resourcesOf(id).includes(arg)),
  );
  return left.length > 0 ? left.flatMap((target) => ["--target", target]) : undefined;
}

/** One run of Pulumi, as `pulumi stack history` tells of it. */
export interface PastRun {
  kind: string;
  result: string;
  message: string;
  /** When it began and ended, as in 2026-11-23T10:15:00.000Z. */
  startTime?: string;
  endTime?: string;
  /** How many resources by what was done to them, such as `update`. */
  resourceChanges?: Record<string, number>;
  /** Its options among others. */
  environment?: Record<string, string>;
}

/**
 * Whether the last `up` did all that was to be done: only then the stack's outputs tell what was applied.
 * @param history the newest first
 */
export function wasWhole(history: PastRun[]): boolean {
  const last = history.find(({ kind }) => !["refresh", "preview", "rename"].includes(kind));
  if (last?.kind !== "update" || last.result !== "succeeded") return false;
  const options = Object.keys(last.environment ?? {});
  return (
    tenantsIn(last.message) !== undefined ||
    !options.some((name) => /^pulumi\.flag\.(target|exclude)/.test(name))
  );
}
