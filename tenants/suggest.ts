/** The candidate that is so near to a misspelt word that it was probably meant, if there is one. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const limit = 40;
  if (word.length > limit) return undefined;
  const normal = simplify(word);
  const [best] = candidates
    .map((candidate) => ({ candidate, distance: editDistance(normal, simplify(candidate)) }))
    .filter(({ candidate, distance }) => distance <= Math.max(1, Math.floor(candidate.length / 3)))
    .sort((a, b) => a.distance - b.distance);
  return best?.candidate;
}

export type Suggest = (word: string, candidates: readonly string[]) => string | undefined;

/**
 * {@link nearest} for the first words of a file. More than these are no slips of the pen, and to compare each of
 * thousands with every setting of PostgreSQL would take minutes.
 */
export function suggestions(most = 30): Suggest {
  let left = most;
  return (word, candidates) => (left-- > 0 ? nearest(word, candidates) : undefined);
}

/** `password_version` and `PasswordVersion` are both meant for `passwordVersion`. */
function simplify(word: string): string {
  return word.toLowerCase().replace(/[-_\s]/g, "");
}

/** Levenshtein distance: how many letters to insert, delete or replace to make `b` of `a`. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (const [index, letter] of [...a].entries()) {
    const next = [index + 1];
    for (const [column, other] of [...b].entries()) {
      const replaced = (row[column] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(replaced, (row[column + 1] ?? 0) + 1, (next[column] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
