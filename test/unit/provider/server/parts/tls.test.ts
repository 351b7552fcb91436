import { beforeEach, describe, expect, it, vi } from "vitest";
import { tls } from "../../../../../provider/server/parts/tls";
import { engine } from "../../../support/engine";
import { acme, FakePostgres, host, running, sightOf } from "../../../support/postgres";

vi.mock("../../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));

const withTls = () => ({ ...acme(), tls: { chain: "chain\n", key: "key\n" } });
let postgres: FakePostgres;

beforeEach(() => {
  host();
  postgres = new FakePostgres();
});

describe("a server's own TLS", () => {
  it("is turned on live: the file first, then the settings", async () => {
    expect(tls.differs(withTls(), sightOf(postgres))).toBe(true);
    await tls.apply(running(postgres, withTls()));
    expect(postgres.certificate).toBe("chain\nkey\n");
    expect(postgres.settings).toMatchObject({
      ssl: "on",
      ssl_cert_file: "pgs-tls.pem",
      ssl_key_file: "pgs-tls.pem",
    });
    expect(engine.ran.join()).not.toContain("key\n");
    expect(tls.differs(withTls(), sightOf(postgres))).toBe(false);
    postgres.statements = [];
    await tls.apply(running(postgres, withTls()));
    expect(postgres.statements).toEqual([]);
  });

  it.each<[string, () => void]>([
    ["certificate", () => Object.assign(postgres, { certificate: "other" })],
    ["certificate that is gone", () => Object.assign(postgres, { certificate: null })],
    ["setting", () => Object.assign(postgres.settings, { ssl: "off" })],
  ])("is put right after another %s", async (_, change) => {
    await tls.apply(running(postgres, withTls()));
    change();
    expect(tls.differs(withTls(), sightOf(postgres))).toBe(true);
    await tls.apply(running(postgres, withTls()));
    expect(tls.differs(withTls(), sightOf(postgres))).toBe(false);
  });

  it("that the server does not turn on is an error", async () => {
    const { session, ...server } = running(postgres, withTls());
    vi.spyOn(session, "run").mockResolvedValue("off");
    await expect(tls.apply({ ...server, session })).rejects.toThrow("does not turn TLS on");
  });

  it("is turned off live, and the file goes last", async () => {
    await tls.apply(running(postgres, withTls()));
    expect(tls.differs(acme(), sightOf(postgres))).toBe(true);
    await tls.apply(running(postgres));
    expect([postgres.settings, postgres.certificate]).toEqual([{}, null]);
    expect(postgres.log.at(-1)).toBe("remove certificate");
    expect(tls.differs(acme(), sightOf(postgres))).toBe(false);
  });

  it("that the tenant set up by itself stays", async () => {
    postgres.settings = { ssl: "on", ssl_cert_file: "mine.pem" };
    expect(tls.differs(acme(), sightOf(postgres))).toBe(false);
    await tls.apply(running(postgres));
    expect(postgres.settings).toEqual({ ssl: "on", ssl_cert_file: "mine.pem" });
    expect(tls.differs(acme(), { info: undefined, inside: undefined })).toBe(false);
  });
});
