import { spawn } from "node:child_process";
import { attackerOf, attacks } from "../test/e2e/support/attacks";
import { Checkout } from "../test/e2e/support/checkout";
import { ClientLoad } from "../test/e2e/support/client-load";
import { run } from "../test/e2e/support/command";
import { ids, machine, median, tenantsFile } from "./support";

const chosen = process.argv.length > 2 ? process.argv.slice(2) : [...Object.keys(attacks), "handshakes"];
const neighbours = ids(9);
const tries = 3;

let edits = 0;

/** tenants.yaml with one more edit of t0. */
function edited(attackers: string[]): string {
  edits++;
  const entries = attackers.map((id) => [id, `cpus: 0.5, onRemove: delete, ${attacks[id]?.entry ?? ""}`]);
  // First, where all others have to wait for it.
  return tenantsFile([...attackers, ...neighbours], {
    t0: `settings: { work_mem: ${1024 + edits}kB }`,
    ...Object.fromEntries(entries),
  });
}

/** Seconds of a whole `up` that edits t0, and until the edit is in force. */
async function timedUp(checkout: Checkout, attackers: string[]): Promise<{ up: number; inForce: number }> {
  checkout.write("tenants.yaml", edited(attackers));
  const wanted = `${1024 + edits}kB`;
  const session = await checkout.client("t0");
  const started = performance.now();
  let ended = false;
  const up = run("./pgs", ["up", "--yes"], checkout.options()).finally(() => {
    ended = true;
  });
  let inForce = Number.NaN;
  while (!ended && Number.isNaN(inForce)) {
    const { rows } = await session.query("SHOW work_mem");
    if (rows[0].work_mem === wanted) inForce = (performance.now() - started) / 1000;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await session.end();
  return { up: (await up).seconds, inForce };
}

const failuresOf = ({ failures, counts }: ClientLoad) =>
  `${failures.length} of ${counts.queries + counts.connections}`;

/** A neighbour's clients at work for 20 s. */
async function measured(checkout: Checkout): Promise<ClientLoad> {
  const load = await ClientLoad.start(await checkout.clientConfig("t1"), { sessions: 4, newcomers: 1 });
  await new Promise((resolve) => setTimeout(resolve, 20_000));
  await load.stop();
  return load;
}

/** What a stranger's TLS handshakes, 32 at a time, leave a neighbour, with the flood's own work on the same machine. */
async function handshakes(checkout: Checkout): Promise<string> {
  const { port, ssl } = await checkout.clientConfig("t2");
  const before = await measured(checkout);
  const code = `const tls = require("tls"); const options = JSON.parse(process.argv[1]); let count = 0;
    const again = () => { const socket = tls.connect(options, () => { count++; socket.destroy(); });
      socket.on("error", () => {}); socket.on("close", again); };
    for (let lane = 0; lane < 32; lane++) again();
    process.on("SIGTERM", () => { console.log(count); process.exit(); });`;
  const options = { ...(ssl as object), host: "127.0.0.1", port, ALPNProtocols: ["postgresql"] };
  const flood = spawn(process.execPath, ["-e", code, JSON.stringify(options)]);
  let counted = "";
  flood.stdout.on("data", (chunk) => {
    counted += chunk;
  });
  const during = await measured(checkout).finally(() => flood.kill());
  await new Promise((resolve) => flood.on("close", resolve));
  const share = (figure: "queries" | "connections") =>
    `${Math.round((100 * during.counts[figure]) / before.counts[figure])} %`;
  return (
    `${Math.round(Number(counted) / 20)} TLS handshakes a second of a stranger, 32 at a time: a neighbour keeps ` +
    `${share("queries")} of its queries and ${share("connections")} of its logins; failures: ${failuresOf(during)}`
  );
}

async function main(): Promise<void> {
  const checkout = await Checkout.create(edited([]));
  const rows: string[][] = [];
  let flood = "";
  try {
    await checkout.up();
    if (chosen.includes("handshakes")) {
      flood = await handshakes(checkout);
      console.error(flood);
    }
    for (const id of chosen.filter((id) => id !== "handshakes")) {
      const attack = attacks[id];
      if (!attack) throw new Error(`there is no attack ${id}: ${Object.keys(attacks).join(", ")}`);
      // The last attacker goes with its data, and another comes.
      await checkout.apply(edited([id]));
      if (rows.length === 0) {
        const well = [];
        for (let index = 0; index < tries; index++) well.push(await timedUp(checkout, [id]));
        const up = median(well.map((one) => one.up));
        rows.push(["none", up.toFixed(1), "1", median(well.map((one) => one.inForce)).toFixed(1), "1", ""]);
      }
      const load = await ClientLoad.start(await checkout.clientConfig("t1"), { sessions: 4, newcomers: 1 });
      await attack.run(attackerOf(checkout, id));
      const { up, inForce } = await timedUp(checkout, [id]);
      await load.stop();
      const ratio = (seconds: number, column: number) => (seconds / Number(rows[0]?.[column])).toFixed(2);
      const figures = [up.toFixed(1), ratio(up, 1), inForce.toFixed(1), ratio(inForce, 3)];
      rows.push([attack.name, ...figures, failuresOf(load)]);
      console.error(rows.at(-1)?.join("  "));
      // How long it takes to stop is not measured.
      await run("docker", ["kill", checkout.name(id)]);
    }
  } finally {
    await checkout.remove();
    console.log(`${await machine()}\n`);
    console.log("| attack | up, s | ratio | edit in force, s | ratio | neighbours' failures |");
    console.log("|---|---|---|---|---|---|");
    for (const row of rows) console.log(`| ${row.join(" | ")} |`);
    console.log(`\n${flood}`);
  }
}

void main();
