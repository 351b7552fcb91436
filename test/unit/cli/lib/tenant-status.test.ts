import { describe, expect, it } from "vitest";
import { stateOf } from "../../../../cli/lib/tenant-status";

describe("a tenant's state", () => {
  const running = { state: "running" };
  it.each([
    [running, { State: "running", Status: "Up 2 hours (healthy)" }, true, "running"],
    [running, { State: "running", Status: "Up 2 seconds (health: starting)" }, true, "running"],
    [running, { State: "running", Status: "Up 2 seconds (health: starting)" }, false, "starting"],
    [running, { State: "running", Status: "Up 2 hours (healthy)" }, false, "silent"],
    [running, { State: "running", Status: "Up 2 hours (unhealthy)" }, true, "unhealthy"],
    [running, { State: "exited", Status: "Exited (137) 2 hours ago" }, false, "exited"],
    [running, undefined, false, "missing"],
    [{ state: "incomplete" }, { State: "running", Status: "Up 2 hours (healthy)" }, true, "incomplete"],
    [{ state: "incomplete" }, undefined, false, "incomplete"],
    [{ state: "stopped" }, undefined, false, "stopped"],
    [{ state: "stopped" }, { State: "running", Status: "Up 2 hours" }, true, "running"],
  ])("that should be %o with the container %o, answering %s, is %s", (summary, info, answers, state) => {
    expect(stateOf(summary, info, answers)).toBe(state);
  });
});
