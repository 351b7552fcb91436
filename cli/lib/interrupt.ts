const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Calls `first` at the first signal to end. A second one ends the command at once: what it waits for may never come.
 * @returns what takes that back
 */
export function onInterrupt(first: () => void): () => void {
  let seen = false;
  const interrupt = () => {
    if (seen) process.exit(130);
    seen = true;
    first();
  };
  for (const signal of signals) process.on(signal, interrupt);
  return () => {
    for (const signal of signals) process.off(signal, interrupt);
  };
}
