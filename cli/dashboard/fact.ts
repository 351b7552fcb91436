import { setTimeout as delay } from "node:timers/promises";
import { printable } from "../../docker/exec";
import type { Answer } from "./api";

/** Milliseconds until the page shows that an answer is still missing. */
const patience = 400;
/** From when on a slow answer is a problem of its own, in milliseconds. */
const slow = 15_000;
/** Looking takes at most one part in so many of the time. */
const share = 5;

/**
 * Something that is found out when somebody asks, and not more often than its age in seconds allows. The one that asks
 * gets the last that is known, so that nothing slow holds up what is quick. What takes long is looked at less often.
 */
export class Fact<T> {
  private found: { value: T; at: number } | undefined;
  private problem: string | null = null;
  private search: Promise<void> | undefined;
  private begun = 0;
  private stale = 0;

  constructor(
    private readonly seconds: number,
    private readonly look: () => Promise<T>,
  ) {}

  /** What is known; of what was never known, what becomes known soon. */
  async answer(): Promise<Answer<T>> {
    const search = this.renewed();
    if (!this.found && search) await Promise.race([search, delay(patience, undefined, { ref: false })]);
    return this.known();
  }

  /** The same without waiting. */
  peek(): Answer<T> {
    void this.renewed();
    return this.known();
  }

  /** What is known, or becomes known. @throws Error with the reason why it does not */
  async get(): Promise<T> {
    const search = this.renewed();
    if (!this.found) await search;
    if (this.found) return this.found.value;
    throw new Error(this.problem ?? "nothing is known yet");
  }

  private known(): Answer<T> {
    const seconds = Math.round((Date.now() - this.begun) / 1000);
    const late = this.search && seconds * 1000 >= slow ? `no answer for ${seconds} s` : null;
    return {
      value: this.found?.value ?? null,
      at: this.found?.at ?? null,
      problem: late ?? this.problem,
    };
  }

  private renewed(): Promise<void> | undefined {
    if (this.search || Date.now() < this.stale) return this.search;
    this.begun = Date.now();
    this.search = this.look()
      .then((value) => {
        this.found = { value, at: Date.now() };
        this.problem = null;
      })
      .catch((error: Error) => {
        this.problem = printable(error.message, 500);
      })
      .finally(() => {
        const took = Date.now() - this.begun;
        this.stale = Date.now() + Math.max(this.seconds * 1000, (share - 1) * took);
        this.search = undefined;
      });
    return this.search;
  }
}
