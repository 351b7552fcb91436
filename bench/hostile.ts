import { spawn } from "node:child_process";
import { attacks } from "../test/e2e/support/attacks";
import { Checkout } from "../test/e2e/support/checkout";
import { ClientLoad } from "../test/e2e/support/client-load";
import { run } from "../test/e2e/support/command";
import { ids, machine, median, tenantsFile } from "./support";

const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(attacks);
const neighbours = ids(9);
const tries = 3;

let edits = 0;

/** tenants.yaml with one more edit of t0. */
function edited(attacker: string[]): string {
  edits++;
  return tenantsFile([...neighbours, ...attacker], {
    t0: `settings: { work_mem: ${1024 + edits}kB }`,
    mallory: "cpus: 0.5, onRemove: delete, settings: { max_connections: 20 }",
  });
}

/** Seconds of a whole `up` that edits t0, and until the edit is in force. */
async function timedUp(checkout: Checkout, attacker: string[]): Promise<{ up: number; inForce: number }> {
  checkout.write("tenants.yaml", edited(attacker));
  const session = await checkout.client("t0");
  const started = performance.now();
  const since = () => (performance.now() - started) / 1000;
  let done = false;
  const up = run("./pgs", ["up", "--yes"], checkout.options()).finally(() => {
    done = true;
  });
  const wanted = `${1024 + edits}kB`;
  let inForce = Number.NaN;
  while (!done && Number.isNaN(inForce)) {
    if ((await session.query("SHOW work_mem")).rows[0].work_mem === wanted) inForce = since();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await session.end();
  return { up: (await up).seconds, inForce };
}

/**
 * What a stranger's TLS handshakes, 32 at a time, cost a neighbour, with the flood's own work on the same machine.
 * @returns a row: queries a second without and with it
 */
async function handshakes(checkout: Checkout): Promise<string[]> {
  const { port, ssl } = await checkout.clientConfig("mallory");
  const measured = async () => {
    const load = await ClientLoad.start(await checkout.clientConfig("t1"), { sessions: 4, newcomers: 1 });
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    await load.stop();
    return load;
  };
  const before = await measured();
  const code = `const tls = require("tls"); const options = JSON.parse(process.argv[1]);
    const again = () => { const socket = tls.connect(options, () => socket.destroy());
      socket.on("error", () => {}); socket.on("close", again); };
    for (let lane = 0; lane < 32; lane++) again();`;
  const options = { ...(ssl as object), host: "127.0.0.1", port, ALPNProtocols: ["postgresql"] };
  const flood = spawn(process.execPath, ["-e", code, JSON.stringify(options)], { stdio: "ignore" });
  const during = await measured().finally(() => flood.kill());
  const rate = ({ counts }: ClientLoad) => `${Math.round(counts.queries / 20)}/s`;
  return [
    "handshakes of a stranger, 32 at a time",
    ...["", "", "", `${rate(before)} to ${rate(during)}`],
    `${during.failures.length} of ${during.counts.queries + during.counts.connections}`,
  ];
}

async function main(): Promise<void> {
  const checkout = await Checkout.create(edited(["mallory"]));
  const rows: string[][] = [];
  try {
    await checkout.up();
    const well = [];
    for (let index = 0; index < tries; index++) well.push(await timedUp(checkout, ["mallory"]));
    const base = {
      up: median(well.map(({ up }) => up)),
      inForce: median(well.map(({ inForce }) => inForce)),
    };
    rows.push(["none", base.up.toFixed(1), "", base.inForce.toFixed(1), "", ""]);
    rows.push(await handshakes(checkout));
    for (const key of chosen) {
      const attack = attacks[key];
      if (!attack) throw new Error(`there is no attack ${key}: ${Object.keys(attacks).join(", ")}`);
      const load = await ClientLoad.start(await checkout.clientConfig("t1"), { sessions: 4, newcomers: 1 });
      await attack.run((database = "mallory") => checkout.client("mallory", database));
      const { up, inForce } = await timedUp(checkout, ["mallory"]);
      await load.stop();
      const { queries, connections } = load.counts;
      rows.push([
        attack.name,
        ...[
          up.toFixed(1),
          (up / base.up).toFixed(2),
          inForce.toFixed(1),
          (inForce / base.inForce).toFixed(2),
        ],
        `${load.failures.length} of ${queries + connections}`,
      ]);
      console.error(rows.at(-1)?.join("  "));
      // The attacker's data goes, and a new one comes.
      checkout.write("tenants.yaml", edited([]));
      await run("./pgs", ["up", "--yes"], checkout.options());
      await checkout.apply(edited(["mallory"]));
    }
  } finally {
    await checkout.remove();
    console.log(`${await machine()}\n`);
    console.log("| attack | up, s | ratio | edit in force, s | ratio | neighbours' failures |");
    console.log("|---|---|---|---|---|---|");
    for (const row of rows) console.log(`| ${row.join(" | ")} |`);
  }
}

void main();
