import * as pulumi from "@pulumi/pulumi";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { clearCache } from "../../../docker/cache";
import { Provider } from "../../../provider/provider";
import { IncompleteError } from "../../../provider/resource-type";
import type { PostgresServerInputs } from "../../../provider/server/inputs";
import { wrap } from "../../../provider/wire";
import { engine } from "../support/engine";
import { acme, acmeWith, host, pooled, server, stopped } from "../support/postgres";
import { StackOfOne } from "../support/stack";
import { isSecret, plain } from "../support/wire";

vi.mock("../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));
vi.mock("node:timers/promises", () => ({ setTimeout: async () => {} }));

const unknown = pulumi.runtime.unknownValue;
const provider = new Provider(0);
const urn = "urn:pulumi:dev::pgs::pgs:index:PgTenant$pgs:index:PostgresServer::acme";
const info = vi.spyOn(pulumi.log, "info").mockResolvedValue();
const warn = vi.spyOn(pulumi.log, "warn").mockResolvedValue();
let state: Record<string, unknown>;

beforeEach(async () => {
  host();
  const stack = new StackOfOne("PostgresServer");
  await stack.up(acme());
  state = stack.state ?? {};
  engine.done = [];
});
afterEach(() => {
  info.mockClear();
  warn.mockClear();
});

function diff(inputs: object, olds = state) {
  return provider.diff("pgs-acme", urn, olds, inputs);
}

const noChange = { changes: false, replaces: [] };
const update = { changes: true, replaces: [], deleteBeforeReplace: true };

describe("a plan", () => {
  it("has nothing to do where all is as it was, and changes nothing", async () => {
    expect(await diff(acme())).toMatchObject(noChange);
    expect([engine.done, info.mock.calls, warn.mock.calls]).toEqual([[], [], []]);
  });

  it.each<[string, () => PostgresServerInputs]>([
    ["state", stopped],
    ["network", () => acmeWith({ network: { name: "b" } })],
    ["network's range", () => acmeWith({ network: { pool: "10.0.0.0/8" } })],
    ["proxy", () => acmeWith({ network: { proxy: "c9" } })],
    ["image", () => acmeWith({ container: { imageId: "sha256:other" } })],
    ["container's name", () => acmeWith({ container: { name: "b" } })],
    ["memory", () => acmeWith({ limits: { memory: 2 ** 30 } })],
    ["processors", () => acmeWith({ limits: { cpus: 2 } })],
    ["live setting", () => acmeWith({ settings: { live: { work_mem: "8MB" } } })],
    ["setting that is left out", () => acmeWith({ settings: { live: {} } })],
    ["setting with a restart", () => acmeWith({ settings: { restart: { max_connections: "60" } } })],
    ["setting for the next start", () => acmeWith({ settings: { initial: { shared_buffers: "1GB" } } })],
    ["password", () => ({ ...acme(), password: "other" })],
    ["access", () => acmeWith({ access: { open: false } })],
    ["address of clients", () => acmeWith({ access: { clients: "proxy" } })],
    ["certificate", () => ({ ...acme(), tls: { chain: "c", key: "k" } })],
    ["route", () => acmeWith({ route: { content: "other" } })],
    ["backup time", () => acmeWith({ backup: { schedule: "03:00" } })],
    ["backups that are off", () => ({ ...acme(), backup: undefined })],
    ["message for the end", () => ({ ...acme(), deleteMessage: "Its data is deleted." })],
  ])("updates a server in place for another %s, without a word of drift", async (_, inputs) => {
    expect(await diff(inputs())).toEqual(update);
    expect(info).not.toHaveBeenCalled();
  });

  it("replaces a server on another Docker host, the old one first", async () => {
    expect(await diff({ ...acme(), host: "tcp://other:2376" })).toEqual({
      changes: true,
      replaces: ["host"],
      deleteBeforeReplace: true,
    });
  });

  it.each<[string, () => PostgresServerInputs]>([
    ["positions in tenants.yaml", () => acmeWith({ positions: { work_mem: "tenants.yaml:99:1" } })],
    ["init scripts", () => acmeWith({ database: { init: ["init/acme.sql"] } })],
  ])("is not changed by %s alone", async (_, inputs) => {
    expect(await diff(inputs())).toMatchObject(noChange);
  });

  it("counts what a preview does not know yet as a change, within a part and as a whole", async () => {
    expect(await diff(acmeWith({ container: { imageId: unknown } }))).toEqual(update);
    for (const part of ["container", "network", "limits", "route", "settings"]) {
      expect(await diff({ ...acme(), [part]: unknown })).toEqual(update);
    }
  });

  it("compares what is inside a secret", async () => {
    const secret = (password: string) => wrap({ ...acme(), password }, ["password"]);
    expect(await diff(secret("secret"))).toMatchObject(noChange);
    expect(await diff(secret("other"))).toEqual(update);
    expect(await diff(acme(), wrap(state, ["password"]))).toMatchObject(noChange);
  });

  it.each<[string, () => void]>([
    [
      "is exited",
      () => Object.assign(engine.container("pgs-acme").State, { Running: false, Status: "exited" }),
    ],
    ["does not answer", () => Object.assign(server(), { lie: "no" })],
    ["network", () => delete engine.container("pgs-proxy").NetworkSettings.Networks["pgs-acme"]],
    ["container", () => Object.assign(engine.container("pgs-acme").Config.Labels, { "pgs.digest": "other" })],
    ["limits", () => Object.assign(engine.container("pgs-acme").HostConfig, { NanoCpus: 5e9 })],
    ["settings", () => Object.assign(server().settings, { work_mem: "1GB" })],
    ["access", () => Object.assign(server().inside, { clients: "0.0.0.0/0" })],
    ["access", () => Object.assign(server().inside, { validUntil: "2020-01-01" })],
    ["tls", () => Object.assign(server().settings, { ssl_cert_file: "pgs-tls.pem" })],
    ["database", () => Object.assign(server().inside, { takesConnections: false })],
    ["route", () => engine.files.get("pgs-proxy")?.clear()],
    ["backup", () => Object.assign(engine.container("pgs-acme--backup").State, { Running: false })],
    ["container is missing", () => engine.containers.splice(1, 1)],
  ])("sees that somebody changed it by hand, and says how: %s", async (word, change) => {
    change();
    expect(await diff(acme())).toEqual(update);
    expect(info.mock.calls).toEqual([
      [`PostgresServer acme was changed by hand (${word}); \`pulumi up\` restores it`],
    ]);
  });

  it("of a stopped server sees what it has, and asks no server", async () => {
    const stack = new StackOfOne("PostgresServer");
    await stack.up(stopped());
    expect(await stack.differs(stopped())).toBe(false);
    engine.files.get("pgs-proxy")?.clear();
    clearCache();
    await diff(stopped(), stack.state);
    expect(info.mock.calls).toEqual([[expect.stringContaining("(route)")]]);
  });

  it("tries again what an up left incomplete, whatever is found", async () => {
    expect(await diff(acme(), { ...state, state: "incomplete" })).toEqual(update);
    expect(info).not.toHaveBeenCalled();
  });

  it("says before a restart that another container costs one", async () => {
    for (const inputs of [
      acmeWith({ container: { imageId: unknown } }),
      acmeWith({ container: { imageId: "sha256:other" } }),
      acmeWith({ container: { adopted: true } }),
    ]) {
      await diff(inputs);
    }
    const said = ["pgs-acme is restarted once: its container is replaced"];
    expect(warn.mock.calls).toEqual([said, said, said]);
  });

  it("says that a memory limit costs a restart only where the server's own memory would fill it", async () => {
    server().inside.sharedBuffers = 2 ** 27;
    for (const memory of [2 ** 30, 2 ** 29, 2 ** 28]) await diff(acmeWith({ limits: { memory } }));
    expect(warn).not.toHaveBeenCalled();
    await diff(acmeWith({ limits: { memory: 2 ** 27 } }));
    expect(warn.mock.calls).toEqual([
      [expect.stringMatching(/^pgs-acme is restarted once: its shared_buffers /)],
    ]);
  });

  it("says when sessions of a pooler's clients end, and when they wait", async () => {
    const before = { ...state, ...pooled(), state: "running" };
    await diff({ ...pooled(), pooler: undefined }, before);
    await diff({ ...pooled(), pooler: { ...pooled(5).pooler, imageId: "sha256:other" } as never }, before);
    await diff(pooled(5), before);
    const restart = {
      ...pooled(),
      settings: acmeWith({ settings: { restart: { max_connections: "60" } } }).settings,
    };
    await diff(restart, before);
    expect(warn.mock.calls.flat()).toEqual([
      "pgs-acme: the sessions of its pooler's clients end, as the pooler is removed",
      "pgs-acme: the sessions of its pooler's clients end, as the pooler is replaced",
      "pgs-acme is restarted once: max_connections (clients of its pooler wait)",
    ]);
  });

  it("says nothing of a restart of what does not run before, or not afterwards, or for sizes of new data", async () => {
    await diff(acmeWith({ container: { imageId: "sha256:other" } }), { ...state, state: "stopped" });
    await diff(stopped());
    await diff(acmeWith({ settings: { initial: { shared_buffers: "1GB" } }, limits: { memory: 2 ** 30 } }));
    expect(warn).not.toHaveBeenCalled();
  });
});

describe("a refresh", () => {
  it("keeps a server that is as it was, byte for byte", async () => {
    expect((await provider.read("pgs-acme", urn, state)).props).toEqual(state);
  });

  it("notes what was changed by hand, and keeps a server whose container is gone: its data is there", async () => {
    Object.assign(server().settings, { work_mem: "1GB" });
    engine.files.get("pgs-proxy")?.clear();
    const { id, props } = await provider.read("pgs-acme", urn, state);
    expect([id, (props as { state: string }).state]).toEqual(["pgs-acme", "settings, route"]);
    engine.containers.splice(1, 1);
    const gone = await provider.read("pgs-acme", urn, state);
    expect(gone).toMatchObject({ id: "pgs-acme", props: { state: "container is missing" } });
    expect(gone.props).not.toHaveProperty("containerId");
    expect(await diff(acme(), gone.props)).toEqual(update);
  });

  it("says of another resource that it is gone", async () => {
    const file = { container: "pgs-proxy", path: "/etc/traefik/dynamic/x.yml", content: "" };
    const fileUrn = urn.replace("PostgresServer", "TraefikFile");
    expect(await provider.read("x", fileUrn, file)).toEqual({ id: "", props: {} });
  });
});

describe("a check", () => {
  const check = async (inputs: object, olds: object = {}) =>
    (await provider.check(urn, olds, inputs)).failures ?? [];

  it("lets through what is right, and gives the inputs back as they came", async () => {
    const inputs = wrap(acme(), ["password"]);
    expect(await provider.check(urn, state, inputs)).toEqual({ inputs, failures: [] });
  });

  it.each(["", "ä", "line\nbreak", "tab\t", "a".repeat(257)])("refuses the password %j", async (password) => {
    const failures = await check(wrap({ ...acme(), password }, ["password"]));
    expect(failures).toEqual([{ property: "password", reason: expect.stringContaining("printable ASCII") }]);
    if (password) expect(failures[0]?.reason).not.toContain(password);
  });

  it.each([" ", "~!'\"\\$`%", "a".repeat(256), unknown])("accepts the password %j", async (password) => {
    expect(await check(wrap({ ...acme(), password }, ["password"]))).toEqual([]);
  });

  it("refuses another major version for data that is there, and says which to write", async () => {
    const refused = [{ property: "version", reason: expect.stringContaining("write version: 18 again") }];
    expect(await check({ ...acme(), version: 19 }, state)).toEqual(refused);
    expect(await check({ ...acme(), version: unknown }, state)).toEqual([]);
    const container = { ...acme().container, imageId: "sha256:postgres:19" };
    expect(await check({ ...acme(), version: 19, container })).toEqual([]);
    // Of an entry that was removed: its volume is there.
    engine.volumes.set("pgs-acme", { "pgs.version": "18" });
    expect(await check({ ...acme(), version: 19, container })).toEqual(refused);
  });

  it("refuses a range that no network can be taken from, or that leaves networks outside", async () => {
    expect(await check(acmeWith({ network: { pool: "10.213.0.1/16" } }), state)).toEqual([
      { property: "network", reason: expect.stringContaining("got 10.213.0.1/16") },
    ]);
    expect(await check(acmeWith({ network: { pool: "10.9.0.0/16" } }), state)).toEqual([
      { property: "network", reason: expect.stringContaining("10.213.0.0/16") },
    ]);
  });

  it("refuses each name that another stack has, all in one answer", async () => {
    const failures = await check({ ...acme(), stack: "theirs", password: "" });
    expect(failures.map(({ property }) => property)).toEqual(["password", "network", "container", "backup"]);
    const { stack: _, ...newStack } = acme();
    expect(await check(newStack)).toHaveLength(3);
  });
});

describe("a server of an up that failed", () => {
  it("keeps its password and key secret, and the id under which it is found again", async () => {
    host();
    engine.refusing = (change) => change === "start pgs-acme";
    const inputs = wrap({ ...acme(), tls: { chain: "c", key: "k" } }, ["password", "tls"]);
    const error = await provider.create(urn, inputs).catch((reason) => reason);
    expect(error).toBeInstanceOf(IncompleteError);
    expect(error.id).toBe("pgs-acme");
    expect([isSecret(error.properties.password), isSecret(error.properties.tls)]).toEqual([true, true]);
    expect(plain(error.properties.password)).toBe("secret");
    expect(error.reasons).toEqual([expect.stringMatching(/^pgs-acme: /)]);
    expect(JSON.stringify(error.reasons)).not.toContain("secret");
    expect(await diff(inputs, error.properties)).toEqual(update);
  });

  it("keeps them secret when it is made and changed, too", async () => {
    const inputs = wrap(acme(), ["password"]);
    const created = await provider.create(urn, inputs);
    expect(isSecret(created.outs.password)).toBe(true);
    const updated = await provider.update("pgs-acme", urn, created.outs, inputs);
    expect(isSecret(updated.outs.password)).toBe(true);
    const { props } = await provider.read("pgs-acme", urn, updated.outs);
    expect(isSecret((props as Record<string, unknown>).password)).toBe(true);
  });
});

it("a type that the provider does not have is an error that names it", async () => {
  await expect(provider.check(urn.replace("PostgresServer", "Nothing"), {}, {})).rejects.toThrow(
    "the pgs provider has no resource type pgs:index:Nothing",
  );
});
