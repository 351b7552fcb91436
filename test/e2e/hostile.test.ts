import { type ConnectionOptions, connect } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TenantStatus } from "../../cli/lib/tenant-status";
import { attackerOf, attacks } from "./support/attacks";
import { Checkout } from "./support/checkout";
import { ClientLoad } from "./support/client-load";
import { eventually, succeed } from "./support/command";
import { addressOf, inContainer, inspect } from "./support/inside";

// One stack in which most tenants attack whoever asks their servers, each in another way and all at the same time.

const quick = Object.entries(attacks).filter(([, { slow }]) => !slow);
const hostile = quick.map(([id]) => id);
/** What is changed of the others by one `up`. */
const stopped = "rename";
const removed = "library";
const attacking = quick.filter(([id, { says }]) => says !== "nothing" && ![stopped, removed].includes(id));
const quiet = quick.filter(([, { says }]) => says === "nothing").map(([id]) => id);

const entry = (id: string, ...more: string[]) =>
  `  ${id}: { ${["cpus: 0.4", attacks[id]?.entry, ...more].filter(Boolean).join(", ")} }\n`;
const tenants = (workMem: string, others: string) => `
defaults: { memory: 128Mi, settings: { max_connections: 15, work_mem: ${workMem} } }
tenants:
  acme: { cpus: 1 }
  globex: { cpus: 1 }
  odd: { tls: passthrough, cpus: 0.4, maxConnectionsPerClient: 200 }
${others}`;
const before = tenants("4MB", `  umbrella: {}\n${hostile.map((id) => entry(id)).join("")}`);
const after = tenants(
  "6MB",
  hostile
    .filter((id) => id !== removed)
    .map((id) => entry(id, ...(id === stopped ? ["state: stopped"] : [])))
    .join(""),
);

/** Seconds that a server has to get ready, to answer, and what goes round them. */
const budget = 240;

let checkout: Checkout;
let neighbours: ClientLoad[];
let started: string[];

const starts = () =>
  Promise.all(["acme", "globex"].map(async (id) => (await inspect(checkout.name(id))).State.StartedAt));
const pgs = (...args: string[]) => checkout.pgs(args);
/** Their clients are at work, and none has noticed anything. */
async function neighboursGoOn(): Promise<void> {
  for (const { counts } of neighbours) {
    const { queries, connections } = counts;
    await eventually(60, async () => {
      expect(counts.queries).toBeGreaterThan(queries);
      expect(counts.connections).toBeGreaterThan(connections);
    });
  }
  expect(neighbours.flatMap(({ failures }) => failures)).toEqual([]);
  expect(await starts()).toEqual(started);
}

beforeAll(async () => {
  checkout = await Checkout.create(before);
  // Some of these servers never answer.
  checkout.loginSeconds = 6;
  await checkout.up();
  started = await starts();
  const load = async (id: string) =>
    ClientLoad.start(await checkout.clientConfig(id), { sessions: 2, newcomers: 1 });
  neighbours = await Promise.all([load("acme"), load("globex")]);
  await Promise.all(quick.map(([id, attack]) => attack.run(attackerOf(checkout, id))));
});
afterAll(async () => {
  await Promise.all(neighbours?.map((load) => load.stop()) ?? []);
  await checkout?.remove();
});

test("a stranger who does not log in holds what one address may for ten seconds, and another address gets in", async () => {
  const { port, ssl } = await checkout.clientConfig("umbrella");
  const proxy = await addressOf(checkout.name("proxy"), checkout.name("proxy"));
  const conninfo = `host=umbrella.pgs.localhost hostaddr=${proxy} port=5432 user=postgres dbname=umbrella sslmode=require`;
  const env = { ...process.env, PGPASSWORD: await checkout.password("umbrella") };
  const { Image } = await inspect(checkout.name("umbrella"));
  const stranger = checkout.name("stranger");
  await succeed("docker", [
    ...["run", "--detach", "--name", stranger, "--network", checkout.name("proxy")],
    ...["--entrypoint", "sleep", Image, "600"],
  ]);
  const silent = Array.from({ length: 40 }, () =>
    connect({ ...(ssl as ConnectionOptions), host: "127.0.0.1", port, ALPNProtocols: ["postgresql"] }),
  );
  for (const socket of silent) socket.on("error", () => {});
  const open = () => silent.filter((socket) => !socket.closed && !socket.connecting).length;
  // max_connections less five.
  await eventually(8, async () => expect(open()).toBe(10));
  // While they are held: at once, since that is for ten seconds.
  const other = ["exec", "--env", "PGPASSWORD", stranger, "psql", "-Atc", "SELECT 'in'", conninfo];
  await Promise.all([
    expect(checkout.query("umbrella", "SELECT 1")).rejects.toThrow(),
    expect(succeed("docker", other, { env })).resolves.toBe("in\n"),
  ]);
  await eventually(15, async () => expect(open()).toBe(0));
  await checkout.query("umbrella", "SELECT 1");
  await succeed("docker", ["rm", "--force", "--volumes", stranger]);
});

