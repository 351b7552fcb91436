import { printable } from "../../docker/exec";
import { isTerminal } from "./terminal";
import { bytes, duration } from "./units";

/** How many notices, and how many errors, of a program are shown. */
const mostMessages = 40;

/** How far a dump or a load is, shown on standard error: at a terminal all the time, elsewhere when it is done. */
export class Transfer {
  bytes = 0;
  private objects = 0;
  private current = "";
  private messages = 0;
  private errors = 0;
  private readonly begun = Date.now();
  private readonly timer: NodeJS.Timeout | undefined;

  /**
   * @param total bytes, where they are known
   * @param object what `pg_dump --verbose` or `pg_restore --verbose` say when they begin with data of an object
   */
  constructor(
    private readonly total: number | undefined,
    private readonly object: RegExp,
  ) {
    if (isTerminal(process.stderr)) this.timer = setInterval(() => this.show(), 250);
  }

  /** A line of the program's: progress is counted, warnings and errors are shown. */
  line(text: string): void {
    const name = this.object.exec(text)?.[1];
    if (name !== undefined) {
      this.objects++;
      this.current = name;
    } else if (!/^pg_(dump|restore): (?!error:|warning:|detail:|hint:)/.test(text) && text.trim() !== "") {
      this.clear();
      // Of notices there may be thousands before the one error that counts.
      if (/\b(ERROR|FATAL|error):/.test(text)) {
        if (++this.errors <= mostMessages) console.error(printable(text, 500));
      } else if (++this.messages <= mostMessages) console.error(printable(text, 500));
      else if (this.messages === mostMessages + 1) console.error("… and more");
    }
  }

  /** @returns what was done, in numbers */
  end(): string {
    this.stop();
    const objects =
      this.objects > 0 ? `, ${this.objects} ${this.objects === 1 ? "table" : "tables"} with data` : "";
    return `${bytes(this.bytes)}${objects}, in ${((Date.now() - this.begun) / 1000).toFixed(1)} s`;
  }

  stop(): void {
    clearInterval(this.timer);
    this.clear();
  }

  private show(): void {
    const share = this.total
      ? ` of ${bytes(this.total)} (${Math.floor((100 * this.bytes) / this.total)} %)`
      : "";
    const at = this.current ? `, table ${this.objects}: ${printable(this.current, 60)}` : "";
    const seconds = Math.round((Date.now() - this.begun) / 1000);
    this.clear();
    process.stderr.write(`  ${bytes(this.bytes)}${share}${at}, ${duration(seconds)}`);
  }

  private clear(): void {
    if (this.timer) process.stderr.write("\r\x1b[K");
  }
}
