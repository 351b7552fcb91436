import { createHash, createHmac } from "node:crypto";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { candidates, Network, parsePool } from "../../provider/network";
import { PostgresServer } from "../../provider/postgres-server";
import { matches, scramVerifier } from "../../provider/postgres-server/password";
import { identifier, literal } from "../../provider/postgres-server/psql";
import { asWritten } from "../../provider/postgres-server/settings";
import { Provider } from "../../provider/provider";
import { IncompleteError } from "../../provider/resource-type";
import { TraefikFile } from "../../provider/traefik-file";
import { isUnknown, secretsIn, unwrap, wrap } from "../../provider/wire";
import { temporaryFolder } from "./support/program";
import { isSecret, plain } from "./support/wire";

describe("the wire", () => {
  const fields = fc.dictionary(fc.string(), fc.option(fc.jsonValue(), { nil: undefined }));
  const withSecrets = fields.chain((all) => fc.tuple(fc.constant(all), fc.subarray(Object.keys(all))));
  const defined = (all: object) =>
    Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));

  it("gives back what was put on it, without what is undefined", () => {
    fc.assert(
      fc.property(withSecrets, ([all, secrets]) => {
        expect(unwrap(wrap(all, secrets))).toStrictEqual(defined(all));
      }),
    );
  });

  it("knows which fields were put on it as secrets", () => {
    fc.assert(
      fc.property(withSecrets, ([all, secrets]) => {
        const expected = secrets.filter((key) => all[key] !== undefined);
        expect(secretsIn(wrap(all, secrets)).toSorted()).toEqual(expected.toSorted());
      }),
    );
  });

  it("gives back what was put on it twice", () => {
    expect(unwrap(wrap({ a: wrap({ b: 1 }, ["b"]) }, ["a"]))).toEqual({ a: { b: 1 } });
    expect(unwrap([wrap({ b: 1 }, ["b"])])).toEqual([{ b: 1 }]);
  });

  it("has secrets in no other form than Pulumi's own", async () => {
    await pulumi.runtime.setMocks({ newResource: () => ({ id: "", state: {} }), call: () => ({}) });
    const written = await pulumi.runtime.serializeProperties("test", {
      password: pulumi.secret("p"),
      settings: { deep: [pulumi.secret("d"), pulumi.secret({ x: pulumi.secret(1) })] },
      memory: 5,
    });
    expect(secretsIn(written)).toContain("password");
    expect(secretsIn(written)).not.toContain("memory");
    expect(unwrap(written)).toEqual({ password: "p", settings: { deep: ["d", { x: 1 }] }, memory: 5 });
    expect(wrap({ password: "p" }, ["password"])).toEqual({ password: written.password });
  });

  it("stands for an output by its value, and for an unknown one by Pulumi's unknown value", () => {
    const output = { [pulumi.runtime.specialSigKey]: pulumi.runtime.specialOutputValueSig };
    expect(unwrap({ a: { ...output, value: [1] }, b: output })).toEqual({
      a: [1],
      b: pulumi.runtime.unknownValue,
    });
    expect(isUnknown(pulumi.runtime.unknownValue)).toBe(true);
    expect(isUnknown("known")).toBe(false);
  });
});

