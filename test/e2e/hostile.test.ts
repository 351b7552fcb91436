import { type ConnectionOptions, connect } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TenantStatus } from "../../cli/lib/tenant-status";
import { attacks } from "./support/attacks";
import { Checkout } from "./support/checkout";
import { ClientLoad } from "./support/client-load";
import { eventually, run, succeed } from "./support/command";
import { addressOf, inspect } from "./support/inside";

// One stack in which each tenant but three attacks, all at the same time, whoever asks its server.

const hostile = Object.keys(attacks);
const failing = hostile.filter((id) => attacks[id]?.says !== "nothing");

const tenants = (acme: string, others = "", more = "") => `
defaults: { memory: 128Mi, cpus: 0.5, settings: { max_connections: 20 } }
tenants:
  acme: { cpus: 1, settings: { work_mem: ${acme} } }
  globex: { cpus: 1 }
  umbrella: {}
${others}${hostile.map((id) => `  ${id}: {${[attacks[id]?.entry, more].filter(Boolean).join(", ")}}\n`).join("")}`;

/** Seconds: until a server has to be ready, an answer, and what goes round them; of the second pass the answer alone. */
const budget = 240;

let checkout: Checkout;
let neighbours: ClientLoad[];
let started: string[];

const starts = () =>
  Promise.all(["acme", "globex"].map(async (id) => (await inspect(checkout.name(id))).State.StartedAt));
const pgs = (...args: string[]) => {
  checkout.forgetOutputs();
  return run("./pgs", args, checkout.options());
};

beforeAll(async () => {
  checkout = await Checkout.create(tenants("4MB", "  initech: {}\n"));
  await checkout.up();
  started = await starts();
  const load = async (id: string) =>
    ClientLoad.start(await checkout.clientConfig(id), { sessions: 1, newcomers: 1 });
  neighbours = await Promise.all([load("acme"), load("globex")]);
  for (const id of hostile) {
    await attacks[id]?.run((database) => checkout.client(id, database));
  }
}, 600_000);
afterAll(async () => {
  await Promise.all(neighbours?.map((load) => load.stop()) ?? []);
  await checkout?.remove();
});

test(`an up changes and removes neighbours of ${hostile.length} tenants that attack it, and says which failed`, async () => {
  checkout.write("tenants.yaml", tenants("6MB"));
  const result = await pgs("up", "--yes");
  console.log(
    `hostile: up beside ${hostile.length} attackers took ${result.seconds.toFixed(1)} s\n${result.output}`,
  );
  expect(await checkout.query("acme", "SHOW work_mem")).toEqual([{ work_mem: "6MB" }]);
  await expect(inspect(checkout.name("initech"))).rejects.toThrow(/No such container/);
  const failed = [...result.output.matchAll(/^✗ (\S+)/gm)].map((match) => match[1]);
  expect(failed.toSorted()).toEqual(failing.toSorted());
  for (const id of failing) expect(`${id}: ${result.output}`).toMatch(attacks[id]?.says as RegExp);
  expect(result.code).toBe(1);
  expect(result.seconds).toBeLessThan(budget);
});

test.each([["list", "--usage"], ["doctor"], ["backups"]])(
  "%s %s tells of all in time, and shows nothing that steers a terminal",
  async (...args) => {
    const result = await pgs(...args);
    console.log(`hostile: ${args.join(" ")} took ${result.seconds.toFixed(1)} s\n${result.output}`);
    expect(result.output).toMatch(/acme/);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(result.output).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/);
    expect(result.output.length).toBeLessThan(20_000);
    expect(result.seconds).toBeLessThan(60);
  },
);

test("list has the figures of the neighbours", async () => {
  const { stdout } = await pgs("list", "--usage", "--json");
  const all: TenantStatus[] = JSON.parse(stdout);
  expect(all).toHaveLength(hostile.length + 3);
  expect(all.find(({ id }) => id === "acme")).toMatchObject({
    state: "running",
    connections: expect.any(Number),
  });
});

test("a stranger who does not log in holds what one address may for ten seconds, and another address gets in", async () => {
  const { port, ssl } = await checkout.clientConfig("umbrella");
  const silent = Array.from({ length: 60 }, () =>
    connect({ ...(ssl as ConnectionOptions), host: "127.0.0.1", port, ALPNProtocols: ["postgresql"] }),
  );
  for (const socket of silent) socket.on("error", () => {});
  const open = () => silent.filter((socket) => !socket.closed && !socket.connecting).length;
  // max_connections less five.
  await eventually(5, async () => expect(open()).toBe(15));
  const proxy = await addressOf(checkout.name("proxy"), checkout.name("proxy"));
  const conninfo = `host=umbrella.pgs.localhost hostaddr=${proxy} port=5432 user=postgres dbname=umbrella sslmode=require`;
  const { Image } = await inspect(checkout.name("umbrella"));
  const other = ["run", "--rm", "--network", checkout.name("proxy"), "--env", "PGPASSWORD", Image];
  const env = { ...process.env, PGPASSWORD: await checkout.password("umbrella") };
  expect(await succeed("docker", [...other, "psql", "-Atc", "SELECT 'in'", conninfo], { env })).toBe("in\n");
  await expect(checkout.query("umbrella", "SELECT 1")).rejects.toThrow();
  await eventually(12, async () => expect(open()).toBe(0));
  await checkout.query("umbrella", "SELECT 1");
});

test("each of them can be stopped, and nobody else noticed any of it", async () => {
  checkout.write("tenants.yaml", tenants("6MB", "", "state: stopped"));
  const result = await pgs("up", "--yes");
  expect(result.output).not.toMatch(/^✗/m);
  expect(result.code).toBe(0);
  for (const load of neighbours) await load.stop();
  expect(neighbours.flatMap(({ failures }) => failures)).toEqual([]);
  expect(await starts()).toEqual(started);
  console.log(`hostile: neighbours ${JSON.stringify(neighbours.map(({ counts }) => counts))}`);
});
