import type { Change, FleetRow } from "../api";

/** 2026-11-23 10:15, in UTC as the commands take it. */
export function moment(milliseconds: number): string {
  return new Date(milliseconds).toISOString().slice(0, 16).replace("T", " ");
}

/** 20:31:05 UTC. */
export function clock(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(11, 19)} UTC`;
}

/** How a state is to be taken. */
export type Tone = "good" | "quiet" | "busy" | "warning" | "bad";

const tones: Record<string, Tone> = {
  running: "good",
  stopped: "quiet",
  starting: "busy",
  restoring: "busy",
  incomplete: "warning",
  paused: "warning",
  created: "warning",
};

export function toneOf(state: string): Tone {
  return Object.hasOwn(tones, state) ? (tones[state] as Tone) : "bad";
}

/** What an operator should look at, with what to do; the worst first. */
export function concerns(row: FleetRow): { tone: Tone; text: string; command: string }[] {
  const { id, state, memory, disk, connections, maxConnections, backup } = row;
  const found: { tone: Tone; text: string; command: string }[] = [];
  const add = (tone: Tone, text: string, command: string) => found.push({ tone, text, command });
  const why = `./pgs logs ${id} --tail 50`;
  if (state === "missing")
    add("bad", "Its container is gone. An up replaces it, on the same data.", "./pgs up");
  else if (state === "incomplete")
    add("warning", "No up has completed it yet. The next one says why.", "./pgs up");
  else if (state === "silent" || state === "unhealthy") add("bad", "Its server does not answer.", why);
  else if (toneOf(state) === "bad") add("bad", `Its container is ${state}.`, why);
  if (backup?.problem) add("bad", `Backups: ${backup.problem}.`, "./pgs backups");
  if (disk.readOnly)
    add(
      "bad",
      "Its sessions are read-only by default, as its disk budget or the host's disk runs short.",
      "./pgs doctor",
    );
  else if (disk.used !== null && disk.limit !== null && disk.used > 0.8 * disk.limit)
    add("warning", "It uses more than 80 % of its disk budget.", `./pgs set ${id} disk …`);
  if (memory.used !== null && memory.used > 0.9 * memory.limit)
    add("warning", "It uses more than 90 % of its memory.", `./pgs set ${id} memory …`);
  if (connections !== null && maxConnections !== null && connections > 0.8 * maxConnections)
    add("warning", "More than 80 % of its connections are taken.", `./pgs top ${id}`);
  if (row.restartPending)
    add("warning", "A setting was changed that only a restart brings into force.", "./pgs preview");
  return found;
}

const kinds: Record<string, string> = {
  update: "up",
  destroy: "destroy",
  refresh: "refresh",
  import: "import",
};

/** The command behind a run of Pulumi's. */
export function runText({ kind }: Change): string {
  return Object.hasOwn(kinds, kind) ? (kinds[kind] as string) : kind;
}

const words: Record<string, string> = {
  create: "created",
  update: "changed",
  delete: "deleted",
  replace: "replaced",
  import: "imported",
};

/** `acme: changed 2, created 5`: so many resources. */
export function changeText({ resourceChanges = {}, tenants }: Change): string {
  const parts = Object.entries(resourceChanges)
    .filter(([op]) => Object.hasOwn(words, op))
    .map(([op, count]) => `${words[op]} ${count}`);
  return `${tenants ? `${tenants}: ` : ""}${parts.join(", ") || "no changes"}`;
}
