/** Milliseconds without an operation, after which Pulumi is taken to have no more of them. */
const quiet = 2000;

/**
 * Pulumi starts no new operation after a failure. A failure is therefore reported after all other operations: the changes
 * that do not depend on it are made by then, and all failures are reported together.
 */
export class FailuresLast {
  private running = 0;
  private held: (() => void)[] = [];
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly pause = quiet) {}

  /** Reports a failure at once. For operations that change nothing. */
  async plan<T>(work: () => Promise<T>): Promise<T> {
    this.begin();
    try {
      return await work();
    } finally {
      this.end();
    }
  }

  /** Reports a failure after all other operations. */
  async change<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await this.plan(work);
    } catch (error) {
      await new Promise<void>((resolve) => {
        this.held.push(resolve);
        this.waitIfIdle();
      });
      throw error;
    }
  }

  private begin(): void {
    this.running++;
    clearTimeout(this.timer);
  }

  private end(): void {
    this.running--;
    this.waitIfIdle();
  }

  private waitIfIdle(): void {
    if (this.running > 0 || this.held.length === 0) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      for (const report of this.held.splice(0)) report();
    }, this.pause);
  }
}
