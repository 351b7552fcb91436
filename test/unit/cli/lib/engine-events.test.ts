import { describe, expect, it } from "vitest";
import { type EngineEvent, RunReport } from "../../../../cli/lib/engine-events";
import {
  consequenceQuestion,
  errorText,
  hasConsequence,
  outcomeText,
  planText,
  summaryText,
} from "../../../../cli/lib/run-text";
import { tenant } from "../support/tenant";

const urn = (type: string, name: string) => `urn:pulumi:dev::pgs::${type}::${name}`;
const component = "pgs:index:PgTenant";

/** The events of one step, as `pulumi up --json` prints them. */
function step(
  op: string,
  type: string,
  id: string,
  states: { old?: Record<string, unknown>; new?: Record<string, unknown>; retainOnDelete?: boolean } = {},
): EngineEvent[] {
  const parent = type === component ? urn("pulumi:pulumi:Stack", "pgs-dev") : urn(component, id);
  const state = (inputs: Record<string, unknown> | undefined) => ({
    parent,
    retainOnDelete: states.retainOnDelete,
    inputs,
  });
  const metadata = {
    op,
    type,
    urn: urn(type === component ? type : `${component}$${type}`, id),
    old: op === "create" ? null : state(states.old),
    new: op === "delete" ? null : state(states.new),
  };
  return [{ resourcePreEvent: { metadata } }, { resOutputsEvent: { metadata } }];
}
const server = "pgs:index:PostgresServer";
const volume = "docker:index/volume:Volume";
const say = (severity: string, message: string, about?: string): EngineEvent => ({
  diagnosticEvent: { severity, message: `${message}\n`, urn: about },
});
const stack = (before: string[], after: string[]): EngineEvent => {
  const outputs = (ids: string[]) => ({ tenants: Object.fromEntries(ids.map((id) => [id, tenant()])) });
  const type = "pulumi:pulumi:Stack";
  const state = (ids: string[]) => ({ parent: "", outputs: outputs(ids) });
  const metadata = { op: "same", type, urn: urn(type, "pgs-dev"), old: state(before), new: state(after) };
  return { resOutputsEvent: { metadata } };
};

function report(...events: (EngineEvent | EngineEvent[])[]): RunReport {
  const found = new RunReport();
  let at = 1000;
  for (const event of events.flat()) {
    at += 500;
    found.add(event, at);
  }
  return found;
}

const removal = [
  ...step("delete", server, "globex"),
  ...step("delete", volume, "globex", { retainOnDelete: true }),
  ...step("delete", component, "globex"),
];

describe("what a run means for a tenant", () => {
  it.each<[string, EngineEvent[]]>([
    ["new", [...step("create", component, "acme"), ...step("create", server, "acme")]],
    [
      "newStopped",
      [
        ...step("create", component, "acme"),
        ...step("create", server, "acme", { new: { state: "stopped" } }),
      ],
    ],
    ["live", step("update", server, "acme")],
    [
      "restart",
      [say("warning", "pgs-acme is restarted once: max_connections"), ...step("update", server, "acme")],
    ],
    [
      "restart",
      [...step("update", server, "acme"), say("warning", "pgs-acme is restarted once: max_connections")],
    ],
    ["stop", step("update", server, "acme", { old: { state: "running" }, new: { state: "stopped" } })],
    ["start", step("update", server, "acme", { old: { state: "stopped" }, new: { state: "running" } })],
    [
      "remove",
      [...step("delete", volume, "acme", { retainOnDelete: true }), ...step("delete", component, "acme")],
    ],
    ["data", [...step("delete", volume, "acme"), ...step("delete", component, "acme")]],
    [
      "failed",
      [...step("update", server, "acme"), say("error", "no", urn(`${component}$${server}`, "acme"))],
    ],
  ])("is %s", (effect, events) => {
    expect(report(events).changes()).toMatchObject([{ id: "acme", effect }]);
  });

  it("takes a warning for the tenant with the longest id that it names", () => {
    const two = report(
      step("update", server, "shop"),
      step("update", server, "web-shop"),
      say("warning", "pgs-web-shop is restarted once: its container is replaced"),
    );
    expect(two.changes()).toMatchObject([
      { id: "shop", effect: "live" },
      { id: "web-shop", effect: "restart", details: ["its container is replaced"] },
    ]);
  });

  it("is none for steps that change nothing, and for the engine's debug messages", () => {
    const same = report(step("same", server, "acme"), say("debug", "pgs-acme"), stack(["acme"], ["acme"]));
    expect(same.changes()).toEqual([]);
    expect(planText(same)).toBe("No changes (1 tenant).");
    expect(summaryText(same, true)).toBe("No changes (1 tenant).");
  });
});