describe("the provider", () => {
  const provider = new Provider();
  const urn = (type: string) => `urn:pulumi:dev::pgs::pgs:index:PgTenant$pgs:index:${type}::acme`;
  const server = {
    container: "pgs-acme",
    containerId: "1",
    stack: "s",
    state: "running",
    image: "sha256:1",
    definition: "d",
    adopted: false,
    volume: "pgs-acme",
    network: "pgs-acme",
    database: "acme",
    password: "p",
    init: [],
    version: 18,
    settings: { work_mem: "4MB" },
    settingsWithRestart: { max_connections: "50" },
    settingsAtNextStart: { shared_buffers: "256MB" },
    positions: { work_mem: "tenants.yaml:5:7", max_connections: "tenants.yaml:5:22" },
    memory: 2 ** 30,
    cpus: 1,
    access: true,
    clients: "all",
    backup: { barman: "b", schedule: "02:30", retention: 7, stopped: false },
    route: { container: "pgs-proxy", path: "/etc/traefik/dynamic/route-acme.yml", content: "a" },
    farewell: "",
  };
  const network = {
    name: "pgs-acme",
    internal: true,
    pool: "10.213.0.0/16",
    prefixLength: 29,
    proxy: "1",
  };
  const file = { container: "pgs-proxy", path: "/etc/traefik/dynamic/a.yml", content: "a" };
  const unknown = pulumi.runtime.unknownValue;

  const diff = (type: string, olds: object, news: object) => provider.diff("id", urn(type), olds, news);

  /** What a look at the Docker host finds of each: by default, what the last `up` left. */
  let found: (state: object) => object | undefined;
  beforeEach(() => {
    found = (state) => state;
    const look = async (_id: string, state: object) => found(state);
    vi.spyOn(PostgresServer, "look").mockImplementation(look as never);
    vi.spyOn(Network, "look").mockImplementation(look as never);
    vi.spyOn(TraefikFile, "read").mockImplementation(look as never);
  });
  afterEach(() => vi.restoreAllMocks());

  it.each([
    ["PostgresServer", server],
    ["Network", network],
    ["TraefikFile", file],
  ])("sees no change in a %s that is as it was", async (type, state) => {
    expect(await diff(type, state, structuredClone(state))).toMatchObject({ changes: false, replaces: [] });
  });

  it.each([
    ["PostgresServer", { state: "stopped", image: undefined }, server],
    ["PostgresServer", { image: "sha256:2" }, server],
    ["PostgresServer", { definition: "e" }, server],
    ["PostgresServer", { database: "" }, server],
    ["PostgresServer", { password: "q" }, server],
    ["PostgresServer", { memory: 2 ** 31 }, server],
    ["PostgresServer", { cpus: 2 }, server],
    ["PostgresServer", { settings: { work_mem: "8MB" } }, server],
    ["PostgresServer", { settings: {} }, server],
    ["PostgresServer", { settingsWithRestart: { max_connections: "60" } }, server],
    ["PostgresServer", { settingsAtNextStart: { shared_buffers: "512MB" } }, server],
    ["PostgresServer", { access: false }, server],
    ["PostgresServer", { clients: "10.213.0.6/32" }, server],
    ["PostgresServer", { route: { ...server.route, content: "b" } }, server],
    ["PostgresServer", { backup: { ...server.backup, barman: "c" } }, server],
    ["PostgresServer", { backup: undefined }, server],
    ["PostgresServer", { farewell: "Its data is deleted." }, server],
    ["Network", { proxy: "2" }, network],
    ["TraefikFile", { content: "b" }, file],
  ])("updates a %s in place to %j", async (type, change, state) => {
    expect(await diff(type, state, { ...state, ...change })).toMatchObject({ changes: true, replaces: [] });
  });

  it.each([
    ["PostgresServer", "host", server],
    ["PostgresServer", "container", server],
    ["Network", "host", network],
    ["Network", "name", network],
    ["Network", "internal", network],
    ["TraefikFile", "host", file],
    ["TraefikFile", "container", file],
    ["TraefikFile", "path", file],
  ])("replaces a %s for another %s, the old one first", async (type, key, state) => {
    expect(await diff(type, state, { ...state, [key]: "another" })).toEqual({
      changes: true,
      replaces: [key],
      deleteBeforeReplace: true,
    });
  });

  it.each([
    ["PostgresServer", { init: ["/init/acme.sql"] }, server],
    ["PostgresServer", { volume: "pgs-other" }, server],
    ["PostgresServer", { positions: { work_mem: "tenants.yaml:6:7" } }, server],
    ["Network", { pool: "10.9.0.0/16" }, network],
    ["Network", { prefixLength: 20 }, network],
  ])(
    "leaves a %s alone for %j: that counts only when it is made, or in messages",
    async (type, change, state) => {
      expect(await diff(type, state, { ...state, ...change })).toMatchObject({
        changes: false,
        replaces: [],
      });
    },
  );

  it("counts a value that a preview does not know yet as a change", async () => {
    expect(await diff("PostgresServer", server, { ...server, image: unknown })).toMatchObject({
      changes: true,
      replaces: [],
    });
    expect(await diff("Network", network, { ...network, proxy: unknown })).toMatchObject({
      changes: true,
      replaces: [],
    });
  });

  it("compares what is inside a secret", async () => {
    const secret = (password: string) => wrap({ ...server, password }, ["password"]);
    expect(await diff("PostgresServer", secret("p"), secret("p"))).toMatchObject({ changes: false });
    expect(await diff("PostgresServer", server, secret("p"))).toMatchObject({ changes: false });
    expect(await diff("PostgresServer", secret("p"), secret("q"))).toMatchObject({ changes: true });
  });

  it.each([
    ["PostgresServer", { state: "exited" }, server],
    ["PostgresServer", { password: "" }, server],
    ["PostgresServer", { memory: 2 ** 29 }, server],
    ["Network", { proxy: "" }, network],
    ["TraefikFile", { content: "by hand" }, file],
  ])(
    "updates a %s of which %j was found, and says that it was changed by hand",
    async (type, change, state) => {
      const info = vi.spyOn(pulumi.log, "info").mockResolvedValue();
      found = (before) => ({ ...before, ...change });
      expect(await diff(type, state, structuredClone(state))).toMatchObject({ changes: true, replaces: [] });
      expect(info.mock.calls).toEqual([
        [`${type} acme was changed by hand (${Object.keys(change)}): an up puts it right`],
      ]);
    },
  );

  it.each([
    ["PostgresServer", server],
    ["Network", network],
    ["TraefikFile", file],
  ])("updates a %s that is gone, and says so", async (type, state) => {
    const info = vi.spyOn(pulumi.log, "info").mockResolvedValue();
    found = () => undefined;
    expect(await diff(type, state, structuredClone(state))).toMatchObject({ changes: true, replaces: [] });
    expect(info.mock.calls).toEqual([[`${type} acme is gone: an up puts it right`]]);
  });

  it("brings about again what an up left unfinished, whatever a look finds", async () => {
    found = () => server;
    expect(await diff("PostgresServer", { ...server, state: "incomplete" }, server)).toMatchObject({
      changes: true,
    });
  });

  it("says before a restart that a memory limit will cost one, and otherwise nothing", async () => {
    const warn = vi.spyOn(pulumi.log, "warn").mockResolvedValue();
    const before = { ...server, memory: 1000, sharedBuffers: 250 };
    for (const memory of [2000, 1000, 417, unknown])
      await diff("PostgresServer", before, { ...server, memory });
    expect(warn).not.toHaveBeenCalled();
    await diff("PostgresServer", before, { ...server, memory: 416 });
    expect(warn.mock.calls).toEqual([
      [expect.stringMatching(/^pgs-acme is restarted once: its shared_buffers /)],
    ]);
    warn.mockRestore();
  });

  it("says before a restart that another container will cost one", async () => {
    const warn = vi.spyOn(pulumi.log, "warn").mockResolvedValue();
    for (const change of [{ image: unknown }, { image: "sha256:2" }, { definition: "e" }]) {
      await diff("PostgresServer", server, { ...server, ...change });
    }
    const said = "pgs-acme is restarted once: its container is made anew";
    expect(warn.mock.calls).toEqual([[said], [said], [said]]);
    // Nothing runs before, or nothing afterwards.
    await diff("PostgresServer", { ...server, state: "stopped" }, { ...server, image: "sha256:2" });
    await diff("PostgresServer", server, { ...server, state: "stopped", image: undefined });
    expect(warn).toHaveBeenCalledTimes(3);
    warn.mockRestore();
  });

  it("knows by itself how a container is to be made, which a new version of it may change", async () => {
    const inputs = async (adopted: boolean) =>
      (await provider.check(urn("PostgresServer"), {}, { ...server, adopted })).inputs as typeof server;
    const definition = (await inputs(false)).definition;
    expect(definition).toMatch(/^[0-9a-f]{16}$/);
    expect(await inputs(false)).toEqual({ ...server, definition });
    expect((await inputs(true)).definition).not.toBe(definition);
  });

  it("sees a change in a part that refresh found gone", async () => {
    const { memory: _, ...without } = server;
    expect(await diff("PostgresServer", without, server)).toMatchObject({ changes: true, replaces: [] });
  });

  it.each(["", "ä", "line\nbreak", "tab\t", "a".repeat(257)])(
    "refuses the password %j before anything is planned",
    async (password) => {
      const news = wrap({ ...server, password }, ["password"]);
      const { failures } = await provider.check(urn("PostgresServer"), {}, news);
      expect(failures).toEqual([
        { property: "password", reason: expect.stringContaining("printable ASCII") },
      ]);
      if (password) expect(failures?.[0]?.reason).not.toContain(password);
    },
  );

  it.each([" ", "~!'\"\\$`%", "a".repeat(256), unknown])("accepts the password %j", async (password) => {
    const news = wrap({ ...server, password }, ["password"]);
    expect((await provider.check(urn("PostgresServer"), {}, news)).failures).toEqual([]);
  });

  it("refuses another major version for data that is there, and says which to write", async () => {
    const check = async (version: unknown, olds: object) =>
      (await provider.check(urn("PostgresServer"), olds, { ...server, version })).failures;
    expect(await check(19, server)).toEqual([
      { property: "version", reason: expect.stringContaining("write version: 18 again") },
    ]);
    expect(await check(18, server)).toEqual([]);
    expect(await check(19, {})).toEqual([]);
    expect(await check(unknown, server)).toEqual([]);
  });

  it("has all that is wrong in one answer", async () => {
    const { failures } = await provider.check(urn("PostgresServer"), server, {
      ...server,
      version: 17,
      password: "",
    });
    expect(failures?.map(({ property }) => property).toSorted()).toEqual(["password", "version"]);
  });

  it("refuses a range that no network can be taken from, and says which", async () => {
    const check = async (pool: string) =>
      (await provider.check(urn("Network"), {}, { ...network, pool })).failures;
    expect(await check("10.213.0.0/16")).toEqual([]);
    expect(await check(unknown)).toEqual([]);
    expect(await check("10.213.0.1/16")).toEqual([
      { property: "pool", reason: expect.stringContaining("got 10.213.0.1/16") },
    ]);
  });

  it("says of a type that it does not have that it has none", async () => {
    await expect(provider.check(urn("Nothing"), {}, {})).rejects.toThrow(
      "the pgs provider has no resource type pgs:index:Nothing",
    );
  });

  it("keeps the password of a half-made server a secret, and the id under which it is found again", async () => {
    // Reaching an engine sets this variable.
    vi.stubEnv("DOCKER_HOST", undefined);
    const host = `unix://${join(temporaryFolder(), "docker.sock")}`;
    const inputs = wrap({ ...server, host }, ["password"]);
    const error = await provider.create(urn("PostgresServer"), inputs).catch((reason) => reason);
    vi.unstubAllEnvs();
    expect(error).toBeInstanceOf(IncompleteError);
    expect(error.id).toBe("pgs-acme");
    expect(isSecret(error.properties.password)).toBe(true);
    expect(plain(error.properties.password)).toBe("p");
    expect(error.reasons).toEqual([expect.stringMatching(/^pgs-acme: /)]);
    expect(await diff("PostgresServer", error.properties, inputs)).toMatchObject({
      changes: true,
      replaces: [],
    });
  });
});

