import { setTimeout as delay } from "node:timers/promises";
import { Client, type ClientConfig, DatabaseError } from "pg";

/** PostgreSQL's answer to a write on a replica. https://www.postgresql.org/docs/18/errcodes-appendix.html */
const readOnly = "25006";

/**
 * A client that commits a row at a time, and goes on after each failure, by the next address: as a client of several hosts
 * does. What no answer came to may be there or not.
 */
export class Writer {
  /** Numbers of the rows that the server said it has committed. */
  readonly committed: number[] = [];
  /** Writes that a replica refused. */
  readonly toReplicas: string[] = [];
  private longest = 0;
  private last = performance.now();
  private going = true;
  private next = 0;
  private moved = false;
  private readonly work: Promise<void>;

  /** @param addresses of the proxies, asked for at each new session */
  constructor(
    private readonly config: ClientConfig,
    private addresses: string[],
  ) {
    this.work = this.write();
  }

  /** Seconds of the longest time without a commit since the last call. */
  longestPause(): number {
    const longest = Math.max(this.longest, performance.now() - this.last);
    this.longest = 0;
    return longest / 1000;
  }

  /** Goes on by a session to this address. */
  via(address: string): void {
    this.addresses = [address, ...this.addresses.filter((one) => one !== address)];
    this.moved = true;
  }

  async stop(): Promise<void> {
    this.going = false;
    await this.work;
  }

  private async write(): Promise<void> {
    let client: Client | undefined;
    while (this.going) {
      if (this.moved) {
        await client?.end();
        client = undefined;
        this.moved = false;
      }
      try {
        client ??= await this.connect();
        const n = this.next++;
        await client.query("INSERT INTO written VALUES ($1)", [n]);
        this.committed.push(n);
        const now = performance.now();
        this.longest = Math.max(this.longest, now - this.last);
        this.last = now;
      } catch (error) {
        if (error instanceof DatabaseError && error.code === readOnly) {
          this.toReplicas.push(`${new Date().toISOString()} ${error.message}`);
        }
        // Of a node that is cut off, no end is heard.
        client?.end().catch(() => {});
        client = undefined;
      }
      await delay(20);
    }
    await client?.end();
  }

  private async connect(): Promise<Client> {
    const [address = ""] = this.addresses;
    const client = new Client({
      ...this.config,
      host: address,
      connectionTimeoutMillis: 2000,
      query_timeout: 3000,
    });
    client.on("error", () => {});
    try {
      await client.connect();
    } catch (error) {
      this.addresses.push(this.addresses.shift() ?? "");
      client.end().catch(() => {});
      throw error;
    }
    return client;
  }
}
