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
  inputs?: { state?: unknown };
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
export type Effect = "new" | "live" | "restart" | "stop" | "start" | "remove" | "data" | "failed";

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
  details: string[];
  restarts: boolean;
  failed: boolean;
  first: number;
  last: number;
}

/** Collects what a run of Pulumi did, or would do, for each tenant. */
export class RunReport {
  private readonly seen = new Map<string, Seen>();
  private before: TenantSummaries = {};
  private after: TenantSummaries | undefined;
  /** Steps beside the tenants: proxy, certificate, images. */
  private readonly others = new Map<string, Step>();
  /** Warnings and notes that are about no tenant. */
  readonly notes: string[] = [];
  readonly errors: string[] = [];

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
        effect: this.effectOf(seen),
        details: seen.details,
        seconds: (seen.last - seen.first) / 1000,
      }))
      .sort((one, other) => (one.id < other.id ? -1 : 1));
  }

  /** The tenant whose last step this event ends, if it is one. */
  endedBy({ resOutputsEvent, resOpFailedEvent }: EngineEvent): TenantChange | undefined {
    const step = resOutputsEvent?.metadata ?? resOpFailedEvent?.metadata;
    if (!step || step.op === "same") return undefined;
    const isLast =
      step.type === tenantType
        ? step.op === "delete"
        : /:PostgresServer$/.test(step.type) && step.op !== "delete";
    if (!isLast) return undefined;
    const id = tenantOf(step);
    return this.changes().find((change) => change.id === id);
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

  /** Whether every tenant's sessions end, as the proxy's container is replaced. */
  interruptsAll(): boolean {
    return [...this.others].some(
      ([urn, { op, type }]) => /Container$/.test(type) && nameOf(urn) === "proxy" && /replace/.test(op),
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

  private addDiagnostic(diagnostic: NonNullable<EngineEvent["diagnosticEvent"]>): void {
    const { urn, severity, ephemeral } = diagnostic;
    if (severity === "debug" || ephemeral) return;
    const message = diagnostic.message.trim();
    // Pulumi's own last word, which says how many errors there were.
    if (message === "" || /^update failed$|^preview failed$/.test(message)) return;
    const id = this.tenantIn(urn, message);
    const seen = id === undefined ? undefined : this.of(id);
    if (severity === "error") {
      if (seen) seen.failed = true;
      if (!this.errors.includes(message)) this.errors.push(message);
      return;
    }
    const restart = /^\S+ is restarted once: (.*)$/s.exec(message);
    if (seen && restart) seen.restarts = true;
    const list = seen?.details ?? this.notes;
    const text = restart?.[1] ?? message;
    if (!list.includes(text)) list.push(text);
  }

  private of(id: string): Seen {
    let seen = this.seen.get(id);
    if (!seen) {
      seen = { steps: [], details: [], restarts: false, failed: false, first: 0, last: 0 };
      this.seen.set(id, seen);
    }
    return seen;
  }

  /** The provider's messages name the tenant's container or volume, PREFIX-ID, or the tenant itself. */
  private tenantIn(urn: string | undefined, message: string): string | undefined {
    const byUrn = /::pgs:index:PgTenant(?:\$[^:]*(?::[^:]+)*)?::([^:]+)$/.exec(urn ?? "")?.[1];
    if (byUrn) return byUrn;
    const words = message.match(/[a-z0-9][a-z0-9-]*/g) ?? [];
    return [...this.seen.keys()]
      .filter((id) => words.some((word) => word === id || word.endsWith(`-${id}`)))
      .sort((one, other) => other.length - one.length)[0];
  }

  private effectOf({ steps, restarts, failed }: Seen): Effect {
    if (failed) return "failed";
    const component = steps.find(({ type }) => type === tenantType)?.op;
    const losesData = steps.some(
      ({ op, type, old }) => /^delete|^replace/.test(op) && /:Volume$/.test(type) && !old?.retainOnDelete,
    );
    if (losesData) return "data";
    if (component === "delete") return "remove";
    if (component === "create") return "new";
    const server = steps.find(({ type, op }) => /:PostgresServer$/.test(type) && op === "update");
    const [before, after] = [server?.old?.inputs?.state, server?.new?.inputs?.state];
    if (before === "running" && after === "stopped") return "stop";
    if (before === "stopped" && after === "running") return "start";
    const replaced = steps.some(({ op, type }) => /replace/.test(op) && /:PostgresServer$/.test(type));
    return restarts || replaced ? "restart" : "live";
  }
}

const tenantType = "pgs:index:PgTenant";

/** The tenant that a resource belongs to: its component's, or its own name. */
function tenantOf({ urn, type, old, new: now }: Step): string | undefined {
  if (type === tenantType) return nameOf(urn);
  const parent = now?.parent || old?.parent || "";
  return parent.includes(`::${tenantType}::`) ? nameOf(parent) : undefined;
}

function nameOf(urn: string): string {
  return urn.slice(urn.lastIndexOf("::") + 2);
}