describe("a SCRAM verifier", () => {
  // The exchange of RFC 7677, section 3: user "user", password "pencil".
  const clientFirst = "n=user,r=rOprNGfwEbeRWgbNEkqO";
  const serverFirst =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
  const clientFinal = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
  const proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
  const signature = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
  const pencil =
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
  const password = fc.string({ unit: "grapheme-ascii", minLength: 1, maxLength: 256 });
  const hmac = (key: Buffer, text: string) => createHmac("sha256", key).update(text).digest();

  it("is what a server needs for the exchange of RFC 7677", () => {
    const [storedKey, serverKey] = (pencil.split("$")[2] ?? "")
      .split(":")
      .map((key) => Buffer.from(key, "base64")) as [Buffer, Buffer];
    const exchange = [clientFirst, serverFirst, clientFinal].join(",");
    const clientSignature = hmac(storedKey, exchange);
    const clientKey = Buffer.from(proof, "base64").map((byte, at) => byte ^ (clientSignature[at] ?? 0));
    expect(createHash("sha256").update(clientKey).digest()).toEqual(storedKey);
    expect(hmac(serverKey, exchange).toString("base64")).toBe(signature);
    expect(matches(pencil, "pencil")).toBe(true);
  });

  it("is in the form that PostgreSQL takes for a verifier, with a salt of its own", () => {
    const form = /^SCRAM-SHA-256\$4096:([A-Za-z0-9+/]{22}==)\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$/;
    const [one, other] = [scramVerifier("pencil"), scramVerifier("pencil")].map(
      (text) => form.exec(text)?.[1],
    );
    expect(one).toBeDefined();
    expect(other).toBeDefined();
    expect(one).not.toBe(other);
  });

  it("belongs to its password", () => {
    fc.assert(
      fc.property(password, (text) => matches(scramVerifier(text), text)),
      { numRuns: 30 },
    );
  });

  it("belongs to no other password", () => {
    fc.assert(
      fc.property(password, password, (text, other) => {
        fc.pre(text !== other);
        return !matches(scramVerifier(text), other);
      }),
      { numRuns: 30 },
    );
    expect(matches(pencil, "Pencil")).toBe(false);
    expect(matches(pencil, "")).toBe(false);
  });

  it("that is cut short, altered, of another kind or absent belongs to no password", () => {
    const md5 = `md5${createHash("md5").update("pencilpostgres").digest("hex")}`;
    const altered = [
      pencil.slice(0, -1),
      `${pencil} `,
      pencil.replace("4096", "4095"),
      pencil.replace("W22", "W23"),
    ];
    for (const stored of [...altered, md5, "pencil", "", null]) {
      expect(matches(stored, "pencil"), String(stored)).toBe(false);
    }
  });

  it("made with another number of iterations is understood", () => {
    // As PostgreSQL makes it with scram_iterations = 1 for the password "pencil" and the salt of RFC 7677.
    const salt = Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64");
    // One iteration of PBKDF2 is one HMAC of the salt and the block's number.
    const salted = createHmac("sha256", "pencil")
      .update(salt)
      .update(Buffer.from([0, 0, 0, 1]))
      .digest();
    const storedKey = createHash("sha256").update(hmac(salted, "Client Key")).digest("base64");
    const verifier = `SCRAM-SHA-256$1:${salt.toString("base64")}$${storedKey}:${hmac(salted, "Server Key").toString("base64")}`;
    expect(matches(verifier, "pencil")).toBe(true);
  });
});

