import { Client, type ClientConfig } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { Checkout } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";

const ids = ["acme", "globex", "hooli", "initech"];

let checkout: Checkout;
beforeAll(async () => {
  checkout = await Checkout.create(tenantsFile("running"));
  await checkout.up();
});
afterAll(() => checkout?.remove());

describe("a tenant that is stopped", () => {
  let password: string;
  let config: ClientConfig;
  let container: string;

  beforeAll(async () => {
    await checkout.query("acme", "CREATE TABLE kept AS SELECT 42 AS answer");
    password = await checkout.password("acme");
    config = await checkout.clientConfig("acme");
    container = await succeed("docker", ["inspect", "--format", "{{.Id}}", checkout.name("acme")]);
    await checkout.apply(tenantsFile("stopped", ["acme"]));
  });

  test("has no container and no route", async () => {
    expect(await names("container", "-a")).not.toContain(checkout.name("acme"));
    const routes = ["exec", checkout.name("proxy"), "sh", "-c", "cat /etc/traefik/dynamic/*.yml"];
    expect(await succeed("docker", routes)).not.toContain("HostSNI(`acme.");
    await expect(new Client(config).connect()).rejects.toThrow();
  });

  test("keeps its volume, its network and its password", async () => {
    expect(await names("volume")).toContain(checkout.name("acme"));
    expect(await names("network")).toContain(checkout.name("acme"));
    expect(await checkout.password("acme")).toBe(password);
    expect((await checkout.tenants()).acme?.state).toBe("stopped");
  });

  test("leaves the others as they are, and a second up nothing to do", async () => {
    expect(await checkout.query("globex", "SELECT 1 AS one")).toEqual([{ one: 1 }]);
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  test("is back with its data and the same password when it is set to running", async () => {
    await checkout.apply(tenantsFile("running"));
    expect(await succeed("docker", ["inspect", "--format", "{{.Id}}", checkout.name("acme")])).not.toBe(
      container,
    );
    const client = new Client(config);
    await client.connect();
    expect((await client.query("SELECT answer FROM kept")).rows).toEqual([{ answer: 42 }]);
    await client.end();
  });

  test("has no setting any more that was taken out meanwhile", async () => {
    const withSetting = (state: string, settings: object) =>
      tenantsFile("running")
        .replace("acme:", `acme:\n    settings: ${JSON.stringify(settings)}`)
        .replace("state: running", `state: ${state}`);
    await checkout.apply(withSetting("running", { work_mem: "7MB" }));
    expect(await checkout.query("acme", "SHOW work_mem")).toEqual([{ work_mem: "7MB" }]);
    await checkout.apply(withSetting("stopped", {}));
    await checkout.apply(withSetting("running", {}));
    expect(await checkout.query("acme", "SHOW work_mem")).not.toEqual([{ work_mem: "7MB" }]);
  });
});

/** Commits rows one by one until its session is cut. */
class Writer {
  readonly committed: number[] = [];
  private constructor(
    private readonly client: Client,
    readonly cut: Promise<void>,
  ) {}

  static async start(id: string, first: number): Promise<Writer> {
    const client = await checkout.client(id);
    let ended = () => {};
    const writer = new Writer(
      client,
      new Promise((resolve) => {
        ended = resolve;
      }),
    );
    void writer.write(first).then(ended);
    return writer;
  }

  private async write(first: number): Promise<void> {
    try {
      for (let n = first; ; n++) {
        await this.client.query("INSERT INTO written VALUES ($1, repeat('x', 500))", [n]);
        this.committed.push(n);
      }
    } catch {
      await this.client.end().catch(() => {});
    }
  }
}

test("20 stops under write load are clean: no recovery at the next start, no committed row missing", async () => {
  // Many at once: an `up` for each stop would take longer, and load the host less.
  for (let n = ids.length; n < 10; n++) ids.push(`t${n}`);
  const [rounds, writersEach] = [2, 2];
  await checkout.apply(tenantsFile("running"));
  const million = 1_000_000;
  const committed: Record<string, number[]> = {};
  const figures = { stops: 0, rows: 0, recoveries: 0, missing: 0 };
  for (const id of ids) {
    await checkout.query(id, "CREATE TABLE written (n int PRIMARY KEY, filler text)");
    committed[id] = [];
  }
  const broken: string[] = [];
  for (let round = 0; round < rounds; round++) {
    const writers: [string, Writer][] = [];
    for (const id of ids) {
      for (let writer = 0; writer < writersEach; writer++) {
        const first = (round * writersEach + writer) * million;
        writers.push([id, await Writer.start(id, first)]);
      }
    }
    await eventually(120, async () => {
      for (const [, { committed: rows }] of writers) expect(rows.length).toBeGreaterThan(20);
    });

    const atFirst = writers.map(([, { committed: rows }]) => rows.length);
    await checkout.apply(tenantsFile("stopped"));
    await Promise.all(writers.map(([, { cut }]) => cut));
    writers.forEach(([id, { committed: rows }], index) => {
      // It went on writing during the `up`, until its server stopped.
      expect(rows.length).toBeGreaterThan(atFirst[index] ?? 0);
      committed[id]?.push(...rows);
    });

    await checkout.apply(tenantsFile("running"));
    for (const id of ids) {
      figures.stops++;
      const log = (await run("docker", ["logs", checkout.name(id)])).output;
      expect(log).toContain("database system is ready to accept connections");
      if (!/database system was shut down at/.test(log) || /recovery|not properly|redo/i.test(log)) {
        figures.recoveries++;
        broken.push(`${id}, round ${round}:\n${log}`);
      }
    }
  }
  for (const id of ids) {
    const rows = await checkout.query(id, "SELECT n FROM written");
    const present = new Set(rows.map(({ n }) => n));
    figures.rows += committed[id]?.length ?? 0;
    figures.missing += committed[id]?.filter((n) => !present.has(n)).length ?? 0;
  }
  console.log(
    `stop-start: ${figures.stops} stops under write load, ${figures.recoveries} with a recovery at the next start; ` +
      `${figures.rows} rows committed, ${figures.missing} missing`,
  );
  expect(broken).toEqual([]);
  expect(figures.missing).toBe(0);
  expect(figures.stops).toBeGreaterThanOrEqual(20);
});

/** `state` holds for `some`; the others run. */
function tenantsFile(state: string, some: string[] = ids): string {
  const tenants = Object.fromEntries(ids.map((id) => [id, some.includes(id) ? { state } : {}]));
  return stringify({ defaults: { memory: "128Mi" }, tenants });
}

async function names(kind: string, ...args: string[]): Promise<string[]> {
  const format = kind === "container" ? "{{.Names}}" : "{{.Name}}";
  return (await succeed("docker", [kind, "ls", ...args, "--format", format])).split("\n");
}
