import { Client, type ClientConfig } from "pg";

export interface LoadCounts {
  sessions: number;
  /** Answered queries of the sessions that stay open. */
  queries: number;
  /** Logins that each asked one query. */
  connections: number;
  /** Seconds. */
  slowestQuery: number;
  slowestConnection: number;
}

/**
 * Clients of one tenant at work: sessions that stay open and write all the time, and new logins all the
 * time. Whatever fails is kept, with the time.
 */
export class ClientLoad {
  readonly failures: string[] = [];
  readonly counts: LoadCounts = {
    sessions: 0,
    queries: 0,
    connections: 0,
    slowestQuery: 0,
    slowestConnection: 0,
  };
  private going = true;
  private readonly work: Promise<void>[] = [];

  private constructor(private readonly config: ClientConfig) {}

  /** Resolves when every session is open. */
  static async start(
    config: ClientConfig,
    { sessions, newcomers }: { sessions: number; newcomers: number },
  ): Promise<ClientLoad> {
    const load = new ClientLoad(config);
    for (let session = 0; session < sessions; session++) {
      const client = new Client(config);
      client.on("error", (error) => load.fail("a session was dropped", error));
      await client.connect();
      // A temporary table ends with its session.
      await client.query("CREATE TEMPORARY TABLE written (n int)");
      load.counts.sessions++;
      load.work.push(load.writeAllTheTime(client));
    }
    for (let newcomer = 0; newcomer < newcomers; newcomer++) load.work.push(load.logInAllTheTime());
    return load;
  }

  /** Lets what is under way come to its end. */
  async stop(): Promise<void> {
    this.going = false;
    await Promise.all(this.work);
  }

  private async writeAllTheTime(client: Client): Promise<void> {
    let written = 0;
    try {
      while (this.going) {
        const seconds = await timed(() => client.query("INSERT INTO written VALUES ($1)", [++written]));
        this.counts.queries++;
        this.counts.slowestQuery = Math.max(this.counts.slowestQuery, seconds);
        await pause(20);
      }
      const result = await client.query("SELECT count(*)::int AS rows FROM written");
      if (result.rows[0].rows !== written) {
        throw new Error(`${written} rows written, ${result.rows[0].rows} found`);
      }
      await client.end();
    } catch (error) {
      this.fail("a query failed", error);
    }
  }

  private async logInAllTheTime(): Promise<void> {
    while (this.going) {
      const client = new Client(this.config);
      client.on("error", (error) => this.fail("a new session was dropped", error));
      try {
        const seconds = await timed(() => client.connect());
        await client.query("SELECT 1");
        await client.end();
        this.counts.connections++;
        this.counts.slowestConnection = Math.max(this.counts.slowestConnection, seconds);
      } catch (error) {
        this.fail("a connection was refused", error);
      }
      await pause(50);
    }
  }

  private fail(what: string, error: unknown): void {
    this.failures.push(`${new Date().toISOString()} ${what}: ${(error as Error).message}`);
  }
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await action();
  return (performance.now() - started) / 1000;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