describe("the tenants that failed", () => {
  const bad = say("error", "no", urn(`${component}$${server}`, "bad"));

  it("are those with an error, whose names the engine gives", () => {
    expect(report(bad, say("error", "update failed")).failed()).toEqual(["bad"]);
  });

  it("are not known where something else failed too, even if it names a tenant", () => {
    const acme = step("update", server, "acme");
    expect(
      report(acme, bad, say("error", "acme: no", urn("pulumi:pulumi:Stack", "pgs-dev"))).failed(),
    ).toEqual([]);
    expect(
      report(bad, say("error", "no", urn("pgs:index:PostgresProxy$pgs:index:Container", "proxy"))).failed(),
    ).toEqual([]);
    expect(report(acme).failed()).toEqual([]);
  });
});

describe("the text of a run", () => {
  const several = report(
    step("update", server, "acme"),
    say("warning", "pgs-acme is restarted once: max_connections"),
    removal,
    step("create", component, "hooli"),
    stack(["acme", "globex", "initech"], ["acme", "hooli", "initech"]),
  );

  it("has before it a tenant a line with the effect, and asks by its consequences", () => {
    expect(planText(several).split("\n")).toEqual([
      "✓ acme     restart  its sessions end, down for some seconds (max_connections)",
      "✓ globex   remove   its sessions end, its data stays",
      "✓ hooli    create   no effect on others",
      "  1 tenant unchanged",
    ]);
    expect(hasConsequence(several)).toBe(true);
    expect(consequenceQuestion(several)).toBe("Remove globex (data stays), restart acme?");
  });

  it("asks nothing for changes that no client feels", () => {
    expect(hasConsequence(report(step("update", server, "acme"), step("create", component, "hooli")))).toBe(
      false,
    );
  });

  it("says after it what was done and how long it took, and where removed data is", () => {
    const [acme, globex] = report(
      step("update", server, "acme"),
      removal,
      say("info", "The data of globex stays in the Docker volume pgs-globex."),
    ).changes();
    expect(acme && outcomeText(acme, 6)).toBe("✓ acme    changed     0.5 s  live");
    expect(globex && outcomeText(globex)).toBe(
      "✓ globex  removed     2.5 s  The data of globex stays in the Docker volume pgs-globex.",
    );
  });

  it("names a failed tenant, and its error without what could steer a terminal", () => {
    const failed = report(
      step("update", server, "acme"),
      say("error", "acme: \x1b[2J broken", urn(`${component}$${server}`, "acme")),
      say("error", "update failed"),
    );
    expect(failed.changes().map((change) => outcomeText(change))).toEqual(["✗ acme  failed      0.5 s"]);
    expect(errorText(failed)).toBe("error: acme: \\u001b[2J broken");
  });

  it("warns of a proxy that is replaced", () => {
    const type = "pgs:index:Container";
    const proxy = (old: object, now: object) => {
      const state = (inputs: object) => ({ parent: "", inputs: { ...inputs } });
      const name = urn(`pgs:index:PostgresProxy$${type}`, "proxy");
      const metadata = { op: "update", type, urn: name, old: state(old), new: state(now) };
      return report({ resourcePreEvent: { metadata } });
    };
    expect(hasConsequence(proxy({ memory: 1, image: "a" }, { memory: 2, image: "a" }))).toBe(false);
    const replaced = proxy({ memory: 1, image: "a" }, { memory: 1, image: "b" });
    expect(hasConsequence(replaced)).toBe(true);
    expect(consequenceQuestion(replaced)).toBe("End the sessions of all tenants?");
  });
});
