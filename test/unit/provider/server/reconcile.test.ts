import * as pulumi from "@pulumi/pulumi";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { IncompleteError } from "../../../../provider/resource-type";
import { PostgresServer } from "../../../../provider/server";
import type { PostgresServerInputs, PostgresServerState } from "../../../../provider/server/inputs";
import { reconcile } from "../../../../provider/server/reconcile";
import { matches } from "../../../../provider/server/scram";
import { engine } from "../../support/engine";
import { acme, acmeWith, closed, host, pooled, routeFile, server, stopped } from "../../support/postgres";
import { StackOfOne } from "../../support/stack";

vi.mock("../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));
// The proxy applies a route some time after its file is written; here, at once.
vi.mock("node:timers/promises", () => ({ setTimeout: async () => {} }));
vi.spyOn(pulumi.log, "info").mockResolvedValue();
const warn = vi.spyOn(pulumi.log, "warn").mockResolvedValue();

let stack: StackOfOne;

beforeEach(() => {
  host();
  stack = new StackOfOne("PostgresServer");
  warn.mockClear();
});

function state(): PostgresServerState {
  return stack.state as unknown as PostgresServerState;
}

async function present(inputs = acme()): Promise<void> {
  await stack.up(inputs);
  forget();
}

/** Of what was done until now. */
function forget(): void {
  engine.done = [];
  engine.ran = [];
  server().log = [];
  server().statements = [];
}

/** Where in all that was done something is. */
function order(...patterns: RegExp[]): void {
  const at = patterns.map((pattern) => steps.findIndex((step) => pattern.test(step)));
  expect(at, steps.join("\n")).not.toContain(-1);
  expect(at).toEqual(at.toSorted((one, other) => one - other));
}

let steps: string[];

/** Notes changes of the engine, and what servers and the proxy are asked, in their order. */
async function noting(work: () => Promise<unknown>): Promise<void> {
  steps = [];
  const answer = engine.answer;
  const refusing = engine.refusing;
  engine.refusing = (change) => {
    if (!change.startsWith("exec")) steps.push(change);
    return refusing?.(change) ?? false;
  };
  engine.answer = (exec) => {
    const before = routeFile();
    const [statements, log] = [server().statements.length, server().log.length];
    const said = answer(exec);
    steps.push(...server().log.slice(log), ...server().statements.slice(statements));
    if (routeFile() !== before) steps.push(`route ${routeFile()?.trim()}`);
    return said;
  };
  await work();
  Object.assign(engine, { answer, refusing });
}

/** That a second `up` changes nothing, and that all is there and running. */
async function settled(inputs: PostgresServerInputs): Promise<void> {
  const running = inputs.state === "running" ? [inputs.container.name] : [];
  const backup = inputs.backup ? [inputs.backup.name] : [];
  expect(engine.names).toEqual([...running, ...backup, "pgs-proxy"].toSorted());
  expect(engine.containers.every(({ State }) => State.Running)).toBe(true);
  expect(engine.networks.map(({ Name }) => Name).toSorted()).toEqual(
    [inputs.network.name, "pgs-proxy"].toSorted(),
  );
  expect(engine.members(inputs.network.name)).toEqual([...running, "pgs-proxy"].toSorted());
  expect(routeFile()).toBe(inputs.route.content);
  expect(await stack.differs(inputs)).toBe(false);
  forget();
  await PostgresServer.update("", state(), inputs);
  expect([engine.done, server().statements]).toEqual([[], []]);
}

describe("a new server", () => {
  it("has all of its parts", async () => {
    await stack.up(acme());
    expect(server().describe()).toMatchObject({
      database: true,
      creating: false,
      unfinished: false,
      clients: "all",
      settings: { work_mem: "4MB", max_connections: "50", shared_buffers: "64MB" },
      managed: ["max_connections", "shared_buffers", "work_mem"],
      pendingRestart: [],
    });
    expect(await matches(server().inside.verifier, "secret")).toBe(true);
    expect(state()).toMatchObject({
      state: "running",
      containerId: engine.container("pgs-acme").Id,
      networkIds: [engine.network("pgs-acme").Id],
      backupId: engine.container("pgs-acme--backup").Id,
    });
    await settled(acme());
  });

  it("lets nobody in before the database is complete", async () => {
    await noting(() => stack.up(acme()));
    order(
      /^create network/,
      /^connect pgs-proxy/,
      /^start pgs-acme$/,
      /^CREATE DATABASE/,
      /^\\! rm/,
      /^ALTER ROLE/,
    );
  });

  it("is adopted by its name where an interrupted run left it", async () => {
    await present();
    const { id } = (await PostgresServer.create(acme())) ?? {};
    expect(id).toBe("pgs-acme");
    expect(engine.done).toEqual([]);
  });
});

describe("access", () => {
  it("is closed in the server before the route is, and ends sessions", async () => {
    await present();
    server().inside.sessions = 3;
    await noting(() => stack.up(closed()));
    order(/^admit reject first/, /^end sessions/, /^route closed/);
    await settled(closed());
  });

  it("is opened by the route first: the proxy applies it while the server changes", async () => {
    await present(closed());
    await noting(() => stack.up(acme()));
    order(/^route open/, /^admit all last/);
    await settled(acme());
  });

  it("of a server with TLS of its own is opened last", async () => {
    await present(closed());
    const inputs = { ...acme(), tls: { chain: "chain\n", key: "key\n" } };
    await noting(() => stack.up(inputs));
    order(/^write certificate/, /^ALTER SYSTEM SET ssl /, /^admit all last/, /^route open/);
    await settled(inputs);
  });

  it("is closed at the door where the server answers nothing", async () => {
    await present();
    server().lie = "no";
    await expect(stack.up(closed())).rejects.toThrow("its catalogs were changed");
    expect(routeFile()).toBe("closed\n");
    expect(state().state).toBe("failed");
  });

  it("of a server that has TLS of its own no more goes by the proxy's first", async () => {
    const inputs = { ...acme(), tls: { chain: "chain\n", key: "key\n" } };
    await present({ ...inputs, route: { ...inputs.route, content: "passed through\n" } });
    await noting(() => stack.up(acme()));
    order(/^route open/, /^ALTER SYSTEM (SET|RESET) ssl/);
    await settled(acme());
  });

  it("of a server that refuses a change has the route that it had, whose limits are the server's", async () => {
    await present();
    Object.assign(server(), { answer: () => ({ code: 1, stderr: "no" }) });
    await expect(stack.up(acmeWith({ route: { content: "for fewer connections\n" } }))).rejects.toThrow();
    expect(routeFile()).toBe(acme().route.content);
  });

  it.each<[string, () => void]>([
    ["container cannot be made", () => engine.images.clear()],
    ["network cannot be made", () => engine.networks.splice(1)],
    [
      "server cannot be changed",
      () => Object.assign(server(), { answer: () => ({ code: 1, stderr: "no" }) }),
    ],
  ])("is closed at the door where the %s", async (_, breaks) => {
    await present();
    breaks();
    engine.refusing = (change) => change.startsWith("create network");
    await expect(
      stack.up({ ...closed(), container: { ...closed().container, adopted: true } }),
    ).rejects.toThrow();
    expect(routeFile()).toBe("closed\n");
  });
});

describe("addresses that clients may come from", () => {
  const allowing = (allow?: string[], rest = acme()) => ({
    ...rest,
    access: { ...rest.access, allow },
    route: { ...rest.route, content: `open to ${allow}\n` },
  });
  const some = ["203.0.113.0/24", "2001:db8::/32"];

  it.each([
    ["that are fewer end sessions, once the proxy refuses new ones", undefined, some, true],
    ["of which one goes end sessions", some, [some[1]], true],
    ["that become a part of what they were end sessions", some, ["203.0.113.0/25", some[1]], true],
    ["that are more end none", [some[0]], some, false],
    ["that are all of them again end none", some, undefined, false],
    ["that are in a larger range now end none", some, ["203.0.112.0/22", "2001:db8::/31"], false],
  ] as [string, string[]?, string[]?, boolean?][])("%s", async (_, before, after, ends) => {
    await present(allowing(before));
    const warned = ends ? [expect.stringContaining("all open sessions of pgs-acme are ended")] : [];
    expect(await PostgresServer.planWarnings?.(state(), allowing(after))).toEqual(warned);
    await noting(() => stack.up(allowing(after)));
    if (ends) order(/^route open to/, /^end sessions/);
    else expect(steps).not.toContainEqual(expect.stringMatching(/^end sessions/));
    await settled(allowing(after));
  });

  it("that are fewer count where the server answers nothing, and end sessions there too", async () => {
    const passthrough = { ...acme(), tls: { chain: "chain\n", key: "key\n" } };
    await present(allowing(undefined, passthrough));
    server().lie = "no";
    await noting(() =>
      expect(stack.up(allowing(some, passthrough))).rejects.toThrow("its catalogs were changed"),
    );
    order(/^route open to/, /^end sessions/);
    expect(routeFile()).toBe(`open to ${some}\n`);
    server().lie = undefined;
    await noting(() => stack.up(allowing(some, passthrough)));
    expect(steps).not.toContainEqual(expect.stringMatching(/^end sessions/));
    await settled(allowing(some, passthrough));
  });

  it("that are fewer end sessions in the next run where this one could not", async () => {
    await present();
    server().lie = "no";
    engine.refusing = (change) => change.startsWith("exec") || change.startsWith("create network");
    engine.networks.splice(1);
    await expect(stack.up(allowing(some))).rejects.toThrow();
    host();
    expect(state().access.allow).toBeUndefined();
  });
});

describe("a server with a pooler", () => {
  const changed = () => ({
    ...pooled(),
    settings: acmeWith({ settings: { restart: { max_connections: "60" } } }).settings,
  });

  it("is restarted while that is paused, which goes on afterwards", async () => {
    await present(pooled());
    await noting(() => stack.up(changed()));
    order(/^pause pooler/, /^end the pause later/, /^restart pgs-acme/, /^reload pooler/);
  });

  it("gets another container while that is paused", async () => {
    await present(pooled());
    engine.images.set("postgres:18.7", "sha256:postgres:18.7");
    const image = { image: "postgres:18.7", imageId: "sha256:postgres:18.7" };
    await noting(() => stack.up({ ...pooled(), container: { ...pooled().container, ...image } }));
    order(/^pause pooler/, /^stop pgs-acme /, /^start pgs-acme/, /^reload pooler/);
  });

  it("ends its clients' sessions too where fewer addresses are allowed than before", async () => {
    await present(pooled());
    const { access } = pooled();
    await noting(() => stack.up({ ...pooled(), access: { ...access, allow: ["203.0.113.0/24"] } }));
    order(/^end sessions/, /^restart pgs-acme--pooler/);
  });

  it("that does not come up again leaves no pause behind", async () => {
    await present(pooled());
    engine.refusing = (change) => change === "restart pgs-acme";
    await expect(stack.up(changed())).rejects.toThrow();
    expect(server().log).toContain("pause pooler");
    expect(server().log.at(-1)).toBe("resume pooler");
  });

  it("loses it where clients may not come in, before the route closes, and with the tenant", async () => {
    await present(pooled());
    await noting(() => stack.up(closed()));
    order(/^admit reject first/, /^remove pgs-acme--pooler/, /^route closed/);
    await stack.up(pooled());
    // With a restart in the same run.
    await stack.up({ ...closed(), settings: changed().settings });
    expect(engine.names).not.toContain("pgs-acme--pooler");
    await stack.up(pooled());
    await stack.destroy();
    expect(engine.names).toEqual(["pgs-proxy"]);
  });
});

describe("stopping a server", () => {
  it("closes the route, stops it cleanly, and keeps network and backups", async () => {
    await present();
    await noting(() => stack.up(stopped()));
    order(/^route closed/, /^stop pgs-acme in 120 s/, /^remove pgs-acme$/);
    expect(state().containerId).toBeUndefined();
    await settled(stopped());
    await stack.up(acme());
    await settled(acme());
  });

  it("keeps in mind which extensions its database has, until it runs again", async () => {
    const extensions = { vector: "" };
    const running = await reconcile({ ...acme(), extensions }, {});
    const first = await reconcile({ ...stopped(), extensions }, running);
    const taken = await reconcile(stopped(), await reconcile(stopped(), first));
    expect(server().installed).toMatchObject({ vector: "0.8.0" });
    expect((await reconcile(acme(), taken)).leftExtensions).toBeUndefined();
    expect(server().installed).not.toHaveProperty("vector");
  });

  it("closes the route where nothing else can be done", async () => {
    await present();
    engine.refusing = (change) => /^(stop|create)/.test(change);
    engine.networks.splice(1);
    await expect(stack.up(stopped())).rejects.toThrow("refused");
    expect(routeFile()).toBe("closed\n");
  });
});

describe("removing a server", () => {
  it("takes the route, the container, the backups and the network, in this order, and no volume", async () => {
    await present();
    await noting(() => stack.destroy());
    order(
      /^route undefined/,
      /^stop pgs-acme in/,
      /^backup retire/,
      /^remove pgs-acme--backup/,
      /^remove network pgs-acme/,
    );
    expect(engine.names).toEqual(["pgs-proxy"]);
    expect([...engine.volumes.keys()]).toContain("pgs-acme");
    expect([...engine.volumes.keys()]).toContain("pgs-acme--backup");
  });

  it("that is gone already is no error", async () => {
    await present();
    engine.containers = [];
    engine.networks = [];
    engine.volumes.clear();
    await PostgresServer.delete("pgs-acme", state());
    expect(engine.done).toEqual([]);
  });

  it("without its container notes the end of its backups in their volume", async () => {
    await present();
    engine.containers = [];
    await noting(() => PostgresServer.delete("pgs-acme", state()));
    order(/^create a helper/, /^start helper/, /^remove helper/);
  });

  it("never takes its successor of the same name", async () => {
    await present();
    const former = state();
    engine.containers = engine.containers.filter(({ Name }) => Name === "/pgs-proxy");
    engine.containers[0]?.State && delete engine.container("pgs-proxy").NetworkSettings.Networks["pgs-acme"];
    engine.networks.splice(1);
    await PostgresServer.create(acme());
    await PostgresServer.delete("pgs-acme", former);
    expect(engine.names).toEqual(["pgs-acme", "pgs-acme--backup", "pgs-proxy"]);
    expect(engine.members("pgs-acme")).toEqual(["pgs-acme", "pgs-proxy"]);
  });
});

describe("an up that fails in the middle", () => {
  it("keeps the ids of all that it made, so that all of it can be removed", async () => {
    for (let number = 0; ; number++) {
      host();
      stack = new StackOfOne("PostgresServer");
      let made = 0;
      engine.refusing = (change) => !change.startsWith("exec") && made++ === number;
      const error = await stack.up(acme()).catch((reason) => reason);
      if (!(error instanceof IncompleteError)) break;
      engine.refusing = undefined;
      expect(error).toMatchObject({ id: "pgs-acme", properties: { state: "incomplete" } });
      expect(await stack.differs(acme())).toBe(true);
      await stack.destroy();
      expect(engine.names, `after change ${number}`).toEqual(["pgs-proxy"]);
      expect(engine.networks.map(({ Name }) => Name)).toEqual(["pgs-proxy"]);
      expect(number).toBeLessThan(30);
    }
  });

  it("is finished by the next, wherever it failed", async () => {
    for (let number = 0; ; number++) {
      host();
      stack = new StackOfOne("PostgresServer");
      let made = 0;
      engine.refusing = () => made++ === number;
      const failed = await stack.up(acme()).then(
        () => false,
        () => true,
      );
      engine.refusing = undefined;
      if (!failed) break;
      expect(await stack.up(acme())).toMatch(/create|update/);
      await settled(acme());
    }
  });

  it("names the server, and where to look when it does not run", async () => {
    engine.refusing = (change) => change === "start pgs-acme";
    await expect(stack.up(acme())).rejects.toThrow(
      "pgs-acme: refused: start pgs-acme (the container is created); `docker logs --tail 20 pgs-acme` says why",
    );
  });
});

describe("names that are changed, with a failure in between", () => {
  /** All names of another prefix but the volume's, which stays. */
  function renamed(): PostgresServerInputs {
    return acmeWith({
      network: { name: "b-acme" },
      container: { name: "b-acme" },
      backup: { name: "b-acme--backup" },
    });
  }

  it("converge without one, and nothing of the former name is left", async () => {
    await present();
    expect(await stack.up(renamed())).toBe("update");
    await settled(renamed());
  });

  it.each([
    ["changed back", acme],
    ["tried again", renamed],
  ])("converge when %s, wherever the failure was", async (_, last) => {
    for (let number = 0; ; number++) {
      host();
      stack = new StackOfOne("PostgresServer");
      await present();
      let made = 0;
      engine.refusing = () => made++ === number;
      const failed = await stack.up(renamed()).then(
        () => false,
        () => true,
      );
      engine.refusing = undefined;
      if (!failed && made <= number) break;
      await stack.up(last());
      await settled(last());
    }
  });

  it("do not end the backups before the new ones begin", async () => {
    await present();
    engine.refusing = (change) => change.startsWith("create b-acme");
    await expect(stack.up(renamed())).rejects.toThrow("refused");
    engine.refusing = undefined;
    await stack.up(acme());
    expect(server().log).not.toContain("backup retire");
    await settled(acme());
  });
});

describe("access that is to be closed", () => {
  it("is closed and its sessions end, also where the server gives the provider no session", async () => {
    await present();
    server().inside.sessions = 25;
    server().lie = "sorry, too many clients already";
    await expect(stack.up(closed())).rejects.toThrow();
    expect(server().log).toEqual(["admit reject first", "end sessions"]);
    expect(routeFile()).toBe("closed\n");
  });

  it("of a server that gives no session stays open where nobody asked to close it", async () => {
    await present();
    server().lie = "sorry, too many clients already";
    await expect(stack.up(acmeWith({ limits: { cpus: 2 } }))).rejects.toThrow();
    expect(server().log).toEqual([]);
  });
});
