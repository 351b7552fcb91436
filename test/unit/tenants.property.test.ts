import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { stringify } from "yaml";
import { parseTenants, type Tenant, TenantsFileError } from "../../tenants";

// A busy machine takes its time for thousands of texts.
vi.setConfig({ testTimeout: 300_000 });

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tenants-"));
  mkdirSync(join(folder, "init"));
  for (const script of ["a", "b", "c"]) writeFileSync(join(folder, `init/${script}.sql`), "SELECT 1;");
});

afterAll(() => rmSync(folder, { recursive: true }));

const versions = [16, 17, 18];
const parse = (text: string) => parseTenants(text, { folder, images: versions.map(String) });

/** What a text is: tenants or a list of problems. Whatever else it throws fails the test. */
function read(text: string): Tenant[] | TenantsFileError {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof TenantsFileError) return error;
    throw error;
  }
}

/** A file that says everything that tenants have, with no need of a default. */
function format(tenants: readonly Tenant[]): string {
  return stringify({
    tenants: Object.fromEntries(
      tenants.map(
        ({ id, memory, disk, sync, extensions, positions: _, initFiles: __, newDatabase, ...fields }) => [
          id,
          {
            ...fields,
            ...newDatabase,
            memory: `${memory / 1024}Ki`,
            disk: disk === undefined ? "off" : `${disk / 1024}Ki`,
            sync: sync ? "on" : "off",
            extensions: extensions.map(({ name, version }) => (version ? `${name}@${version}` : name)),
          },
        ],
      ),
    ),
  });
}

function withoutPositions(tenants: readonly Tenant[]) {
  return tenants.map(({ positions: _, ...tenant }) => tenant);
}

/** True for what is accepted and survives being written and read again; problems have to have a place. */
function holds(text: string): boolean {
  const result = read(text);
  if (result instanceof TenantsFileError) {
    const lines = text.split("\n");
    expect(result.problems.length).toBeGreaterThan(0);
    expect(result.message.split("\n")).toHaveLength(result.problems.length);
    for (const { line, column, message } of result.problems) {
      expect(lines.length).toBeGreaterThanOrEqual(line);
      expect((lines[line - 1] ?? "").length + 1).toBeGreaterThanOrEqual(column);
      expect(message).not.toBe("");
    }
    return false;
  }
  expect(withoutPositions(parse(format(result)))).toEqual(withoutPositions(result));
  return true;
}

const label = fc.stringMatching(/^[a-z]([a-z0-9-]{0,20}[a-z0-9])?$/);
const id = label.filter(
  (name) => !name.includes("--") && !["postgres", "template0", "template1", "proxy"].includes(name),
);

const sharedFields = {
  version: fc.constantFrom(...versions),
  memory: fc.oneof(
    fc.integer({ min: 131_072, max: 2 ** 32 }).map((size) => `${size}Ki`),
    fc.integer({ min: 128, max: 2 ** 22 }).map((size) => `${size}Mi`),
    fc.integer({ min: 1, max: 4096 }).map((size) => `${size}Gi`),
  ),
  cpus: fc.integer({ min: 5, max: 51_200 }).map((hundredths) => hundredths / 100),
  access: fc.boolean(),
  state: fc.constantFrom("running", "stopped"),
  settings: fc.dictionary(
    fc.stringMatching(/^x_[a-z0-9_]{0,5}\.[a-z0-9_.]{0,10}$/),
    fc.oneof(
      fc.string({ unit: "binary", maxLength: 30 }).filter((value) => !/[\0\r\n\p{Cs}]/u.test(value)),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.boolean(),
    ),
    { maxKeys: 4 },
  ),
  allow: fc.array(
    fc.oneof(
      fc.ipV4(),
      fc.ipV6().filter((address) => isIP(address) === 6 && !/^::ffff:/i.test(address)),
      fc.tuple(fc.ipV4(), fc.nat(32)).map(([address, length]) => `${address}/${length}`),
    ),
    { minLength: 1, maxLength: 4 },
  ),
  locale: fc.constantFrom("C", "sv_SE.UTF-8", "de_DE@euro"),
  icu: fc.constantFrom("sv", "de-DE-u-kn-true"),
  encoding: fc.constant("UTF8"),
  extensions: fc
    .uniqueArray(
      fc.record(
        {
          name: fc.stringMatching(/^[A-Za-z_]\w{0,10}(-\w{1,5})?$/),
          version: fc.stringMatching(/^[\w.+]{1,8}(-[\w.+]{1,3})?$/),
        },
        { requiredKeys: ["name"] },
      ),
      { selector: ({ name }) => name, maxLength: 4 },
    )
    .map((all) => all.map(({ name, version }) => (version ? `${name}@${version}` : name))),
  roles: fc.dictionary(
    fc.constantFrom("app", "read-only", "_x1", "constructor"),
    fc.option(
      fc.record(
        {
          grants: fc.constantFrom("readonly", "readwrite", "owner"),
          connectionLimit: fc.integer({ min: -1, max: 100_000 }),
          validUntil: fc.constantFrom("2027-01-31T00:00:00Z", "2027-01-31 00:00+02:00"),
          settings: fc.dictionary(fc.constantFrom("jit", "x.y.z"), fc.boolean()),
          inRoles: fc.subarray(["pg_monitor", "it's", 'a "b"']),
          passwordVersion: fc.integer({ min: 1 }),
        },
        { requiredKeys: [] },
      ),
    ),
    { maxKeys: 2 },
  ),
  disk: fc.constantFrom("off", "512Mi", "10Gi", "900000Gi"),
  replicas: fc.integer({ min: 1, max: 8 }),
  sync: fc.constantFrom("off"),
  maxConnectionsPerClient: fc.integer({ min: 0, max: 1_000_000 }),
  pooler: fc.record(
    { mode: fc.constantFrom("transaction", "session", "off"), size: fc.integer({ min: 1, max: 20 }) },
    { requiredKeys: [] },
  ),
  passwordVersion: fc.integer({ min: 1 }),
  onRemove: fc.constantFrom("retain", "delete"),
};

