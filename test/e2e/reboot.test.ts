import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { Checkout, connect, rowsOf } from "./support/checkout";
import { eventually } from "./support/command";
import { OwnEngine } from "./support/own-engine";
import { RunningUp } from "./support/running";

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log("reboot: left out, since an engine of the test's own needs root");

const images: Record<string, string> = parse(readFileSync(join(__dirname, "../../Pulumi.yaml"), "utf8"))
  .config.images.default;

const tenants = (...ids: string[]) =>
  `defaults: { memory: 256Mi }\ntenants:\n${ids.map((id) => `  ${id}: { init: [init/row.sql] }`).join("\n")}\n  asleep: { state: stopped }\n`;

describe.runIf(isRoot)("in an engine of its own", () => {
  const first = ["acme", "globex", "initech"];
  let engine: OwnEngine;
  let checkout: Checkout;
  beforeAll(async () => {
    const watchers = ["prometheus", "exporter", "alertmanager", "grafana"];
    const used = Object.keys(images).filter((key) => !watchers.includes(key));
    engine = await OwnEngine.create(used.map((key) => images[key] ?? ""));
    const ofIpv6 = `  sixth: { memory: 128Mi, allow: ["${engine.ipv6.host}"] }\n`;
    checkout = await Checkout.create(`${tenants(...first)}${ofIpv6}`);
    checkout.env.DOCKER_HOST = engine.host;
    await checkout.pulumi("config", "set", "ipv6Subnet", "fd5c:232:1:1::/64");
    checkout.write("init/row.sql", "CREATE TABLE t AS SELECT 0 AS i;");
    await checkout.up();
  });
  afterAll(async () => {
    await checkout?.remove();
    await engine?.remove();
  });

  test("a prune with the filter that the docs have spares the data of a tenant without a container", async () => {
    const page = readFileSync(join(__dirname, "../../docs/lifecycle.md"), "utf8");
    const commands = [...page.matchAll(/^docker ((?:system|volume) prune .*)$/gm)].map(
      ([, args = ""]) => args,
    );
    expect(commands).toHaveLength(2);
    await engine.docker("volume", "create", "of-others");
    for (const args of commands) await engine.docker(...args.replaceAll("'", "").split(" "), "--force");
    const volumes = (await engine.docker("volume", "ls", "--format", "{{.Name}}")).split("\n");
    expect(volumes).toContain(checkout.name("asleep"));
    expect(volumes).not.toContain("of-others");
  });

  test("a client of IPv6 comes in by its own address, and one of IPv4 is refused where none is allowed", async () => {
    const client = await connectTo("sixth", engine.ipv6.address);
    expect((await client.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    await client.end();
    await expect(connectTo("sixth")).rejects.toThrow();
    await (await connectTo("acme", engine.ipv6.address)).end();
  });

  async function connectTo(id: string, host = engine.address): Promise<Client> {
    return connect({ ...(await checkout.clientConfig(id)), host });
  }

  async function query(id: string, sql: string): Promise<Record<string, unknown>[]> {
    return rowsOf({ ...(await checkout.clientConfig(id)), host: engine.address }, sql);
  }

  /** Seconds until every tenant has answered over the public port. */
  async function allBack(ids: string[]): Promise<number> {
    const started = performance.now();
    for (const id of ids) {
      await eventually(120, async () => {
        expect(await query(id, "SELECT count(*)::int AS n FROM t WHERE i = 0")).toEqual([{ n: 1 }]);
      });
    }
    return (performance.now() - started) / 1000;
  }

  /** Commits rows one after another until its server goes. @returns the last one that was committed */
  async function writer(id: string): Promise<{ last: () => number; ended: Promise<void> }> {
    const client = await connectTo(id);
    let last = Number((await client.query("SELECT max(i) AS i FROM t")).rows[0].i);
    const ended = (async () => {
      try {
        for (;;) {
          await client.query("INSERT INTO t VALUES ($1)", [last + 1]);
          last++;
        }
      } catch {
        await client.end().catch(() => {});
      }
    })();
    return { last: () => last, ended };
  }

  async function expectRowsUpTo(id: string, last: number): Promise<void> {
    const [row] = await query(id, "SELECT count(*)::int AS n, max(i) AS last FROM t");
    expect(Number(row?.last)).toBeGreaterThanOrEqual(last);
    expect(row?.n).toBe(Number(row?.last) + 1);
  }

  test.each([
    ["shut down", () => engine.stop()],
    ["cut off from power", () => engine.cutPower()],
  ])(
    "after the host was %s and came back, all tenants answer without pulumi, with every committed row",
    async (how, sabotage) => {
      const writing = await writer("acme");
      await eventually(60, async () => expect(writing.last()).toBeGreaterThan(100));
      await sabotage();
      await writing.ended;
      await expect(query("acme", "SELECT 1")).rejects.toThrow();
      await engine.start();
      const seconds = await allBack(first);
      console.log(
        `reboot: ${how}: ${first.length} tenants answer ${seconds.toFixed(1)} s after the engine does; ${writing.last()} rows committed, none missing`,
      );
      await expectRowsUpTo("acme", writing.last());
      expect(await engine.docker("ps", "--all", "--format", "{{.Names}}")).not.toContain(
        checkout.name("asleep"),
      );
      await checkout.pulumi("preview", "--expect-no-changes");
    },
  );

  test.each([
    ["a network", "hooli", /pgs:index:PostgresServer hooli creating/],
    ["a server", "umbrella", /pgs:index:PostgresServer umbrella creating/],
    ["a database", "stark", /pgs:index:PostgresServer stark creating/],
  ])("an engine that is killed while an up makes %s: the next up converges", async (what, id, moment) => {
    first.push(id);
    checkout.write("tenants.yaml", tenants(...first));
    const writing = await writer("acme");
    const up = new RunningUp(checkout);
    await up.says(moment);
    if (what === "a network") {
      await eventually(60, () => engine.docker("network", "inspect", checkout.name(id)));
    }
    if (what === "a database") {
      await eventually(60, () => engine.docker("exec", checkout.name(id), "pg_isready", "-q", "-t", "0"));
    }
    await engine.kill();
    const cutOff = await up.ended;
    expect(cutOff.code).not.toBe(0);
    await engine.start();
    await writing.ended;
    const next = await checkout.tryUp();
    expect(next.output).not.toMatch(/error:/);
    expect(next.code).toBe(0);
    await allBack(first);
    await expectRowsUpTo("acme", writing.last());
    await checkout.pulumi("preview", "--expect-no-changes");
    console.log(
      `reboot: engine killed while an up made ${what}: the next up took ${next.seconds.toFixed(1)} s; ${writing.last()} rows committed, none missing`,
    );
  });
});
