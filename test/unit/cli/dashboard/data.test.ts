import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Fact } from "../../../../cli/dashboard/fact";
import { History } from "../../../../cli/dashboard/history";
import { chartsQuery, measuredCharts } from "../../../../cli/dashboard/measured";
import { snippets } from "../../../../cli/dashboard/page/snippets";
import { changeText, concerns, toneOf } from "../../../../cli/dashboard/page/text";
import { MadeUpStack } from "../../../e2e/support/made-up-stack";

describe("a fact", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("is looked at once for all that ask at a time, and again only when it is old", async () => {
    const look = vi.fn(async () => "found");
    const fact = new Fact(5, look);
    expect((await Promise.all([fact.answer(), fact.answer()])).map(({ value }) => value)).toEqual([
      "found",
      "found",
    ]);
    await vi.advanceTimersByTimeAsync(4900);
    await fact.answer();
    expect(look).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(200);
    await fact.answer();
    expect(look).toHaveBeenCalledTimes(2);
  });

  it("that hangs holds nobody up, and says so after a while", async () => {
    vi.useRealTimers();
    const fact = new Fact(5, () => new Promise<string>(() => {}));
    const begun = performance.now();
    expect(await fact.answer()).toEqual({ value: null, at: null, problem: null });
    expect(performance.now() - begun).toBeLessThan(1000);
    vi.useFakeTimers();
    vi.setSystemTime(Date.now() + 16_000);
    expect(fact.peek().problem).toBe("no answer for 16 s");
  });

  it("keeps what was known when a later look fails", async () => {
    let fails = false;
    const fact = new Fact(1, async () => {
      if (fails) throw new Error("gone\u001b[2J");
      return 1;
    });
    await fact.answer();
    fails = true;
    await vi.advanceTimersByTimeAsync(1100);
    fact.peek();
    await vi.advanceTimersByTimeAsync(1);
    expect(fact.peek()).toMatchObject({ value: 1, problem: "gone\\u001b[2J" });
  });

  it("that takes long is looked at less often: a fifth of the time at most", async () => {
    const look = vi.fn(() => new Promise<number>((resolve) => setTimeout(() => resolve(1), 10_000)));
    const fact = new Fact(1, look);
    fact.peek();
    await vi.advanceTimersByTimeAsync(10_000 + 39_000);
    fact.peek();
    expect(look).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(2000);
    fact.peek();
    expect(look).toHaveBeenCalledTimes(2);
  });

  it("throws for whoever needs it why it is not known", async () => {
    await expect(new Fact(1, () => Promise.reject(new Error("no stack"))).get()).rejects.toThrow("no stack");
  });
});

describe("what was seen", () => {
  it("is charted with gaps where a value is not known, and bounded", () => {
    const history = new History();
    history.add(1000, { cpu: 0.5, memory: 10 });
    history.add(4000, { connections: 3, size: 9 });
    expect(history.charts()).toEqual({
      source: "dashboard",
      times: [1, 4],
      series: { cpu: [0.5, null], memory: [10, null], connections: [null, 3], size: [null, 9] },
    });
    for (let at = 0; at < 5000; at++) history.add(at * 1000, { cpu: at });
    expect(history.charts().times).toHaveLength(1200);
    expect(history.last("cpu", 3)).toEqual([4997, 4998, 4999]);
  });

  it("is taken from monitoring in one question", () => {
    const query = chartsQuery("acme");
    expect(query.match(/\{tenant="acme"\}/g)).toHaveLength(5);
    const found = measuredCharts([
      {
        labels: { tenant: "acme", series: "cpu" },
        points: [
          [10, 0.1],
          [25, Number.NaN],
        ],
      },
      { labels: { tenant: "acme", series: "size" }, points: [[25, 7]] },
    ]);
    expect(found).toEqual({
      source: "monitoring",
      times: [10, 25],
      series: { cpu: [0.1, null], memory: [null, null], connections: [null, null], size: [null, 7] },
    });
  });
});

describe("what the page says", () => {
  const connection = { host: "acme.pgs.example.com", port: "5432", dbname: "acme", user: "postgres" };

  it("has how each client connects, verifying, and never a password", () => {
    const all = snippets("acme", connection, true);
    expect(all.map(({ name }) => name)).toEqual(["psql", "JDBC", "node-postgres", "psycopg", ".env"]);
    for (const { name, code } of all) {
      expect(code).toContain("acme.pgs.example.com");
      if (name !== "node-postgres") expect(code).toContain("verify-full");
      expect(code).toContain("ca.pem");
    }
    for (const { code } of snippets("acme", connection, false)) expect(code).not.toContain("ca.pem");
  });

  it("has the address where the name does not resolve", () => {
    const all = snippets("acme", { hostaddr: "127.0.0.1", ...connection }, true);
    const of = (wanted: string) => all.find(({ name }) => name === wanted);
    expect(of("psql")?.code).toContain("hostaddr=127.0.0.1");
    expect(of("node-postgres")?.code).toContain('host: "127.0.0.1"');
    expect(of("JDBC")?.note).toContain("127.0.0.1 acme.pgs.example.com");
    expect(of(".env")?.code).toContain("PGHOSTADDR=127.0.0.1");
  });

  it("has a concern, with what to do, for each that is not as it should be", async () => {
    const { value } = await new MadeUpStack(12).fleet();
    const of = Object.fromEntries(
      value?.tenants.map((row) => [row.id, concerns(row).map(({ command }) => command)]) ?? [],
    );
    expect(of).toMatchObject({
      ...{ acme: [], initech: [], soylent: [], hooli: ["./pgs set hooli memory …"] },
      ...{
        umbrella: ["./pgs preview"],
        cyberdyne: ["./pgs logs cyberdyne --tail 50"],
        wayne: ["./pgs backups"],
        tyrell: ["./pgs doctor"],
        aperture: ["./pgs set aperture disk …"],
      },
    });
  });

  it("takes a state that it does not know as bad", () => {
    expect(["running", "stopped", "restoring", "exited", "constructor"].map(toneOf)).toEqual([
      "good",
      "quiet",
      "busy",
      "bad",
      "bad",
    ]);
  });

  it("sums up what a run did", () => {
    const run = { kind: "update", result: "succeeded", message: "", tenants: null };
    expect(changeText({ ...run, resourceChanges: { create: 2, same: 40, update: 1 } })).toBe(
      "created 2, changed 1",
    );
    expect(changeText({ ...run, tenants: "acme", resourceChanges: { same: 40 } })).toBe("acme: no changes");
  });
});
