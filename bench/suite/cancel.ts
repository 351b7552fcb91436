import { randomBytes } from "node:crypto";
import { connect } from "node:net";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { stringify } from "yaml";
import { cancelAddress } from "../../components/docker/cancel-requests";
import { dockerClient } from "../../docker/client";
import { writeFile } from "../../provider/traefik-file";
import { Checkout } from "../../test/e2e/support/checkout";
import { succeed } from "../../test/e2e/support/command";
import { conninfo, interrupt, psql } from "../../test/e2e/support/psql";
import { ids, logIn, median, processorTime, tenantsFile } from "../support";
import type { Row } from "./row";

/** Servers; further hostnames lead to them as well, since a cancel request costs the same for each hostname. */
const servers = 10;

/** Requests of each kind. The service lets a client have some at once, and then so many servers a second. */
const times = 5;
const serversPerSecond = 10 * cpus().length;

/**
 * Seconds of each run of pgbench, how many there are with the flood and without, packets a second meanwhile, and
 * seconds until the service has dealt with those that it takes at once.
 */
const duration = 13;
const runs = 3;
const flood = 300;
const atOnce = 30;

/** What Ctrl-C takes when the request goes to 1, 50 and 200 hostnames, and what forged requests cost a neighbour. */
export async function cancels(): Promise<Row[]> {
  const checkout = await Checkout.create(tenantsFile(ids(1)));
  try {
    await checkout.up();
    const rows = [await untilError(checkout, 1, 0.1)];
    await checkout.apply(tenantsFile(ids(servers)));
    await logIn(checkout, ids(servers));
    await addRoutes(checkout, servers, 50);
    rows.push(await untilError(checkout, 50, 0.2));
    await addRoutes(checkout, 50, 200);
    rows.push(await untilError(checkout, 200, 0.5));
    rows.push(await processorTimeOf(checkout, 200));
    rows.push(...(await whileFlooded(checkout, 200)));
    return rows;
  } finally {
    await checkout.remove();
  }
}

/** Routes as tenants have them. */
async function addRoutes(checkout: Checkout, from: number, to: number): Promise<void> {
  const container = checkout.name("proxy");
  await Promise.all(
    ids(to - from, from).map((id, index) => {
      const address = `${checkout.name(`t${index % servers}`)}:5432`;
      const router = {
        entryPoints: ["postgres"],
        rule: `HostSNI(\`${id}.pgs.localhost\`)`,
        service: id,
        tls: {},
      };
      const cancel = {
        entryPoints: ["cancel"],
        rule: `HostSNI(\`*\`) && ClientIP(\`${cancelAddress(`${id}.pgs.localhost`)}\`)`,
        service: id,
      };
      const content = stringify({
        tcp: {
          routers: { [id]: router, [`${id}--cancel`]: cancel },
          services: { [id]: { loadBalancer: { servers: [{ address }] } } },
        },
      });
      return writeFile({ container, path: `/etc/traefik/dynamic/route-${id}.yml`, content }, 0o644);
    }),
  );
  await delay(1000);
}

async function untilError(checkout: Checkout, hosts: number, aim: number): Promise<Row> {
  const seconds: number[] = [];
  for (let index = 0; index < times; index++) {
    await delay((hosts / serversPerSecond) * 1000);
    const ended = await interrupt(checkout, psql[18], "t0");
    if (!ended.output.includes("canceling statement")) throw new Error(ended.output);
    seconds.push(ended.seconds);
  }
  return {
    figure: `Ctrl-C in psql until it has the error, ${hosts} ${hosts === 1 ? "tenant" : "hostnames"} (median of ${times})`,
    measured: `${median(seconds).toFixed(3)} s`,
    against: `the slowest: ${Math.max(...seconds).toFixed(3)} s`,
    aim: `≤ ${aim} s`,
    met: median(seconds) <= aim,
  };
}

