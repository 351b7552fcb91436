import type {
  Answer,
  Change,
  Charts,
  FleetRow,
  Host,
  Source,
  TenantBackupsDetails,
  TenantDetails,
} from "../../../cli/dashboard/api";

const gi = 2 ** 30;
const mi = 2 ** 20;
const names = "acme globex hooli initech umbrella stark wayne cyberdyne tyrell soylent aperture wonka".split(
  " ",
);

/** Text as a hostile tenant would write it. */
export const markup = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;

/** A stack that is nowhere, at a fixed time: the page is tried and pictured with it. */
export class MadeUpStack implements Source {
  private readonly rows: FleetRow[];

  /** @param now milliseconds since 1970 */
  constructor(
    count: number,
    private readonly now = Date.now(),
  ) {
    this.rows = Array.from({ length: count }, (_, index) => row(index));
  }

  overview() {
    return this.known({ stack: "prod-5f0c9a3e21b4" });
  }

  fleet() {
    return this.known({ tenants: this.rows, running: null });
  }

  host() {
    const host: Host = {
      engine: { address: "unix:///var/run/docker.sock", version: "28.5.1", cpus: 16, memory: 64 * gi },
      memory: { promised: 41 * gi, used: 17.4 * gi },
      cpus: { promised: 38, used: 3.42 },
      disk: { size: 960 * gi, free: 388 * gi },
      port: 5432,
      connections: 412,
      services: [
        { name: "pgs--cancel", role: "cancel", state: "running", status: "Up 12 days" },
        { name: "pgs--offsite", role: "offsite", state: "running", status: "Up 12 days (healthy)" },
        { name: "pgs-proxy", role: "proxy", state: "running", status: "Up 12 days (healthy)" },
      ],
      certificate: {
        value: {
          names: "*.pgs.example.com",
          issuer: "R11",
          notAfter: this.now + 61 * 86_400_000,
          untrusted: null,
        },
        at: this.now,
        problem: null,
      },
    };
    return this.known(host);
  }

  changes() {
    const run = (
      hours: number,
      resourceChanges: Record<string, number>,
      more: Partial<Change> = {},
    ): Change => ({
      kind: "update",
      result: "succeeded",
      message: "Raise the memory of the larger ones",
      tenants: null,
      startTime: new Date(this.now - hours * 3_600_000).toISOString(),
      endTime: new Date(this.now - hours * 3_600_000 + 6400).toISOString(),
      resourceChanges,
      ...more,
    });
    return this.known([
      run(0.4, { update: 1, same: 131 }, { tenants: "acme" }),
      run(5, { create: 9, same: 123 }, { tenants: "wonka" }),
      run(26, { same: 122, update: 1 }, { result: "failed", message: markup }),
      run(29, { update: 12, create: 2, delete: 1, same: 107 }),
      run(75, {}, { kind: "refresh" }),
    ]);
  }

  async tenant(id: string): Promise<Answer<TenantDetails> | undefined> {
    const found = this.rows.find((one) => one.id === id);
    if (!found) return undefined;
    return this.known({
      id,
      row: found,
      summary: {
        ...{ host: found.host, port: 5432, database: id, user: "postgres", access: found.access },
        ...{
          state: found.state === "stopped" ? "stopped" : "running",
          tls: "terminate",
          version: found.version,
        },
        ...{
          memory: found.memory.limit,
          cpus: found.cpu.limit,
          extensions: ["pg_stat_statements", "postgis"],
        },
        backup: { schedule: "02:30", retention: "14d" },
      },
      connection: { host: found.host, port: "5432", dbname: id, user: "postgres" },
      ownCa: true,
    });
  }

  async charts(id: string, hours: number): Promise<Answer<Charts> | undefined> {
    const found = this.rows.find((one) => one.id === id);
    if (!found) return undefined;
    const count = 240;
    const times = Array.from({ length: count }, (_, index) =>
      Math.round(this.now / 1000 - hours * 3600 * (1 - index / count)),
    );
    const memory = found.memory.used ?? 0;
    return this.known({
      source: "monitoring",
      times,
      series: {
        cpu: times.map((_, index) => (found.cpu.used ?? 0) * (1 + wave(index, 17))),
        memory: times.map((_, index) => memory * (0.9 + 0.1 * wave(index, 60))),
        connections: times.map((_, index) =>
          Math.round((found.connections ?? 0) * (1 + 0.4 * wave(index, 31))),
        ),
        // Somebody looked away.
        size: times.map((_, index) =>
          index > 90 && index < 110 ? null : (found.size ?? 0) * (0.9 + (0.1 * index) / count),
        ),
      },
    });
  }