describe("SQL", () => {
  /**
   * What PostgreSQL reads in an E'…' constant; undefined when the constant ends early.
   * https://www.postgresql.org/docs/18/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS-ESCAPE
   */
  function readLiteral(sql: string): string | undefined {
    const body = /^E'((?:[^'\\]|''|\\[\\'])*)'$/s.exec(sql)?.[1];
    return body?.replace(/''|\\(.)/gs, (pair, escaped) => escaped ?? pair[0]);
  }

  function readIdentifier(sql: string): string | undefined {
    return /^"((?:[^"]|"")+)"$/s.exec(sql)?.[1]?.replaceAll('""', '"');
  }

  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.string({ unit: fc.constantFrom("'", '"', "\\", "n", "x", ";", "-", "\n", "$", "\u2019") }),
  );

  it("has any text as one string constant", () => {
    fc.assert(
      fc.property(text, (value) => {
        expect(readLiteral(literal(value))).toBe(value);
      }),
    );
  });

  it("has any name as one identifier", () => {
    fc.assert(
      fc.property(text, (name) => {
        fc.pre(name !== "");
        expect(readIdentifier(identifier(name))).toBe(name);
      }),
    );
  });
});

describe("a setting in postgresql.auto.conf", () => {
  it("that is as it was asked for reads as it was asked for", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.stringMatching(/^x[a-z_]*$/), fc.string()), (settings) => {
        expect(asWritten(settings, settings)).toEqual(settings);
      }),
    );
  });

  it("that somebody changed, or took out, differs; what others put in is left out", () => {
    expect(
      asWritten(
        { work_mem: "16MB", jit: "off", max_connections: "50" },
        { work_mem: "1GB", max_connections: "50", log_statement: "all" },
      ),
    ).toEqual({ work_mem: "1GB", max_connections: "50" });
  });

  it.each([
    ["shared_preload_libraries", "pg_stat_statements,auto_explain", "pg_stat_statements, auto_explain"],
    ["shared_preload_libraries", " pg_stat_statements ", "pg_stat_statements"],
    ["shared_preload_libraries", "$libdir/a.so", '"$libdir/a.so"'],
    ["search_path", "app, Other, 1st", 'app, "Other", "1st"'],
    ["search_path", "app,, other,", "app, other"],
    ["search_path", '"$user",public', '"$user", public'],
    ["search_path", "user, order", '"user", "order"'],
    ["search_path", '"a ""b"", c", d', '"a ""b"", c", d'],
  ])("that is a list of names reads as it was asked for: %s = %j", (name, asked, present) => {
    expect(asWritten({ [name]: asked }, { [name]: present })).toEqual({ [name]: asked });
  });

  it("that is a list of names differs when a name does", () => {
    const present = { search_path: '"app, other"' };
    expect(asWritten({ search_path: "app, other" }, present)).toEqual(present);
  });

  it("that holds a comma but is no list of names stays as it is", () => {
    const settings = { datestyle: "ISO, DMY" };
    expect(asWritten(settings, settings)).toEqual(settings);
    const quoted = { datestyle: '"ISO", "DMY"' };
    expect(asWritten(settings, quoted)).toEqual(quoted);
  });
});