/** Of proxy, service and servers together. */
async function processorTimeOf(checkout: Checkout, hosts: number): Promise<Row> {
  const of = async (names: string[]) => {
    const spent = names.map((name) =>
      processorTime(dockerClient(undefined).getContainer(checkout.name(name))),
    );
    return (await Promise.all(spent)).reduce((sum, one) => sum + one, 0);
  };
  const groups = [["-cancel"], ["proxy"], ids(servers)];
  const idle = await differences(groups, of, times * (hosts / serversPerSecond), () => Promise.resolve());
  const busy = await differences(groups, of, 0, async () => {
    for (let index = 0; index < times; index++) {
      await delay((hosts / serversPerSecond) * 1000);
      await sendForged(checkout.port);
    }
  });
  const each = busy.map((one, index) => Math.max(0, one - (idle[index] ?? 0)) / times);
  const [service = 0, proxy = 0, server = 0] = each.map((one) => one * 1000);
  return {
    figure: `processor time of one cancel request, ${hosts} hostnames (mean of ${times})`,
    measured: `${(service + proxy + server).toFixed(0)} ms`,
    against: `of it the service ${service.toFixed(0)}, the proxy ${proxy.toFixed(0)}, the servers ${server.toFixed(0)} ms`,
    aim: "for comparison",
  };
}

async function differences(
  groups: string[][],
  of: (names: string[]) => Promise<number>,
  seconds: number,
  work: () => Promise<unknown>,
): Promise<number[]> {
  const before = await Promise.all(groups.map(of));
  await delay(seconds * 1000);
  await work();
  const after = await Promise.all(groups.map(of));
  return after.map((one, index) => one - (before[index] ?? 0));
}

/** A cancel request with a key that nobody has; resolves when the service closes. */
function sendForged(port: number): Promise<void> {
  const packet = Buffer.alloc(16);
  packet.writeInt32BE(16, 0);
  packet.writeInt32BE(80877102, 4);
  randomBytes(8).copy(packet, 8);
  return send(port, packet);
}

/** What the proxy answers by itself: a stranger can send it to any server. */
function askForTls(port: number): Promise<void> {
  const packet = Buffer.alloc(8);
  packet.writeInt32BE(8, 0);
  packet.writeInt32BE(80877103, 4);
  return send(port, packet);
}

/** Resolves when the connection is closed, at the latest by this end after the first answer. */
function send(port: number, packet: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(packet));
    socket.on("error", () => {});
    socket.on("close", () => resolve());
    socket.on("data", () => socket.destroy());
  });
}

/** pgbench with a flood and without, in turns. The flood's sender takes its part of the same machine. */
async function whileFlooded(checkout: Checkout, hosts: number): Promise<Row[]> {
  const env = { ...process.env, PGPASSWORD: await checkout.password("t1") };
  const pgbench = async (...options: string[]) => {
    const program = join(dirname(psql[18]), "pgbench");
    const output = await succeed(program, [...options, conninfo(checkout, "t1")], { env });
    return Number(/^tps = ([\d.]+)/m.exec(output)?.[1] ?? 0);
  };
  await pgbench("--initialize", "--scale", "5", "--quiet");
  const select = ["--select-only", "--protocol", "prepared", "--client", "4", "--time", String(duration)];
  const flooded = async (packet: typeof sendForged, first: number) => {
    const endFlood = startFlood(() => packet(checkout.port));
    await delay(first * 1000);
    const queries = await pgbench(...select);
    await endFlood();
    await delay(1000);
    return queries;
  };
  const [quiet, forged, others]: [number[], number[], number[]] = [[], [], []];
  for (let index = 0; index < runs; index++) {
    quiet.push(await pgbench(...select));
    forged.push(await flooded(sendForged, atOnce));
    others.push(await flooded(askForTls, 1));
  }
  const [without, during, other] = [median(quiet), median(forged), median(others)];
  const figure = `pgbench -S -M prepared, 4 clients, while ${flood} forged cancel requests a second arrive, ${hosts} hostnames`;
  const measured = `${during.toFixed(0)} queries/s`;
  return [
    {
      figure,
      measured,
      against: `while as many ask the proxy for TLS: ${other.toFixed(0)} queries/s`,
      ratio: during / other,
      aim: "≥ 0.9",
      met: during / other >= 0.9,
    },
    {
      figure: "the same",
      measured,
      against: `without any flood: ${without.toFixed(0)} queries/s`,
      ratio: during / without,
      aim: "for comparison",
    },
  ];
}

/** @returns what ends it */
function startFlood(packet: () => Promise<void>): () => Promise<void> {
  let going = true;
  const sending = (async () => {
    while (going) {
      for (let index = 0; index < flood / 50; index++) void packet();
      await delay(20);
    }
  })();
  return async () => {
    going = false;
    await sending;
  };
}
