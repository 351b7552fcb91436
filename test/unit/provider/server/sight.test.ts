import { beforeEach, describe, expect, it, vi } from "vitest";
import { clearCache } from "../../../../docker/cache";
import type { PostgresServerState } from "../../../../provider/server/inputs";
import { see } from "../../../../provider/server/sight";
import { engine } from "../../support/engine";
import { acme, FakePostgres, host } from "../../support/postgres";

vi.mock("../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

/** Names of containers whose servers were asked, in order. */
let asked: string[];

beforeEach(() => {
  host();
  asked = [];
  engine.answer = ({ container }) => {
    asked.push(container.Name.slice(1));
    return { stdout: JSON.stringify(new FakePostgres().describe()) };
  };
});

function tenant(id: string, labels: Record<string, string> = {}, running = true) {
  return engine.addContainer(
    `pgs-${id}`,
    { Labels: { "pgs.stack": "ours", "pgs.tenant": id, "pgs.role": "server", ...labels } },
    running,
  );
}

function stateOf(id: string): PostgresServerState {
  const inputs = acme();
  return { ...inputs, tenant: id, container: { ...inputs.container, name: `pgs-${id}` } };
}

/** Until all that was asked beside the answer has come. */
const rest = () => new Promise((resolve) => setTimeout(resolve, 20));

describe("a look at a server", () => {
  it("finds its container and what is inside of it", async () => {
    const { Id } = tenant("acme");
    expect(await see(stateOf("acme"))).toMatchObject({ info: { Id }, inside: { clients: "all" } });
  });

  it("asks those that are planned next, before their turn, and each once", async () => {
    const ids = Array.from({ length: 20 }, (_, index) => `t${String(index).padStart(2, "0")}`);
    for (const id of ids) tenant(id);
    await see(stateOf("t00"));
    await rest();
    expect(asked).toEqual(ids.slice(0, 9).map((id) => `pgs-${id}`));
    for (const id of ids) await see(stateOf(id));
    await rest();
    expect(asked.toSorted()).toEqual(ids.map((id) => `pgs-${id}`));
  });

  it("asks no container that is no server of the stack that runs", async () => {
    tenant("acme");
    tenant("stopped", {}, false);
    tenant("foreign", { "pgs.stack": "theirs" });
    tenant("backup", { "pgs.role": "backup" });
    await see(stateOf("acme"));
    await rest();
    expect(asked).toEqual(["pgs-acme"]);
  });

  it("is not disturbed by others that do not answer", async () => {
    tenant("acme");
    tenant("broken");
    const answer = engine.answer;
    engine.answer = (exec) =>
      exec.container.Name === "/pgs-broken" ? { code: 2, stderr: "no" } : answer(exec);
    expect((await see(stateOf("acme")))?.inside).toBeDefined();
    await rest();
    expect(await see(stateOf("broken"))).toMatchObject({ inside: undefined, silent: "does not answer" });
  });

  it("says why one cannot be asked", async () => {
    const { State } = tenant("acme");
    Object.assign(State, { Paused: true, Status: "paused" });
    expect(await see(stateOf("acme"))).toMatchObject({ inside: undefined, silent: "is paused" });
    Object.assign(State, { Paused: false, Running: false, Status: "exited" });
    expect(await see(stateOf("acme"))).toMatchObject({ inside: undefined, silent: "is exited" });
    expect(asked).toEqual([]);
  });

  it("sees nothing where there is none, or another stack's", async () => {
    expect(await see(stateOf("acme"))).toBeUndefined();
    tenant("acme", { "pgs.stack": "theirs" });
    clearCache();
    expect(await see(stateOf("acme"))).toBeUndefined();
  });
});
