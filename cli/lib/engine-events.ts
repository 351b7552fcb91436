import { isDeepStrictEqual } from "node:util";
import type { TenantSummaries } from "./stack";

/** What happened to a resource: https://www.pulumi.com/docs/reference/pkg/nodejs/pulumi/pulumi/automation/ */
interface Step {
  op: string;
  urn: string;
  type: string;
  old?: StepState | null;
  new?: StepState | null;
}

interface StepState {
  parent: string;
  retainOnDelete?: boolean;
  inputs?: Record<string, unknown>;
  outputs?: { tenants?: TenantSummaries };
}

/** The engine events that matter here, one JSON text a line of `pulumi up --json`. */
export interface EngineEvent {
  resourcePreEvent?: { metadata: Step };
  resOutputsEvent?: { metadata: Step };
  resOpFailedEvent?: { metadata: Step };
  diagnosticEvent?: { urn?: string; message: string; severity: string; ephemeral?: boolean };
  summaryEvent?: { resourceChanges: Record<string, number> };
}

/** What a change means for the tenant's clients. */
export type Effect =
  | "new"
  | "newStopped"
  | "live"
  | "restart"
  | "stop"
  | "start"
  | "remove"
  | "data"
  | "failed";

/** What one run changes, or would change, of one tenant. */
export interface TenantChange {
  id: string;
  effect: Effect;
  /** Why it restarts, where its data stays, why it failed. */
  details: string[];
  /** From its first step to its last. */
  seconds: number;
}

interface Seen {
  steps: Step[];
  failed: boolean;
  first: number;
  last: number;
}

type Diagnostic = NonNullable<EngineEvent["diagnosticEvent"]>;

/** The provider's words before it restarts a server; undefined for other messages. */
function restartReason(message: string): string | undefined {
  return /^\S+ is restarted once: (.*)$/s.exec(message)?.[1];
}

/** Collects what a run of Pulumi did, or would do, for each tenant. */
export class RunReport {
  private readonly seen = new Map<string, Seen>();
  private before: TenantSummaries = {};
  private after: TenantSummaries | undefined;
  /** Steps beside the tenants: proxy, certificate, images. */
  private readonly others = new Map<string, Step>();
  private readonly diagnostics: Diagnostic[] = [];

  /** @param at milliseconds */
  add(event: EngineEvent, at = Date.now()): void {
    const begun = event.resourcePreEvent?.metadata;
    const ended = event.resOutputsEvent?.metadata;
    const failed = event.resOpFailedEvent?.metadata;
    if (begun) this.addStep(begun, at);
    if (ended) this.addStep(ended, at);
    if (failed) this.addStep(failed, at, true);
    if (event.diagnosticEvent) this.addDiagnostic(event.diagnosticEvent);
  }

  /** The tenants that change, by id. */
  changes(): TenantChange[] {
    return [...this.seen]
      .map(([id, seen]) => ({
        id,
        effect: this.effectOf(id, seen),
        details: this.detailsOf(id),
        seconds: (seen.last - seen.first) / 1000,
      }))
      .sort((one, other) => (one.id < other.id ? -1 : 1));
  }

  /** The tenant whose last step this event ends, if it is one. */
  endedBy({ resOutputsEvent, resOpFailedEvent }: EngineEvent): TenantChange | undefined {
    const step = resOutputsEvent?.metadata ?? resOpFailedEvent?.metadata;
    if (!step || step.op === "same") return undefined;
    const isLast =
      step.type === tenantType ? step.op === "delete" : isServer(step.type) && step.op !== "delete";
    if (!isLast) return undefined;
    const id = tenantOf(step);
    return this.changes().find((change) => change.id === id);
  }

  /** Warnings and notes that are about no tenant. */
  notes(): string[] {
    return this.detailsOf(undefined);
  }

  errors(): string[] {
    const errors = this.diagnostics.filter(({ severity }) => severity === "error");
    return [...new Set(errors.map(({ message }) => message))];
  }

  /** The tenants that failed; none where anything else failed too. */
  failed(): string[] {
    const ids = this.diagnostics.flatMap(({ severity, urn }) =>
      severity === "error" ? [tenantNamed(urn)] : [],
    );
    return ids.every((id) => id !== undefined) ? [...new Set(ids)].sort() : [];
  }

  /** How wide a column of tenants' ids is. */
  idWidth(): number {
    return Math.max(0, ...[...Object.keys(this.before), ...this.seen.keys()].map((id) => id.length));
  }

  /** How many tenants there are that do not change. */
  unchanged(): number {
    return Object.keys(this.after ?? this.before).filter((id) => !this.seen.has(id)).length;
  }

  /** Whether something changes that is no tenant's own. */
  stackChanges(): string[] {
    return [...this.others].map(([urn, { op }]) => `${nameOf(urn)} (${op})`);
  }

  /** Whether every tenant's sessions end: the proxy changes, or, on a cluster, the operator, which restarts the servers. */
  interruptsAll(): boolean {
    return [...this.others].some(
      ([urn, step]) =>
        step.op !== "create" &&
        (step.type === "kubernetes:apps/v1:Deployment" ||
          (/:Container$/.test(step.type) && nameOf(urn) === "proxy" && !isLive(step))),
    );
  }

