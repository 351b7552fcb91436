import { printable } from "../../docker/exec";
import type { Effect, RunReport, TenantChange } from "./engine-events";
import { explainError } from "./explain-error";
import { coloured } from "./terminal";

/** How a change reads before and after it is made, and what it means for the tenant's clients. */
const words: Record<Effect, { planned: string; done: string; meaning: string; doneMeaning: string }> = {
  new: { planned: "create", done: "created", meaning: "no effect on others", doneMeaning: "ready" },
  newStopped: { planned: "create", done: "created", meaning: "stopped", doneMeaning: "stopped" },
  live: { planned: "change", done: "changed", meaning: "live", doneMeaning: "live" },
  restart: {
    planned: "restart",
    done: "restarted",
    meaning: "its sessions end, down for some seconds",
    doneMeaning: "its sessions ended",
  },
  stop: { planned: "stop", done: "stopped", meaning: "its sessions end", doneMeaning: "its sessions ended" },
  start: { planned: "start", done: "started", meaning: "live", doneMeaning: "ready" },
  remove: {
    planned: "remove",
    done: "removed",
    meaning: "its sessions end, its data stays",
    doneMeaning: "its data stays",
  },
  data: {
    planned: "remove",
    done: "removed",
    meaning: "its data is deleted for good",
    doneMeaning: "its data is deleted",
  },
  failed: { planned: "fails", done: "failed", meaning: "", doneMeaning: "" },
};

/** Whether a change takes something from clients, so that a person is asked first. */
export function hasConsequence(report: RunReport): boolean {
  return report.interruptsAll() || report.changes().some(({ effect }) => consequences.includes(effect));
}

const consequences: Effect[] = ["restart", "stop", "remove", "data"];

/** Effects of a planned run, a tenant a line. */
export function planText(report: RunReport): string {
  const changes = report.changes();
  const width = report.idWidth();
  const lines = changes.map(({ id, effect, details }) => {
    const { planned, meaning } = words[effect];
    const reason = effect === "restart" && details.length > 0 ? ` (${text(details.join("; "))})` : "";
    return `${mark(effect)} ${id.padEnd(width)}  ${planned.padEnd(7)}  ${meaning}${reason}`;
  });
  if (report.interruptsAll())
    lines.push(`${coloured.bad("!")} The proxy is replaced: the sessions of all tenants end.`);
  const others = report.stackChanges();
  if (others.length > 0) lines.push(`  Not a tenant's own: ${others.join(", ")}`);
  lines.push(...notesOf(report, false));
  const count = report.unchanged();
  if (changes.length === 0 && others.length === 0) lines.push(`No changes (${tenants(count)}).`);
  else if (count > 0) lines.push(coloured.faint(`  ${tenants(count)} unchanged`));
  return lines.join("\n");
}

/** A question that names the consequences. */
export function consequenceQuestion(report: RunReport): string {
  const parts = (["remove", "data", "stop", "restart"] as const).flatMap((effect) => {
    const ids = report.changes().flatMap((change) => (change.effect === effect ? [change.id] : []));
    if (ids.length === 0) return [];
    const named = ids.length > 5 ? `${ids.length} tenants` : ids.join(", ");
    return effect === "data"
      ? [`delete ${named} with all data`]
      : [`${words[effect].planned} ${named}${effect === "remove" ? " (data stays)" : ""}`];
  });
  if (report.interruptsAll()) parts.push("end the sessions of all tenants");
  const question = parts.join(", ");
  return `${question.charAt(0).toUpperCase()}${question.slice(1)}?`;
}

/** One tenant, once its change is made. */
export function outcomeText({ id, effect, details, seconds }: TenantChange, width = 0): string {
  const { done, doneMeaning } = words[effect];
  const kept = details.find((detail) => effect === "remove" && / stays in the /.test(detail));
  const meaning =
    kept ?? (effect === "restart" && details[0] ? `${doneMeaning}: ${details[0]}` : doneMeaning);
  const time = `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return `${mark(effect)} ${id.padEnd(width)}  ${done.padEnd(9)}  ${time.padStart(6)}  ${text(meaning)}`.trimEnd();
}

/** The errors of a run, those that users meet often in words that say what to do. */
export function errorText(report: RunReport): string {
  return report
    .errors()
    .map((error) => coloured.bad("error: ") + (explainError(error) ?? error).split("\n").map(text).join("\n"))
    .join("\n");
}

/** The rest of a run beside its tenants' lines: notes, how many tenants did not change. */
export function summaryText(report: RunReport, succeeded: boolean): string {
  const lines = notesOf(report, true);
  const count = report.unchanged();
  const changes = report.changes().length + report.stackChanges().length;
  if (changes === 0 && succeeded) lines.push(`No changes (${tenants(count)}).`);
  else if (changes > 0 && count > 0) lines.push(coloured.faint(`  ${tenants(count)} unchanged`));
  return lines.join("\n");
}

/** Of tenants that change, whatever is said of them beside the reason of a restart and where data stays. */
function notesOf(report: RunReport, done: boolean): string[] {
  const own = report
    .changes()
    .filter(({ effect }) => !["restart", "remove"].includes(effect))
    .flatMap(({ id, details }) => details.map((detail) => `${id}: ${byHand(detail, done)}`));
  return [...own, ...report.notes()].map((note) => `  ${coloured.warning("note:")} ${text(note)}`);
}

/** The provider's words are for plain Pulumi: they name the resource, and what to run. */
function byHand(detail: string, done: boolean): string {
  const [, what] = /^\S+ \S+ was changed by hand \((.*)\); `pulumi up` restores it$/s.exec(detail) ?? [];
  if (what === undefined) return detail;
  return done
    ? `had been changed by hand (${what}), and is restored`
    : `was changed by hand (${what}); an up restores it`;
}

function mark(effect: Effect): string {
  if (effect === "failed") return coloured.bad("✗");
  return consequences.includes(effect) ? coloured.warning("✓") : coloured.good("✓");
}

function tenants(count: number): string {
  return count === 1 ? "1 tenant" : `${count} tenants`;
}

/** A tenant's server may have written it. */
function text(line: string): string {
  return printable(line, 500);
}