const tenantFields = {
  ...sharedFields,
  init: fc.subarray(["init/a.sql", "init/b.sql", "./init/c.sql"]),
};

/** Files that are right, as data. */
const validFile = fc
  .record({
    defaults: fc.option(fc.record(sharedFields, { requiredKeys: [] })),
    tenants: fc.dictionary(id, fc.option(fc.record(tenantFields, { requiredKeys: [] })), { maxKeys: 5 }),
  })
  // Hostnames that no other tenant has by itself.
  .chain(({ defaults, tenants }) =>
    fc.boolean().map((named) => ({
      defaults,
      tenants: Object.fromEntries(
        Object.entries(tenants).map(([name, fields], index) => [
          name,
          named && fields ? { ...fields, hostname: `${index}-host` } : fields,
        ]),
      ),
    })),
  );

/** What stands in a wrong place: any JSON, with the words of the format among its keys and values. */
const word = fc.constantFrom(
  ..."defaults tenants acme version memory cpus disk access state tls allow maxConnectionsPerClient locale encoding icu hostname init settings superuser roles app grants inRoles passwordVersion onRemove".split(
    " ",
  ),
  "512Mi",
  "__proto__",
  "constructor",
  "toString",
  "<<",
  "",
);
const anyJson = fc.letrec((tie) => ({
  value: fc.oneof({ depthSize: "small" }, fc.jsonValue(), word, fc.array(tie("value")), tie("map")),
  map: fc
    .array(fc.tuple(fc.oneof(word, fc.string()), tie("value")), { maxLength: 6 })
    .map(Object.fromEntries),
})).value;

/** Pieces of YAML whose combinations reach most of its grammar. */
const yamlSoup = fc
  .array(
    fc.oneof(
      word,
      fc.constantFrom(
        ..."\n|: |- |? |  |{|}|[|]|,|&a |*a|<<: |!!str |!x |\t|#|---\n|...\n|\"|'|>\n|%YAML 1.1\n|@|~|0640|.inf|\r\n|yes|2001-01-01|\ufeff|!!set |!!omap |!!binary ".split(
          "|",
        ),
        "|\n",
      ),
      fc.string({ maxLength: 4 }),
    ),
    { maxLength: 40 },
  )
  .map((pieces) => pieces.join(""));

describe("any text is either tenants that round-trip or a TenantsFileError with places", () => {
  it("for arbitrary strings", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
        holds(text);
      }),
      { numRuns: 1000 },
    );
  });

  it("for pieces of YAML in any order", () => {
    fc.assert(
      fc.property(
        yamlSoup,
        fc.constantFrom("", "tenants:\n  acme: ", "tenants: { acme: {} }\n"),
        (soup, before) => {
          holds(before + soup);
        },
      ),
      { numRuns: 3000 },
    );
  });

  it("for arbitrary JSON written as YAML, with and without the right outer shape", () => {
    const shapes = fc.oneof(
      anyJson,
      fc.record({ tenants: anyJson }),
      fc.record({ tenants: fc.dictionary(id, anyJson, { maxKeys: 3 }) }),
      fc.record({
        defaults: anyJson,
        tenants: fc.dictionary(id, fc.record({ settings: anyJson, init: anyJson })),
      }),
    );
    fc.assert(
      fc.property(shapes, fc.boolean(), (data, asJson) => {
        holds(asJson ? JSON.stringify(data) : stringify(data));
      }),
      { numRuns: 400 },
    );
  });

  it("for files that were right until somebody cut, repeated or inserted something", () => {
    const change = fc.record({
      at: fc.nat(),
      cut: fc.nat(12),
      insert: fc.oneof(yamlSoup, fc.string({ maxLength: 5 })),
    });
    fc.assert(
      fc.property(validFile, fc.array(change, { minLength: 1, maxLength: 3 }), (file, changes) => {
        const text = changes.reduce((before, { at, cut, insert }) => {
          const start = at % (before.length + 1);
          return before.slice(0, start) + insert + before.slice(start + cut);
        }, stringify(file));
        holds(text);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("a file that is right", () => {
  it("is accepted and round-trips, in block style and as JSON", () => {
    fc.assert(
      fc.property(validFile, (file) => {
        expect(holds(stringify(file))).toBe(true);
        expect(holds(JSON.stringify(file))).toBe(true);
        expect(withoutPositions(parse(JSON.stringify(file)))).toEqual(
          withoutPositions(parse(stringify(file))),
        );
      }),
      { numRuns: 300 },
    );
  });

  it("means the same whichever of its tenants comes first", () => {
    const byId = (tenants: Tenant[]) => withoutPositions(tenants).sort((a, b) => (a.id < b.id ? -1 : 1));
    fc.assert(
      fc.property(validFile, ({ defaults, tenants }) => {
        const reversed = Object.fromEntries(Object.entries(tenants).reverse());
        expect(byId(parse(stringify({ defaults, tenants: reversed })))).toEqual(
          byId(parse(stringify({ defaults, tenants }))),
        );
      }),
      { numRuns: 100 },
    );
  });
});