test("preview, doctor and list tell of all in time, and show nothing that steers a terminal", async () => {
  const [preview, doctor, list] = await Promise.all([
    pgs("preview"),
    pgs("doctor"),
    pgs("list", "--usage", "--json"),
  ]);
  for (const { output, seconds } of [preview, doctor, list]) {
    console.log(`hostile: ${seconds.toFixed(1)} s\n${output}`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(output).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/);
    expect(output.length).toBeLessThan(20_000);
    expect(seconds).toBeLessThan(150);
  }
  // Whatever cannot be asked is said to change.
  for (const [id] of attacking) expect(preview.output).toMatch(new RegExp(`^✓ ${id} +change`, "m"));
  for (const id of ["acme", "globex", "umbrella"]) {
    expect(preview.output).not.toMatch(new RegExp(`^. ${id}\\b`, "m"));
    expect(doctor.output).not.toMatch(new RegExp(`^✗.* ${id}: `, "m"));
  }
  for (const id of ["verifier", "connections", "settings", "trigger"]) {
    expect(doctor.output).toMatch(new RegExp(`^✗ login +${id}: `, "m"));
  }
  const all: TenantStatus[] = JSON.parse(list.stdout);
  expect(all).toHaveLength(hostile.length + 4);
  const figures = { state: "running", size: expect.any(Number), connections: expect.any(Number) };
  for (const id of ["acme", "globex", "umbrella", "connections", "databases", "trigger", "settings"]) {
    expect(all.find((tenant) => tenant.id === id)).toMatchObject(figures);
  }
  expect(all.find(({ id }) => id === "forks")).toMatchObject({ state: "silent", size: null });
  await neighboursGoOn();
});

test(`an up changes all but the ${attacking.length} that keep it out, stops one, removes two, and says why the others failed`, async () => {
  checkout.write("tenants.yaml", after);
  const { output, code, seconds } = await pgs("up", "--yes");
  console.log(`hostile: up beside ${hostile.length} attackers took ${seconds.toFixed(1)} s\n${output}`);
  const lines = (mark: string) =>
    [...output.matchAll(new RegExp(`^${mark} (\\S+)`, "gm"))].map(([, id]) => id);
  const lost = attacking.filter(([id, { race }]) => race && lines("✓").includes(id));
  const failing = attacking.filter((attack) => !lost.includes(attack));
  expect(lines("✗").toSorted()).toEqual(failing.map(([id]) => id).toSorted());
  for (const [id, { says }] of failing) {
    const error = output.split("\n").find((line) => line.includes(`${checkout.name(id)}: `));
    expect(error, id).toMatch(says as RegExp);
  }
  expect(code).not.toBe(0);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  expect(output).not.toMatch(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/);

  const changed = ["acme", "globex", "odd", ...quiet, ...lost.map(([id]) => id)];
  expect(lines("✓").toSorted()).toEqual([...changed, "umbrella", stopped, removed].toSorted());
  for (const id of changed) {
    expect(await inContainer(checkout, id, 'cat "$PGDATA/postgresql.auto.conf"'), id).toContain("'6MB'");
  }
  for (const id of ["umbrella", stopped, removed]) {
    await expect(inspect(checkout.name(id))).rejects.toThrow(/No such container/);
  }
  await checkout.query("verifier", "SELECT 1");
  expect(seconds).toBeLessThan(budget);
  await neighboursGoOn();
});

/** Listens at the tenant's address in its network, and writes how many connections it got. Argument: what it does with each. */
const listener = `
  use IO::Socket::INET;
  setpgrp;
  open my $own, '>', '/tmp/listener'; print $own $$; close $own;
  $SIG{CHLD} = 'IGNORE';
  $SIG{PIPE} = 'IGNORE';
  chomp(my $address = \`hostname -i\`);
  my $listener = IO::Socket::INET->new(LocalAddr => $address, LocalPort => 5432, Listen => 128, ReuseAddr => 1)
    or die "cannot listen: $!";
  my ($what, $count) = ($ARGV[0], 0);
  while (my $client = $listener->accept) {
    open my $note, '>', '/tmp/count'; print $note ++$count; close $note;
    if ($what ne 'closes' && !fork) {
      close $listener;
      if ($what eq 'floods') { 1 while syswrite $client, 'x' x 65536 }
      else { sleep 20 }
      exit;
    }
    close $client;
  }`;

test("a server behind passthrough that speaks no PostgreSQL costs neither proxy nor neighbours anything", async () => {
  const odd = checkout.name("odd");
  await checkout.query("odd", "SELECT 1");
  await checkout.query("odd", "ALTER SYSTEM SET port = 5433");
  const { State } = await inspect(odd);
  await inContainer(checkout, "odd", "kill -INT 1");
  await eventually(90, async () => {
    expect((await inspect(odd)).State.StartedAt).not.toBe(State.StartedAt);
    await succeed("docker", ["exec", odd, "pg_isready", "-p", "5433"]);
  });
  const proxy = await inspect(checkout.name("proxy"));
  for (const what of ["closes", "floods", "is silent"]) {
    await succeed("docker", ["exec", "--detach", odd, "perl", "-e", listener, what]);
    await eventually(60, async () => {
      expect(await inContainer(checkout, "odd", "grep -c ':1538 .* 0A ' /proc/net/tcp")).toBe("1\n");
    });
    const until = performance.now() + 5000;
    let refused = 0;
    const knock = async () => {
      while (performance.now() < until) {
        await expect(checkout.client("odd")).rejects.toThrow();
        refused++;
      }
    };
    await Promise.all(Array.from({ length: 20 }, knock));
    const count = await inContainer(checkout, "odd", "cat /tmp/count; kill -- -$(cat /tmp/listener)");
    console.log(`hostile: a server that ${what} got ${count} connections, ${refused} clients were refused`);
    expect(Number(count)).toBeGreaterThanOrEqual(20);
    await neighboursGoOn();
  }
  expect((await inspect(checkout.name("proxy"))).State).toMatchObject({
    StartedAt: proxy.State.StartedAt,
    OOMKilled: false,
  });
  console.log(`hostile: neighbours ${JSON.stringify(neighbours.map(({ counts }) => counts))}`);
});
