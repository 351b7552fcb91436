import { afterAll, beforeAll, expect, test } from "vitest";
import { Checkout } from "./support/checkout";
import { eventually, run } from "./support/command";
import { anonymousVolumes, bySql, inContainer, inspect, keepAsking } from "./support/inside";

const tenants = `
tenants:
  acme: { memory: 1Gi }
  small: { memory: 256Mi }
  globex: { memory: 256Mi }
`;
const chosen = "chosen-by-the-operator-for-globex";
const megabyte = 2 ** 20;

let checkout: Checkout;

beforeAll(async () => {
  checkout = await Checkout.create(tenants);
  await checkout.pulumi("config", "set", "--secret", "--path", "pgs:passwords.globex", chosen);
  await checkout.up();
});
afterAll(() => checkout?.remove());

const acme = (script: string) => bySql(checkout, "acme", script);

test("the server and whatever a session starts run as uid 999, with no capability and no way to one", async () => {
  for (const process of ["1", "self"]) {
    const status = await acme(`grep -E '^(Uid|Gid|Cap.*|NoNewPrivs):' /proc/${process}/status`);
    const fields = Object.fromEntries(
      status
        .trim()
        .split("\n")
        .map((line) => line.split(/:\s+/)),
    );
    expect(fields.Uid).toBe("999\t999\t999\t999");
    expect(fields.Gid).toBe("999\t999\t999\t999");
    const capabilities = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map((name) => fields[name]);
    expect(capabilities).toEqual(Array(5).fill("0000000000000000"));
    expect(fields.NoNewPrivs).toBe("1");
  }
  const { HostConfig } = await inspect(checkout.name("acme"));
  expect(HostConfig).toMatchObject({ CapDrop: ["ALL"], Privileged: false, PidMode: "" });
  expect(HostConfig.CapAdd ?? []).toEqual([]);
  expect(HostConfig.SecurityOpt).toEqual(["no-new-privileges:true"]);
});

test("not even root could write to the file system outside of data and temporary folders", async () => {
  const write = async (path: string) =>
    (await run("docker", ["exec", "--user", "0", checkout.name("acme"), "touch", path])).output;
  for (const folder of ["/", "/etc", "/usr/bin", "/usr/lib/postgresql/18/bin", "/root", "/var/lib"]) {
    expect(await write(`${folder}/x`)).toMatch(/Read-only file system/);
  }
  expect((await inspect(checkout.name("acme"))).HostConfig.ReadonlyRootfs).toBe(true);
  const own = await acme(
    "for d in /tmp /var/run/postgresql /var/lib/postgresql; do touch $d/x && rm $d/x; done",
  );
  expect(own).toBe("");
});

test("no container of the stack has an anonymous volume", async () => {
  expect(await anonymousVolumes(checkout)).toEqual([]);
});

test("a second container on a tenant's volume ends at once, and the server goes on", async () => {
  const { Config, Image } = await inspect(checkout.name("acme"));
  const [sh = "", ...script] = Config.Entrypoint;
  const second = ["--name", checkout.name("second"), "--rm", "--network", "none", "--user", "999:999"];
  const mount = [
    ...["--volume", `${checkout.name("acme")}:/var/lib/postgresql`],
    ...["--volume", `${checkout.name("-programs")}:/pgs:ro`],
  ];
  const command = [Image, ...script, ...Config.Cmd];
  const { output } = await run("docker", ["run", ...second, ...mount, "--entrypoint", sh, ...command]);
  expect(output.trim()).toBe("another container uses this volume");
  expect(await checkout.query("acme", "SELECT 1 AS one")).toEqual([{ one: 1 }]);
});

