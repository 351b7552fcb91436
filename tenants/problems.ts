/** A place in the text of tenants.yaml; both count from 1, the column in UTF-16 code units as editors do. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** One thing that is wrong in tenants.yaml. */
export interface Problem extends Position {
  /** Where it is in the structure, such as `tenants.acme.memory`; empty for the file as a whole. */
  readonly path: string;
  /** What is wrong and what is allowed. */
  readonly message: string;
}

/** More lines than these help no reader. */
const mostShown = 500;

/**
 * A mistake in tenants.yaml: the only error that reading it throws. Its message names every problem (of thousands, the first ones),
 * each on a line of its own, in the order of the file; a stack trace would tell the operator nothing more.
 */
export class TenantsFileError extends Error {
  override readonly name = "TenantsFileError";
  readonly problems: readonly Problem[];

  /** @param file the name of the file as the messages show it */
  constructor(file: string, problems: readonly Problem[]) {
    const sorted = withoutRepeats([...problems].sort(byPosition));
    const shown = sorted.slice(0, mostShown).map((problem) => formatProblem(file, problem));
    const more = sorted.length - shown.length;
    super([...shown, ...(more > 0 ? [`and ${more} more problems`] : [])].join("\n"));
    this.problems = sorted;
  }
}

function formatProblem(file: string, { line, column, path, message }: Problem): string {
  const text = [`${file}:${line}:${column}`, path, message].filter((part) => part !== "").join(": ");
  // Nothing out of the file may break the line or command the terminal.
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, "\ufffd");
}

function byPosition(a: Problem, b: Problem): number {
  return a.line - b.line || a.column - b.column;
}

function withoutRepeats(problems: Problem[]): Problem[] {
  const seen = new Set<string>();
  return problems.filter((problem) => {
    const identity = JSON.stringify([problem.line, problem.column, problem.path, problem.message]);
    return !seen.has(identity) && seen.add(identity);
  });
}

/** `["tenants", "globex", "init", 0]` as `tenants.globex.init[0]`; a key that is no plain word is quoted. */
export function formatPath(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${formatKey(String(part))}`))
    .join("")
    .replace(/^\./, "");
}

export function formatKey(key: string): string {
  return /^[\w./-]{1,100}$/.test(key) ? key : show(key);
}

/** A value as it may appear in a one-line message. */
export function show(value: unknown): string {
  if (typeof value === "string") {
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  }
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "a map" : String(value);
}
