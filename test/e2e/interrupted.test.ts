import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { eventually, run, succeed } from "./support/command";
import { converge, type Descendant, killAll, RunningUp } from "./support/running";

describe("an up that is killed", () => {
  /** What is killed: the CLI, the program, or a plugin, each only where it descends from the up of this test. */
  const victims = {
    cli: undefined,
    program: /@pulumi\/pulumi\/cmd\/run/,
    docker: /pulumi-resource-docker/,
    pgs: /provider\/main\.ts/,
  } as const;
  const kinds = Object.keys(victims) as (keyof typeof victims)[];
  const moments = 20;

  const made = ["writes"];
  let changes = 0;
  const entries = () =>
    made.map((id, index) => {
      const settings =
        index === 0
          ? ""
          : `, settings: { work_mem: ${4 + (changes % 20)}MB }, passwordVersion: ${1 + (changes % 3)}`;
      return `  ${id}: { init: [init/one.sql, init/two.sql]${settings} }`;
    });
  const tenants = () => `defaults: { memory: 128Mi, cpus: 2 }\ntenants:\n${entries().join("\n")}\n`;

  let checkout: Checkout;
  let written = 0;
  let stopWriting = async () => {};
  const orphans = new Set<Descendant>();
  beforeAll(async () => {
    checkout = await Checkout.create(tenants());
    checkout.write("init/one.sql", "CREATE TABLE ran (script text); INSERT INTO ran VALUES ('one');");
    // Slow, so that a kill meets it at work, and more than a pipe holds.
    checkout.write(
      "init/two.sql",
      `INSERT INTO ran VALUES ('two');\n${`-- ${"x".repeat(97)}\n`.repeat(5000)}SELECT pg_sleep(0.5);\n`,
    );
    await checkout.up();
    stopWriting = await startWriting();
  });
  afterAll(async () => {
    await stopWriting();
    killAll(orphans);
    await checkout?.remove();
  });

  /** One session that commits a row at a time, for as long as the ups go on. */
  async function startWriting(): Promise<() => Promise<void>> {
    const client = await checkout.client("writes");
    await client.query("CREATE TABLE rows (i int)");
    let going = true;
    const ended = (async () => {
      while (going) {
        await client.query("INSERT INTO rows VALUES ($1)", [written]);
        written++;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      await client.end();
    })();
    return async () => {
      going = false;
      await ended;
    };
  }

  async function expectAllWell(): Promise<void> {
    for (const id of made) {
      await eventually(60, async () => {
        expect(await checkout.query(id, "SELECT script FROM ran ORDER BY script")).toEqual([
          { script: "one" },
          { script: "two" },
        ]);
      });
    }
    const committed = written;
    const [row] = await checkout.query("writes", "SELECT count(*)::int AS n FROM rows");
    expect(row?.n).toBeGreaterThanOrEqual(committed);
  }

  /** How long an up takes that nothing cuts off: the kills are spread over as much. */
  let whole = 0;
  test("the run to be cut off adds a tenant with two init scripts and changes the others", async () => {
    made.push("t0");
    changes++;
    checkout.write("tenants.yaml", tenants());
    const started = performance.now();
    await checkout.up();
    whole = (performance.now() - started) / 1000;
    await expectAllWell();
  });

  test.each(
    Array.from({ length: moments }, (_, moment) => ({
      moment: moment + 1,
      kind: kinds[moment % kinds.length] ?? "cli",
    })),
  )(
    "at moment $moment of 20 by SIGKILL of its $kind, or of the CLI where that does not run: the next up converges, nothing committed is missing, init scripts ran once",
    async ({ moment, kind }) => {
      // A new tenant takes the place of an older one, so that the stack does not grow.
      if (made.length > 3) made.splice(1, 1);
      made.push(`t${moment}`);
      changes++;
      checkout.write("tenants.yaml", tenants());
      const up = new RunningUp(checkout);
      await new Promise((resolve) => setTimeout(resolve, (whole * 1000 * moment) / (moments + 4)));
      const below = up.descendants();
      for (const process of below) orphans.add(process);
      const pattern = victims[kind];
      const found = below.filter(({ command }) => pattern?.test(command));
      const wasRunning = up.isRunning;
      killAll(found);
      // A program or plugin that does not run at this moment cannot be killed: then it is the CLI.
      if (found.length === 0) up.kill();
      const { output } = await up.ended;
      const seconds = await converge(checkout);
      await expectAllWell();
      if (moment % 5 === 0 && moment < moments) await checkout.pulumi("preview", "--expect-no-changes");
      console.log(
        `interrupted: ${found.length > 0 ? kind : "cli"} at ${moment}/${moments}: ${found.length || 1} killed, ${wasRunning ? `in ${lastStep(output)}` : "too late"}; next up ${seconds.toFixed(1)} s`,
      );
    },
  );

  test("after all of them the writer's session has not been cut, and all its rows are there", async () => {
    await stopWriting();
    const [row] = await checkout.query("writes", "SELECT count(*)::int AS n, max(i) AS last FROM rows");
    expect(row).toEqual({ n: written, last: written - 1 });
    console.log(
      `interrupted: ${written} rows committed by one session over ${moments} killed ups, none missing`,
    );
    await checkout.pulumi("preview", "--expect-no-changes");
  });
});

describe.runIf(process.getuid?.() === 0)("a first start that is cut off", () => {
  const image = "postgres:18.6-bookworm";
  const disks = { tiny: "20m", small: "70m" };
  let checkout: Checkout;
  // Mounted here: what Docker itself mounts is empty again after each stop of the container.
  const disk = (id: string) => join(checkout.folder, "disks", id);
  const orphans = new Set<Descendant>();
  beforeAll(async () => {
    checkout = await Checkout.create("tenants: {}");
    checkout.write(
      "init/rows.sql",
      "CREATE TABLE t AS SELECT i, repeat('x', 1000) FROM generate_series(1, 50000) AS i;",
    );
    checkout.write(
      "init/slow.sql",
      "CREATE TABLE t AS SELECT generate_series(1, 50000) AS i; SELECT pg_sleep(600);",
    );
    await checkout.up();
    for (const [id, size] of Object.entries(disks)) {
      mkdirSync(disk(id), { recursive: true });
      await succeed("mount", ["-t", "tmpfs", "-o", `size=${size},uid=999,gid=999`, "tmpfs", disk(id)]);
      await succeed("docker", [
        ...["volume", "create", "--opt", "type=none", "--opt", `device=${disk(id)}`, "--opt", "o=bind"],
        checkout.name(id),
      ]);
    }
  });
  afterAll(async () => {
    killAll(orphans);
    await run("umount", ["--lazy", ...Object.keys(disks).map(disk)]);
    await checkout?.remove();
  });

  const expectInitialised = async (id: string) =>
    expect(await checkout.query(id, "SELECT count(*)::int AS n FROM t")).toEqual([{ n: 50000 }]);
  const inside = (id: string, script: string) =>
    run("docker", ["exec", checkout.name(id), "sh", "-c", script]);

  test("by a full disk, in initdb and in an init script: the up fails and names the tenants, another one is made", async () => {
    checkout.write(
      "tenants.yaml",
      "tenants: { tiny: { init: [init/rows.sql] }, small: { init: [init/rows.sql] }, calm: { init: [init/rows.sql] } }",
    );
    const up = await checkout.tryUp();
    expect(up.code).not.toBe(0);
    expect(up.output).toMatch(
      new RegExp(`${checkout.name("tiny")}: .*docker logs --tail 20 ${checkout.name("tiny")}`),
    );
    expect(up.output).toMatch(
      new RegExp(`${checkout.name("small")}: .*(No space left on device|docker logs)`),
    );
    await expectInitialised("calm");
    console.log(
      `interrupted: disk full: the up failed after ${up.seconds.toFixed(1)} s: ${up.output.match(/\* .*small: .*/)?.[0]}`,
    );
  });

  test("once there is room, the next up converges", async () => {
    for (const id of Object.keys(disks)) await succeed("mount", ["-o", "remount,size=400m", disk(id)]);
    await converge(checkout);
    for (const id of ["tiny", "small", "calm"]) await expectInitialised(id);
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  test("in the middle of initdb, by a kill of the container: the half-made data directory is not taken for good", async () => {
    checkout.write("tenants.yaml", "tenants: { calm: {}, half: { init: [init/rows.sql] } }");
    const up = new RunningUp(checkout);
    await eventually(400, async () => {
      expect((await inside("half", "test -s $PGDATA/PG_VERSION")).code).toBe(0);
    });
    await succeed("docker", ["kill", checkout.name("half")]);
    const files = await succeed("docker", [
      ...[
        "run",
        "--rm",
        "--network",
        "none",
        "--entrypoint",
        "find",
        "--volume",
        `${checkout.name("half")}:/volume`,
      ],
      ...[image, "/volume/18", "-maxdepth", "1", "-name", "*.unfinished"],
    ]);
    expect(files).toContain("docker.unfinished");
    // It may have come in time to start the server again by itself.
    await up.ended;
    await converge(checkout);
    await expectInitialised("half");
    await checkout.pulumi("preview", "--expect-no-changes");
  });

  test("in the middle of an init script, by a kill of Pulumi: the script is ended, and runs once, whole", async () => {
    checkout.write("tenants.yaml", "tenants: { calm: {}, slow: { init: [init/slow.sql] } }");
    const up = new RunningUp(checkout);
    await eventually(400, async () => {
      const running = await inside(
        "slow",
        "psql -U postgres -Atc \"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND application_name = 'pgs'\"",
      );
      expect(running.stdout.trim()).toBe("1");
    });
    for (const process of up.descendants()) orphans.add(process);
    up.kill();
    await up.ended;
    checkout.write("init/slow.sql", "CREATE TABLE t AS SELECT generate_series(1, 50000) AS i;");
    const seconds = await converge(checkout);
    await expectInitialised("slow");
    await checkout.pulumi("preview", "--expect-no-changes");
    console.log(
      `interrupted: init script at work when Pulumi was killed: the next up took ${seconds.toFixed(1)} s`,
    );
  });
});

function lastStep(output: string): string {
  return (
    output
      .split("\n")
      .filter((line) => /^ *[-+~]+ +\S+:index:/.test(line))
      .at(-1)
      ?.trim() ?? "its beginning"
  );
}