describe("the range of the tenants' networks", () => {
  it("is read as its first address and its prefix length", () => {
    expect(parsePool("10.213.0.0/16")).toEqual({ base: 0x0a_d5_00_00, length: 16 });
    expect(parsePool("10.0.0.0/8")).toEqual({ base: 0x0a_00_00_00, length: 8 });
    expect(parsePool("192.168.255.248/29")).toEqual({ base: 0xc0_a8_ff_f8, length: 29 });
    expect(parsePool("255.255.255.248/29")).toEqual({ base: 0xff_ff_ff_f8, length: 29 });
  });

  it.each([
    "",
    "10.213.0.0",
    "10.0.0.0/7",
    "10.213.0.0/30",
    "10.213.0.0/16 ",
    "10.213.0/16",
    "10.213.0.0.0/16",
    "10.256.0.0/16",
    "10.-1.0.0/16",
    "fd00::/16",
    "a.b.c.d/16",
  ])("cannot be %j", (range) => {
    expect(parsePool(range)).toBeUndefined();
  });

  it("starts at a multiple of its own size", () => {
    fc.assert(
      fc.property(
        fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)),
        fc.integer({ min: 8, max: 29 }),
        (octets, length) => {
          const bits = octets.map((octet) => octet.toString(2).padStart(8, "0")).join("");
          const aligned = !bits.slice(length).includes("1");
          expect(parsePool(`${octets.join(".")}/${length}`)).toEqual(
            aligned ? { base: Number.parseInt(bits, 2), length } : undefined,
          );
        },
      ),
    );
    expect(parsePool("10.213.0.8/28")).toBeUndefined();
    expect(parsePool("10.213.0.16/28")).toBeDefined();
  });
});

