import { type Charts, type SeriesName, seriesNames } from "./api";

/** Of each tenant so many samples are kept: at one in three seconds, an hour. */
const kept = 1200;

type Sample = { at: number } & Partial<Record<SeriesName, number | null>>;

/** What was seen of one tenant while a page was open. */
export class History {
  private readonly samples: Sample[] = [];

  /** @param at milliseconds since 1970 */
  add(at: number, values: Partial<Record<SeriesName, number | null>>): void {
    this.samples.push({ at: Math.floor(at / 1000), ...values });
    if (this.samples.length > kept) this.samples.shift();
  }

  /** The last `count` values of a series. */
  last(name: SeriesName, count: number): number[] {
    return this.samples.flatMap((sample) => sample[name] ?? []).slice(-count);
  }

  charts(): Charts {
    const series = (name: SeriesName) => this.samples.map((sample) => sample[name] ?? null);
    return {
      source: "dashboard",
      times: this.samples.map(({ at }) => at),
      series: Object.fromEntries(seriesNames.map((name) => [name, series(name)])) as Charts["series"],
    };
  }
}