  private addStep(step: Step, at: number, failed = false): void {
    if (step.type === "pulumi:pulumi:Stack") {
      this.before = step.old?.outputs?.tenants ?? this.before;
      this.after = step.new?.outputs?.tenants ?? this.after;
      return;
    }
    if (["same", "refresh", "read"].includes(step.op) && !failed) return;
    const id = tenantOf(step);
    if (id === undefined) {
      if (!step.type.startsWith("pulumi:providers:")) this.others.set(step.urn, step);
      return;
    }
    const seen = this.of(id);
    seen.steps.push(step);
    if (seen.first === 0) seen.first = at;
    seen.last = at;
    if (failed) seen.failed = true;
  }

  /** Which tenant a message is about shows only when its steps have come as well: it is sorted at the end. */
  private addDiagnostic({ urn, severity, ephemeral, message }: Diagnostic): void {
    const text = message.trim();
    // Pulumi's own last word only says that there were errors.
    if (severity === "debug" || ephemeral || text === "" || /^(update|preview|destroy) failed$/.test(text))
      return;
    if (this.diagnostics.some((one) => one.message === text && one.urn === urn)) return;
    this.diagnostics.push({ urn, severity, message: text });
  }

  /** Warnings and notes that are about a tenant, or with undefined about none. */
  private detailsOf(id: string | undefined): string[] {
    const own = this.diagnostics.filter(
      ({ urn, severity, message }) => severity !== "error" && this.tenantIn(urn, message) === id,
    );
    return [...new Set(own.map(({ message }) => restartReason(message) ?? message))];
  }

  private of(id: string): Seen {
    let seen = this.seen.get(id);
    if (!seen) {
      seen = { steps: [], failed: false, first: 0, last: 0 };
      this.seen.set(id, seen);
    }
    return seen;
  }

  /** The provider's messages name the tenant's container or volume, PREFIX-ID, or the tenant itself. */
  private tenantIn(urn: string | undefined, message: string): string | undefined {
    const named = tenantNamed(urn);
    if (named) return named;
    const words = message.match(/[a-z0-9][a-z0-9-]*/g) ?? [];
    return [...this.seen.keys()]
      .filter((id) => words.some((word) => word === id || word.endsWith(`-${id}`)))
      .sort((one, other) => other.length - one.length)[0];
  }

  private effectOf(id: string, { steps, failed }: Seen): Effect {
    const own = this.diagnostics.filter(({ urn, message }) => this.tenantIn(urn, message) === id);
    if (failed || own.some(({ severity }) => severity === "error")) return "failed";
    const component = steps.find(({ type }) => type === tenantType)?.op;
    const losesData = steps.some(
      ({ op, type, old }) => /^delete|^replace/.test(op) && holdsData(type) && !old?.retainOnDelete,
    );
    if (losesData) return "data";
    if (component === "delete") return "remove";
    if (component === "create") return stateAfter(steps) === "stopped" ? "newStopped" : "new";
    const before = steps.find(({ type }) => isServer(type))?.old?.inputs?.state;
    const after = stateAfter(steps);
    if (before === "running" && after === "stopped") return "stop";
    if (before === "stopped" && after === "running") return "start";
    const replaced = steps.some(({ op, type }) => /replace/.test(op) && isServer(type));
    const restarts = own.some(({ message }) => restartReason(message) !== undefined);
    return restarts || replaced ? "restart" : "live";
  }
}

const tenantType = "pgs:index:PgTenant";

function stateAfter(steps: Step[]): unknown {
  return steps.find(({ type }) => isServer(type))?.new?.inputs?.state;
}

/** What is last made of a tenant, and knows its state: on Docker, and on Kubernetes. */
function isServer(type: string): boolean {
  return /:(PostgresServer|TenantDatabase)$/.test(type);
}

function holdsData(type: string): boolean {
  return /:Volume$|^kubernetes:postgresql\.cnpg\.io\/v1:Cluster$/.test(type);
}

/** Inputs of a container that the engine changes while it runs; for any other it is replaced. */
const liveInputs = ["memory", "pids", "cpuShares"];

function isLive({ op, old, new: now }: Step): boolean {
  const keys = new Set([...Object.keys(old?.inputs ?? {}), ...Object.keys(now?.inputs ?? {})]);
  const changed = [...keys].filter((key) => !isDeepStrictEqual(old?.inputs?.[key], now?.inputs?.[key]));
  // Without one, it was changed or stopped by hand: clients are cut off already, or soon.
  return op === "update" && changed.length > 0 && changed.every((key) => liveInputs.includes(key));
}

/** The tenant that a resource belongs to: its component's, or its own name. */
function tenantOf({ urn, type, old, new: now }: Step): string | undefined {
  if (type === tenantType) return nameOf(urn);
  const parent = now?.parent || old?.parent || "";
  return parent.includes(`::${tenantType}::`) ? nameOf(parent) : undefined;
}

/** The tenant whose resource, or component, has this URN. */
function tenantNamed(urn = ""): string | undefined {
  return /::pgs:index:PgTenant(?:\$[^:]*(?::[^:]+)*)?::([^:/]+)(?:\/[^:]*)?$/.exec(urn)?.[1];
}

function nameOf(urn: string): string {
  return urn.slice(urn.lastIndexOf("::") + 2);
}
