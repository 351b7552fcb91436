import { beforeEach, describe, expect, it, vi } from "vitest";
import { access } from "../../../../../provider/server/parts/access";
import { matches } from "../../../../../provider/server/scram";
import { engine } from "../../../support/engine";
import {
  acme,
  acmeWith,
  asWanted,
  closed,
  FakePostgres,
  host,
  running,
  sightOf,
} from "../../../support/postgres";

vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

let postgres: FakePostgres;

beforeEach(async () => {
  host();
  postgres = new FakePostgres();
  await asWanted(postgres);
});

describe("access", () => {
  it("that is as it should be costs nothing", async () => {
    expect(await access.differs(acme(), sightOf(postgres))).toBe(false);
    await access.apply(running(postgres));
    expect([postgres.statements, postgres.log]).toEqual([[], []]);
    expect(await access.differs(acme(), { info: undefined, inside: undefined })).toBe(false);
  });

  it.each<[string, () => void]>([
    ["has another password", () => Object.assign(postgres.inside, { verifier: "md5abc" })],
    ["has none", () => Object.assign(postgres.inside, { verifier: null })],
    ["has a password that ends", () => Object.assign(postgres.inside, { validUntil: "2020-01-01" })],
  ])("of a role that %s is set again, live, by a verifier", async (_, change) => {
    change();
    expect(await access.differs(acme(), sightOf(postgres))).toBe(true);
    await access.apply(running(postgres));
    expect(await matches(postgres.inside.verifier, "secret")).toBe(true);
    expect(postgres.inside.validUntil).toBeNull();
    expect(postgres.statements.join()).not.toContain("secret");
    expect(await access.differs(acme(), sightOf(postgres))).toBe(false);
  });

  it.each(["10.0.0.0/8", "reject", ""])("from %j is opened to all again", async (clients) => {
    postgres.inside.clients = clients;
    expect(await access.differs(acme(), sightOf(postgres))).toBe(true);
    await access.apply(running(postgres));
    expect(postgres.inside.clients).toBe("all");
    expect(postgres.log).toEqual(["admit all last"]);
  });

  it("in a network that all tenants share is from the proxy's address alone", async () => {
    engine.addNetwork("pgs-acme", { "pgs.stack": "ours" }, true, "10.213.0.0/20");
    const shared = acmeWith({ access: { clients: "proxy" } });
    expect(await access.differs(shared, sightOf(postgres))).toBe(true);
    await access.apply(running(postgres, shared));
    expect(postgres.inside.clients).toBe("10.213.15.254/32");
    expect(await access.differs(shared, sightOf(postgres))).toBe(false);
  });

  it("from the proxy in a network that is not of the range is an error, and opens nothing", async () => {
    engine.addNetwork("pgs-acme", { "pgs.stack": "ours" });
    postgres.inside.clients = "reject";
    await expect(access.apply(running(postgres, acmeWith({ access: { clients: "proxy" } })))).rejects.toThrow(
      "pgs:tenantSubnets",
    );
    expect(postgres.inside.clients).toBe("reject");
  });

  it("that is closed refuses clients first and then ends sessions, without a session of its own", async () => {
    postgres.inside.sessions = 5;
    const { container } = running(postgres);
    postgres.refuses = /./;
    await access.close(container, closed());
    expect(postgres.log).toEqual(["admit reject first", "end sessions"]);
    expect(postgres.inside).toMatchObject({ clients: "reject", sessions: 0 });
  });

  it("that is watched lets the role of monitoring in, open or closed, and differs where its line is gone", async () => {
    const watched = acmeWith({ access: { monitored: true } });
    expect(await access.differs(watched, sightOf(postgres))).toBe(true);
    await access.apply(running(postgres, watched));
    expect(postgres.inside).toMatchObject({ clients: "all", monitors: "all" });
    expect(await access.differs(watched, sightOf(postgres))).toBe(false);
    const shut = acmeWith({ access: { open: false, monitored: true } });
    await access.close(running(postgres).container, shut);
    expect(postgres.inside).toMatchObject({ clients: "reject", monitors: "all" });
    expect(await access.differs(closed(), sightOf(postgres))).toBe(true);
  });

  it("that is to be closed differs while a session is open", async () => {
    postgres.inside.clients = "reject";
    expect(await access.differs(closed(), sightOf(postgres))).toBe(false);
    postgres.inside.sessions = 1;
    expect(await access.differs(closed(), sightOf(postgres))).toBe(true);
  });

  it("that is closed is not opened by a new password", async () => {
    Object.assign(postgres.inside, { clients: "reject", verifier: null });
    await access.apply(running(postgres, closed()));
    expect(postgres.inside.clients).toBe("reject");
    expect(await matches(postgres.inside.verifier, "secret")).toBe(true);
  });

  it("that cannot be changed is an error", async () => {
    engine.answer = () => ({ code: 1, stderr: "disk full\n" });
    await expect(access.close(running(postgres).container, closed())).rejects.toThrow(
      "who may log in: disk full",
    );
  });
});
