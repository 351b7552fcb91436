/** Whose backups a new tenant's data was made from. */
interface Source {
  /** Id of that tenant. */
  from: string;
  /** As of when: ISO 8601 with a time zone. Without one, the end of what was backed up. */
  at?: string;
}

/** What is wrong with another source than that of the data which is there. */
export function otherSource({ from, at }: Partial<Source>, before: Partial<Source>) {
  if (before.from === undefined || (before.from === from && before.at === at)) return [];
  const made = `${before.from}${before.at ? ` at ${before.at}` : ""}`;
  return [
    {
      property: "from" as const,
      reason: `the tenant's data was made from ${made} already, and an edit never replaces data: take restoreFrom out, or restore into another entry`,
    },
  ];
}
