import type { Checkout } from "./checkout";
import { eventually, run } from "./command";

/** Makes a base backup of a tenant of a stack now. */
export async function makeBaseBackup(checkout: Checkout, id: string): Promise<void> {
  const command = ["exec", checkout.name(`${id}--backup`), "pgs-backup", "backup", "--tenant", id];
  await onceNoneIsMade(async () => {
    const { code, output } = await run("docker", command);
    if (code !== 0) throw new Error(output);
  });
}

/**
 * Asks for a base backup as soon as the one is done that may be under way: a tenant's first one, or one that is due
 * after a gap, is made without being asked for, and its record is complete before the work is.
 */
export async function onceNoneIsMade<T>(ask: () => Promise<T>): Promise<T> {
  const busy = /a base backup is being made/;
  const outcome = await eventually(240, async () => {
    try {
      return { made: await ask() };
    } catch (error) {
      if (busy.test(String(error))) throw error;
      return { error };
    }
  });
  if ("error" in outcome) throw outcome.error;
  return outcome.made;
}