  top(id: string) {
    return this.of(id, {
      sessions: [
        {
          ...{
            pid: 4711,
            role: "app",
            application: "web",
            state: "active",
            seconds: 0.4,
            transactionSeconds: 0.4,
          },
          ...{
            wait: "Lock: transactionid",
            blockedBy: [4720],
            query: "UPDATE invoices SET paid = true WHERE id = $1",
          },
        },
        {
          ...{
            pid: 4720,
            role: "app",
            application: markup,
            state: "idle in transaction",
            seconds: 312,
            transactionSeconds: 340,
          },
          ...{
            wait: "Client: ClientRead",
            blockedBy: [],
            query: `SELECT '${markup}' FROM invoices FOR UPDATE`,
          },
        },
      ],
      statements: Array.from({ length: 8 }, (_, index) => ({
        role: "app",
        query:
          index === 1
            ? `SELECT ${markup} /* ${"long ".repeat(60)} */ FROM lines`
            : `SELECT * FROM ${["invoices", "customers", "lines", "events"][index % 4]} WHERE customer = $1 ORDER BY created DESC LIMIT $2`,
        calls: 918_223 >> index,
        totalMilliseconds: 8_231_000 / (index + 1) ** 2,
        meanMilliseconds: 8.96 * (index + 0.2),
        rows: 41_000_000 >> index,
        blocksHit: 99_000 - 900 * index,
        blocksRead: 400 * (index + 1),
      })),
    });
  }

  backups(id: string) {
    const seconds = Math.floor(this.now / 1000);
    const details: TenantBackupsDetails = {
      judged: {
        ...{
          tenant: id,
          owner: id,
          state: "running",
          since: seconds - 40 * 86400,
          base: seconds - 9 * 3600,
          due: false,
        },
        ...{
          wal: seconds,
          behind: 0,
          size: 3.1 * gi,
          left: null,
          s3: null,
          failure: null,
          exposed: 0,
          problem: null,
        },
        tried: { at: seconds - 3 * 86400, seconds: 41, ok: true, backup: "20261124T023004", reason: "" },
        pending: null,
      },
      bases: Array.from({ length: 14 }, (_, index) => ({
        id: `202611${String(index + 10)}T023004`,
        complete: this.now - (14 - index) * 86_400_000 + 60_000,
        version: 18,
      })),
    };
    return this.of(id, details);
  }

  log(id: string) {
    const at = new Date(this.now).toISOString().slice(0, 19).replace("T", " ");
    return this.of(id, [
      `${at}.101 UTC [27] LOG:  checkpoint starting: time`,
      `${at}.422 UTC [27] LOG:  checkpoint complete: wrote 41 buffers (0.3%), wrote 2 SLRU buffers; 0 WAL file(s) added, 0 removed, 0 recycled`,
      `${at}.900 UTC [4720] ERROR:  syntax error at or near "${markup}"`,
      `${at}.900 UTC [4720] STATEMENT:  SELECT ${markup}`,
      `${at}.950 UTC [4711] LOG:  process 4711 still waiting for ShareLock on transaction 88231 after 1000.061 ms`,
    ]);
  }

  private async of<T>(id: string, value: T): Promise<Answer<T> | undefined> {
    return this.rows.some((one) => one.id === id) ? this.known(value) : undefined;
  }

  private async known<T>(value: T): Promise<Answer<T>> {
    return { value, at: this.now, problem: null };
  }
}

function row(index: number): FleetRow {
  const id = names[index] ?? `${names[index % names.length]}-${Math.floor(index / names.length)}`;
  const limit = [512 * mi, gi, 2 * gi, 256 * mi][index % 4] ?? gi;
  const cpus = [1, 2, 0.5][index % 3] ?? 1;
  const state = { 3: "stopped", 7: "silent", 9: "restoring" }[index] ?? "running";
  const isUp = state === "running";
  const used = 0.06 + 0.3 * Math.abs(wave(index, 7));
  return {
    ...{
      id,
      host: `${id}.pgs.example.com`,
      port: 5432,
      version: index % 5 === 0 ? 17 : 18,
      access: index !== 5,
      pooler: null,
      state,
    },
    restartPending: isUp ? index === 4 : null,
    memory: {
      used: isUp ? limit * (index === 2 ? 0.94 : 0.2 + 0.5 * Math.abs(wave(index, 5))) : null,
      limit,
    },
    cpu: { used: isUp ? cpus * used : null, limit: cpus },
    size: isUp ? (0.2 + index * 0.37) * gi : null,
    wal: isUp ? 64 * mi * (1 + (index % 3)) : null,
    disk: {
      used: isUp ? (0.3 + index * 0.37) * gi : null,
      limit: { 8: 3.3 * gi, 10: 4.5 * gi }[index] ?? null,
      readOnly: isUp ? index === 8 : null,
    },
    connections: isUp ? (index * 7) % 60 : null,
    maxConnections: isUp ? 102 : null,
    uptime: isUp ? 12 * 86_400 - index * 3601 : null,
    backup: {
      exposed: isUp ? (index % 4 === 1 ? 3 : 0) : null,
      problem: index === 6 ? `the base backup is old; ${markup}` : null,
      pending: index === 11 ? "the first base backup is being made" : null,
    },
    cpuHistory: isUp
      ? Array.from({ length: 40 }, (_, step) =>
          Number((cpus * used * (1 + wave(step + index * 3, 9))).toFixed(3)),
        )
      : [],
  };
}

/** From -1 to 1, the same each time. */
function wave(index: number, length: number): number {
  return 0.6 * Math.sin((index * 6.283) / length) + 0.4 * Math.sin(index * 2.17);
}