describe("the subnets that are tried for a network", () => {
  const pool = { base: 0x0a_d5_00_00, length: 16 };
  const tried = (length: number, name = "pgs-acme") => [...candidates(pool, length, name)];
  const size = ({ length }: { length: number }) => 2 ** (32 - length);

  it("are all of the pool, each once", () => {
    const bases = tried(29).map(({ base }) => base);
    expect(new Set(bases).size).toBe(2 ** 13);
    expect(Math.min(...bases)).toBe(pool.base);
    expect(Math.max(...bases)).toBe(pool.base + 2 ** 16 - 8);
  });

  it("leave the upper half to larger networks, as long as there is room in the lower one", () => {
    const firsts = Array.from({ length: 500 }, (_, index) => tried(29, `pgs-t${index}`)[0]?.base ?? 0);
    expect(Math.max(...firsts)).toBeLessThan(pool.base + 2 ** 15);
    expect(new Set(firsts).size).toBeGreaterThan(400);
    expect(tried(20)[0]).toEqual({ base: pool.base + 2 ** 16 - 2 ** 12, length: 20 });
  });

  it("become smaller for a large network where small ones lie in every part of the pool", () => {
    const taken = Array.from({ length: 16 }, (_, index) => pool.base + index * 4096 + 8);
    const free = tried(20).find((subnet) =>
      taken.every((base) => base + 8 <= subnet.base || base >= subnet.base + size(subnet)),
    );
    expect(free).toEqual({ base: pool.base + 2 ** 16 - 2048, length: 21 });
    expect(Math.max(...tried(20).map(({ length }) => length))).toBe(24);
  });
});