test("a shell can start no more than 2048 processes, and a neighbour goes on", async () => {
  const neighbour = await keepAsking(checkout, "globex");
  const bomb = `
    my @children;
    for my $count (1 .. 3000) {
      my $child = fork;
      if (!defined $child) { print "refused after " . ($count - 1) . ": $!\\n"; last }
      if ($child == 0) { sleep 60; exit }
      push @children, $child;
    }
    # What watches the disk wakes, and gets no process.
    for (glob '/proc/[0-9]*/comm') {
      open my $name, '<', $_ or next;
      kill 'TERM', m{(\\d+)} if (<$name> // '') eq "sleep\\n";
    }
    my $until = time + 3;
    while (time < $until) {
      my $child = fork;
      if (!defined $child) { select undef, undef, undef, 0.001; next }
      if ($child == 0) { sleep 60; exit }
      push @children, $child;
    }
    kill 'TERM', @children;
    waitpid $_, 0 for @children;
    print "started " . @children . "\\n";`;
  const answer = await acme(`perl -e '${bomb.replaceAll("'", `'"'"'`)}'`);
  const found = await neighbour.stop();
  console.log(
    `process limit: ${answer.trim().replaceAll("\n", ", ")}; neighbour: ${found.queries} queries, ${found.failed} failed, slowest ${found.slowest} ms`,
  );
  expect(answer).toMatch(/^refused after \d+: Resource temporarily unavailable$/m);
  expect(Number(/refused after (\d+)/.exec(answer)?.[1])).toBeLessThan(2048);
  expect(found.failed).toBe(0);
  expect(found.queries).toBeGreaterThan(0);
  expect((await inspect(checkout.name("acme"))).HostConfig.PidsLimit).toBe(2048);
  const commands = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '";
  await eventually(90, async () => expect(await acme(commands)).toContain("/bin/sh /pgs/watch-disk"));
  expect(await checkout.query("acme", "SELECT 1 AS one")).toEqual([{ one: 1 }]);
});

test("a parallel hash join uses more than 64 MB of shared memory, within the memory limit", async () => {
  const plan = await checkout.query(
    "acme",
    `CREATE TABLE big AS SELECT g AS id, repeat('x', 100) AS filler FROM generate_series(1, 600000) AS g;
     ANALYZE big;
     SET work_mem = '150MB'; SET max_parallel_workers_per_gather = 2; SET enable_mergejoin = off;
     SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
     EXPLAIN (ANALYZE, FORMAT JSON) SELECT count(a.filler), count(b.filler) FROM big a JOIN big b USING (id)`,
  );
  const text = JSON.stringify(plan);
  expect(text).toMatch(/"Parallel Aware":true[^{}]*"Async Capable":false[^{}]*"Join Type":"Inner"/);
  const kilobytes = Math.max(
    ...[...text.matchAll(/"Peak Memory Usage":(\d+)/g)].map(([, size]) => Number(size)),
  );
  console.log(`parallel hash join: ${Math.round(kilobytes / 1024)} MB in /dev/shm`);
  expect(kilobytes).toBeGreaterThan(64 * 1024);
});

test("/dev/shm is bounded by the memory limit, so that filling it hurts its own tenant alone", async () => {
  const free = await acme("df --output=size -B1 /dev/shm | tail -1");
  expect(Number(free)).toBeGreaterThan(100 * megabyte);
  expect(
    await acme("dd if=/dev/zero of=/dev/shm/fill bs=1M count=100 status=none && stat -c %s /dev/shm/fill"),
  ).toBe(`${100 * megabyte}\n`);
  // Shared memory counts: what the control group uses now holds it.
  const used = await acme(
    "cat /sys/fs/cgroup/memory.current /sys/fs/cgroup/memory/memory.usage_in_bytes 2>/dev/null",
  );
  await acme("rm /dev/shm/fill");
  expect(Number(used)).toBeGreaterThan(100 * megabyte);
});

test("there is no swap beside the memory limit", async () => {
  for (const [id, limit] of [
    ["acme", 1024 * megabyte],
    ["small", 256 * megabyte],
  ] as const) {
    const { HostConfig } = await inspect(checkout.name(id));
    expect([HostConfig.Memory, HostConfig.MemorySwap]).toEqual([limit, limit]);
    // cgroup v1 counts both together, v2 swap alone.
    const seen = await inContainer(
      checkout,
      id,
      "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes memory.swap.max memory/memory.memsw.limit_in_bytes 2>/dev/null",
    );
    expect([`${limit}\n0\n`, `${limit}\n${limit}\n`, `${limit}\n`]).toContain(seen);
  }
});

test("a server's log on the host is at most 30 MB, and its end is kept", async () => {
  await checkout.query(
    "acme",
    `DO $$ BEGIN FOR i IN 1..48 LOOP RAISE LOG '% %', i, repeat('x', ${megabyte}); END LOOP; RAISE LOG 'the last line'; END $$`,
  );
  await eventually(90, async () => {
    const log = await run("docker", ["logs", checkout.name("acme")]);
    expect(log.output).toContain("the last line");
    console.log(`log: 48 MB written, ${Math.round(log.output.length / megabyte)} MB kept`);
    expect(log.output.length).toBeLessThan(31 * megabyte);
  });
});

/** Passwords, verifiers and keys of the stack and of another tenant; one line of each key. */
async function secretsOfOthers(): Promise<Record<string, string>> {
  const state = await checkout.pulumi("stack", "export", "--show-secrets");
  const keys = [...state.matchAll(/-----BEGIN [A-Z ]*PRIVATE KEY-----\\+n([A-Za-z0-9+/=]{40,})/g)].map(
    ([, line]) => line ?? "",
  );
  expect(new Set(keys).size).toBeGreaterThanOrEqual(2);
  const verifier = async (id: string) =>
    String(
      (await checkout.query(id, "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'"))[0]
        ?.rolpassword,
    );
  return {
    "another tenant's own password": chosen,
    "another tenant's password": await checkout.password("small"),
    "another tenant's verifier": await verifier("small"),
    "the stack's passphrase": checkout.env.PULUMI_CONFIG_PASSPHRASE ?? "",
    ...Object.fromEntries([...new Set(keys)].map((key, index) => [`private key ${index}`, key])),
  };
}

test("its shell finds no secret of another tenant or of the stack in environment, processes or mounts", async () => {
  const text = await acme("env; cat /proc/[0-9]*/{environ,cmdline,mountinfo} 2>/dev/null | tr '\\0' '\\n'");
  expect(text).toContain("PGDATA=");
  expect(text).toContain("/var/lib/postgresql");
  for (const [what, secret] of Object.entries(await secretsOfOthers())) {
    expect(text.includes(secret), what).toBe(false);
  }
  expect(text).not.toContain(checkout.name("globex"));
  expect(text).not.toContain(checkout.folder);
  const { Mounts } = await inspect(checkout.name("acme"));
  const mounted = Mounts.map(({ Type, Name, Destination }) => [Type, Name, Destination]);
  expect(mounted.toSorted()).toEqual([
    ["volume", checkout.name("-programs"), "/pgs"],
    ["volume", checkout.name("acme"), "/var/lib/postgresql"],
  ]);
});

test("nor in any file that it can read, while it finds its own verifier", async () => {
  const [own] = await checkout.query("acme", "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'");
  await checkout.query("acme", "CHECKPOINT");
  const patterns = { own: String(own?.rolpassword), ...(await secretsOfOthers()) };
  for (const [what, secret] of Object.entries(patterns)) {
    const encoded = Buffer.from(secret).toString("base64");
    const found = await acme(
      `grep -rlaF --exclude-dir=proc --exclude-dir=sys --exclude-dir=base -e "$(echo ${encoded} | base64 -d)" / 2>/dev/null`,
    );
    if (what === "own") expect(found).toMatch(/^\/var\/lib\/postgresql\/.*\/global\/\d+$/m);
    else expect(found, what).toBe("");
  }
});

test("nor a Docker socket: the only socket is its own server's", async () => {
  // find takes what is mounted over a file for a file.
  const sockets = await acme(`
    { find / -path /proc -prune -o -type s -print 2>/dev/null
      while read -r _ _ _ _ at _; do if [ -S "$at" ]; then echo "$at"; fi; done </proc/self/mountinfo
    } | sort --unique`);
  const found = sockets.trim().split("\n");
  expect(
    found.filter(
      (path) => !/^\/(tmp|run\/postgresql|var\/lib\/postgresql\/\.sockets)\/\.s\.PGSQL\.5432$/.test(path),
    ),
  ).toEqual([]);
  expect(found).not.toEqual([]);
});

test("out of memory, a server comes back by itself, and its neighbours' sessions go on", async () => {
  const before = await inspect(checkout.name("globex"));
  const started = async () =>
    (await checkout.query("globex", "SELECT pg_postmaster_start_time()::text AS at"))[0]?.at;
  const startedBefore = await started();
  const neighbour = await keepAsking(checkout, "globex");
  const time = performance.now();
  const client = await checkout.client("small");
  const ended = await client.query("SELECT length(repeat('x', 900000000))").then(
    () => "answered",
    () => "cut off",
  );
  await client.end().catch(() => {});
  expect(ended).toBe("cut off");
  await eventually(120, async () => {
    expect(await checkout.query("small", "SELECT 1 AS one")).toEqual([{ one: 1 }]);
  });
  const seconds = (performance.now() - time) / 1000;
  const found = await neighbour.stop();
  console.log(
    `out of memory: back after ${seconds.toFixed(1)} s; neighbour: ${found.queries} queries, ${found.failed} failed, slowest ${found.slowest} ms`,
  );
  expect(found.failed).toBe(0);
  expect(found.queries).toBeGreaterThan(10);
  expect(await started()).toBe(startedBefore);
  const after = await inspect(checkout.name("globex"));
  expect(after.State.StartedAt).toBe(before.State.StartedAt);
  await checkout.pulumi("preview", "--expect-no-changes");
});
