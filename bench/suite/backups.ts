import { cpus } from "node:os";
import { stringify } from "yaml";
import { BackupClient, slotName, socketFolder } from "../../backups/client";
import { dockerClient } from "../../docker/client";
import { Checkout, withBackups } from "../../test/e2e/support/checkout";
import { eventually, succeed } from "../../test/e2e/support/command";
import { median, seconds } from "../support";
import { processorSeconds } from "./memory";
import { type Row, ratioOf } from "./row";

/** Of pgbench's tables: 1 GiB. */
const scale = 70;

/** Seconds of each run of pgbench. */
const duration = 6;

const runs = 5;

/** Transactions a second of a tenant that leaves the processors something to do. */
const paced = 1000;

/** What being backed up costs a tenant, and how long its restore takes. */
export async function backups(): Promise<Row[]> {
  const big = { memory: "1Gi", cpus: 2, settings: { max_wal_size: "2GB" } };
  const entries: Record<string, object> = { big };
  const checkout = await Checkout.create(stringify({ tenants: entries }), withBackups);
  const barman = checkout.name("big--backup");
  const client = new BackupClient(dockerClient(undefined).getContainer(barman), "big");
  const inServer = (...command: string[]) => succeed("docker", ["exec", checkout.name("big"), ...command]);

  /** Writers that are next to the server, as fast as they can or at so many transactions a second. */
  const write = async (rate?: number) => {
    const options = ["--client", "8", "--jobs", "2", "--no-vacuum", "--time", String(duration)];
    if (rate) options.push("--rate", String(rate));
    const output = await inServer("pgbench", "--username", "postgres", ...options, "big");
    return {
      perSecond: Number(/^tps = ([\d.]+)/m.exec(output)?.[1]),
      milliseconds: Number(/^latency average = ([\d.]+) ms/m.exec(output)?.[1]),
    };
  };
  const writers = async () => (await write()).perSecond;
  const received = () =>
    eventually(120, async () => {
      const [row] = await checkout.query(
        "big",
        `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), write_lsn)::int AS behind FROM pg_stat_replication WHERE application_name = '${slotName}'`,
      );
      if (row?.behind !== 0) throw new Error("not all WAL has been received");
    });

  try {
    await checkout.up();
    await inServer(
      "pgbench",
      "--username",
      "postgres",
      "--initialize",
      "--quiet",
      "--scale",
      String(scale),
      "big",
    );
    await eventually(180, async () => {
      if ((await client.status()).base === 0) throw new Error("no base backup");
    });
    await received();

    const checkpoint = () => inServer("psql", "--username", "postgres", "--command", "CHECKPOINT");
    const forWal = async () =>
      (await processorSeconds(checkout.name("big"), /walsender/)) +
      (await processorSeconds(barman, /pg_receivewal/));
    const alone: number[] = [];
    const streaming: number[] = [];
    const spent: number[] = [];
    const pacedAlone: number[] = [];
    const pacedStreaming: number[] = [];
    for (let index = 0; index < runs; index++) {
      await succeed("docker", ["stop", barman]);
      await checkpoint();
      alone.push(await writers());
      await checkpoint();
      pacedAlone.push((await write(paced)).milliseconds);
      await succeed("docker", ["start", barman]);
      await received();
      await checkpoint();
      const before = await forWal();
      streaming.push(await writers());
      spent.push((await forWal()) - before);
      await checkpoint();
      pacedStreaming.push((await write(paced)).milliseconds);
    }

    const backedUp: number[] = [];
    for (let index = 0; index < runs; index++) {
      let ended = false;
      const backingUp = (async () => {
        while (!ended) await client.backup();
      })();
      backedUp.push(await writers());
      ended = true;
      await backingUp;
    }

    await received();
    const copied = await seconds(() => baseBackup(barman));
    const [{ seconds: restored }] = JSON.parse(
      await succeed("./pgs", ["try-restores", "big", "--json"], checkout.options()),
    );
    entries.copy = { ...big, restoreFrom: { tenant: "big" } };
    checkout.write("tenants.yaml", stringify({ tenants: entries }));
    const whole = await seconds(async () => {
      await checkout.up();
      await checkout.query("copy", "SELECT 1");
    });
    const [{ size } = {}] = await checkout.query(
      "copy",
      "SELECT pg_database_size('copy') / 1048576.0 AS size",
    );

    return [
      share(
        "writers of a tenant whose WAL is streamed (median of 5)",
        streaming,
        "no streaming",
        alone,
        0.93,
      ),
      {
        figure: "processor time that sending and receiving it takes meanwhile",
        measured: `${median(spent).toFixed(2)} s`,
        against: `all that there is: ${duration * cpus().length} s`,
        ratio: median(spent) / (duration * cpus().length),
        aim: "for comparison",
      },
      {
        figure: `a transaction of ${paced} a second while WAL is streamed`,
        measured: `${median(pacedStreaming).toFixed(2)} ms`,
        against: `no streaming: ${median(pacedAlone).toFixed(2)} ms`,
        ratio: median(pacedStreaming) / median(pacedAlone),
        aim: "for comparison",
      },
      share("writers while a base backup is made", backedUp, "streaming alone", streaming, 0.9),
      ratioOf(
        `restore of ${Number(size).toFixed(0)} MiB until its server is ready`,
        restored,
        { what: "pg_basebackup of the same", measured: copied },
        { atMost: 2 },
      ),
      ratioOf(
        "the same as a new tenant, whole up to the first login",
        whole,
        { what: "pg_basebackup of the same", measured: copied },
        { atMost: 2 },
      ),
    ];
  } finally {
    await checkout.remove();
  }
}

/** By the server's socket, to the volume of the tenant's backups. */
async function baseBackup(barman: string): Promise<void> {
  const script = `set -e
    login="host=${socketFolder} user=postgres"
    pg_basebackup --dbname "$login" --checkpoint fast --wal-method stream --pgdata /var/lib/barman/bench
    rm -rf /var/lib/barman/bench`;
  await succeed("docker", ["exec", barman, "bash", "-c", script]);
}

/** How much of a throughput is left. */
function share(figure: string, measured: number[], what: string, other: number[], atLeast: number): Row {
  const ratio = median(measured) / median(other);
  return {
    figure,
    measured: `${median(measured).toFixed(0)} transactions/s`,
    against: `${what}: ${median(other).toFixed(0)} transactions/s`,
    ratio,
    aim: `≥ ${atLeast}`,
    met: ratio >= atLeast,
  };
}
