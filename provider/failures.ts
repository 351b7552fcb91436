/** Milliseconds without a call from Pulumi after which nothing more is taken to come. */
const quiet = 2000;

/**
 * Pulumi begins nothing new once a resource has failed. One tenant's failure is therefore told when nothing else is under
 * way: by then all that does not depend on it has been done, and whatever else failed is told with it.
 */
export class FailuresLast {
  private running = 0;
  private held: (() => void)[] = [];
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly pause = quiet) {}

  /** Work whose failure, if it does fail, can be told at once. */
  async plan<T>(work: () => Promise<T>): Promise<T> {
    this.begin();
    try {
      return await work();
    } finally {
      this.end();
    }
  }

  /** Work that changes something, whose failure waits. */
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
      for (const tell of this.held.splice(0)) tell();
    }, this.pause);
  }
}
