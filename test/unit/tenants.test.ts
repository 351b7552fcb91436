import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ParseOptions, parseTenants, positionOf, readTenants, TenantsFileError } from "../../tenants";
import { backupPlan } from "../../tenants/backup";
import { extensionSettings } from "../../tenants/extensions";
import { tenantsJsonSchema } from "../../tenants/json-schema";
import { nearest } from "../../tenants/suggest";

const project = join(__dirname, "../..");
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tenants-"));
  mkdirSync(join(folder, "init"));
  writeFileSync(join(folder, "init/a.sql"), "SELECT 1;");
  writeFileSync(join(folder, "init/b.sql"), "SELECT 2;");
});

afterAll(() => rmSync(folder, { recursive: true }));

/** The tenants of a text. */
function parse(text: string, options: ParseOptions = {}) {
  return parseTenants(text, { folder, ...options });
}

/** The first tenant of a file in which it has these fields, written in YAML's one-line form. */
function tenant(fields: string) {
  const [first] = parse(`tenants: { acme: { ${fields} } }`);
  if (!first) throw new Error("no tenant");
  return first;
}

/** The lines of the error that a text gives; none when it is accepted. */
function errorsOf(text: string, options: ParseOptions = {}): string[] {
  try {
    parse(text, options);
    return [];
  } catch (error) {
    if (!(error instanceof TenantsFileError)) throw error;
    expect(error.problems).toHaveLength(error.message.split("\n").length);
    return error.message.split("\n");
  }
}

/** What is said about one tenant's field, without the position. */
function errorOf(fields: string): string {
  const lines = errorsOf(`tenants: { acme: { ${fields} } }`);
  expect(lines.length).toBeLessThanOrEqual(1);
  return (lines[0] ?? "accepted").replace(/^tenants\.yaml:1:\d+: (tenants\.acme\.)?/, "");
}

describe("a file that is right", () => {
  it("gives a tenant without fields every default", () => {
    const expected = {
      hostname: undefined,
      tls: "terminate",
      version: 18,
      image: undefined,
      extensions: [],
      memory: 512 * 2 ** 20,
      cpus: 1,
      replicas: 0,
      sync: false,
      access: true,
      state: "running",
      superuser: "on",
      newDatabase: {},
      init: [],
      initFiles: [],
      settings: {},
      roles: {},
      backup: {},
      passwordVersion: 1,
      onRemove: "retain",
    };
    expect(parse("tenants:\n  acme:\n  globex: {}\n")).toEqual([
      { ...expected, id: "acme", positions: { "": "tenants.yaml:2:3" } },
      { ...expected, id: "globex", positions: { "": "tenants.yaml:3:3" } },
    ]);
  });

  it("keeps the order of the file", () => {
    expect(parse("tenants: { zeta: {}, alpha: {}, mid: {} }").map(({ id }) => id)).toEqual([
      "zeta",
      "alpha",
      "mid",
    ]);
  });

  it("may have no tenants when it says so", () => {
    expect(parse("tenants: {}")).toEqual([]);
  });

  it("may leave defaults empty", () => {
    expect(parse("defaults:\ntenants: { acme: }")).toHaveLength(1);
  });

  it("applies defaults where the tenant says nothing", () => {
    const [acme, globex] = parse(
      [
        "defaults: { version: 17, memory: 1Gi, cpus: 2, access: false, state: stopped, passwordVersion: 3, onRemove: delete }",
        "tenants:",
        "  acme: {}",
        "  globex: { version: 18, memory: 256Mi, cpus: 0.5, access: true, state: running, passwordVersion: 1, onRemove: retain }",
      ].join("\n"),
      { images: ["17", "18"] },
    );
    expect(acme).toMatchObject({
      version: 17,
      memory: 2 ** 30,
      cpus: 2,
      access: false,
      state: "stopped",
      passwordVersion: 3,
      onRemove: "delete",
    });
    expect(globex).toMatchObject({
      version: 18,
      memory: 2 ** 28,
      cpus: 0.5,
      access: true,
      state: "running",
      passwordVersion: 1,
      onRemove: "retain",
    });
  });

  it("merges settings over those of defaults, name by name", () => {
    const [acme] = parse(
      "defaults: { settings: { work_mem: 4MB, jit: true } }\ntenants: { acme: { settings: { work_mem: 8MB, max_connections: 50 } } }",
    );
    expect(acme?.settings).toEqual({ work_mem: "8MB", jit: "on", max_connections: "50" });
  });

  it("writes setting values as PostgreSQL reads them", () => {
    const { settings } = tenant(
      "settings: { jit: true, fsync: false, random_page_cost: 1.5, work_mem: 16MB, app.e: off, log_line_prefix: '' }",
    );
    expect(settings).toEqual({
      jit: "on",
      fsync: "off",
      random_page_cost: "1.5",
      work_mem: "16MB",
      "app.e": "off",
      log_line_prefix: "",
    });
  });

  it("has the locale of a new database, that of defaults too", () => {
    const [acme, globex] = parse(
      "{ defaults: { locale: sv_SE.UTF-8 }, tenants: { acme: { icu: sv, encoding: UTF8 }, globex: {} } }",
    );
    expect(acme?.newDatabase).toEqual({ locale: "sv_SE.UTF-8", icu: "sv", encoding: "UTF8" });
    expect(globex?.newDatabase).toEqual({ locale: "sv_SE.UTF-8" });
    expect(errorOf("encoding: utf-8")).toMatch(/^encoding: .*got "utf-8"; write UTF8$/);
    expect(errorOf("encoding: LATIN1")).toMatch(/^encoding: LATIN1 needs a locale .*; write locale: C/);
    expect(errorOf("locale: C, encoding: LATIN1")).toBe("accepted");
    expect(errorOf('locale: "C\'; DROP"')).toMatch(/^locale: expected a locale/);
  });

  it("gives init scripts as written and as absolute paths", () => {
    const { init, initFiles } = tenant("init: [init/a.sql, ./init/b.sql]");
    expect(init).toEqual(["init/a.sql", "./init/b.sql"]);
    expect(initFiles).toEqual([join(folder, "init/a.sql"), join(folder, "init/b.sql")]);
  });

  it("may use anchors, aliases and merge keys", () => {
    const [acme, globex, initech] = parse(
      [
        "tenants:",
        "  acme: &small { memory: 256Mi, settings: &fast { jit: off } }",
        "  globex: { <<: *small, memory: 1Gi }",
        "  initech: { settings: *fast }",
      ].join("\n"),
    );
    expect(acme?.memory).toBe(2 ** 28);
    expect(globex).toMatchObject({ memory: 2 ** 30, settings: { jit: "off" } });
    expect(initech?.settings).toEqual({ jit: "off" });
  });

  it("may use one alias for more than a hundred tenants", () => {
    const many = Array.from({ length: 300 }, (_, index) => `  t${index}: *base`);
    expect(parse(["tenants:", "  base: &base { memory: 1Gi }", ...many].join("\n"))).toHaveLength(301);
  });

  it("may have Windows line ends and a byte order mark", () => {
    expect(parse("\ufefftenants:\r\n  acme:\r\n    cpus: 2\r\n")).toMatchObject([{ id: "acme", cpus: 2 }]);
  });

  it("says where a field is for later messages: in the tenant, in defaults, else the tenant itself", () => {
    const [acme] = parse(
      "defaults:\n  cpus: 2\n  settings: { jit: off }\ntenants:\n  acme:\n    memory: 1Gi\n    settings:\n      work_mem: 1MB\n",
    );
    if (!acme) throw new Error("no tenant");
    const fields = ["memory", "settings.work_mem", "settings.jit", "cpus", "access", "constructor"];
    expect(fields.map((field) => positionOf(acme, field))).toEqual([
      "tenants.yaml:6:13",
      "tenants.yaml:8:17",
      "tenants.yaml:3:20",
      "tenants.yaml:2:9",
      "tenants.yaml:5:3",
      "tenants.yaml:5:3",
    ]);
  });
});

describe("an adopted volume", () => {
  it("is one tenant's alone, and is never deleted", () => {
    const text = [
      "defaults: { onRemove: delete }",
      "tenants:",
      "  a: { volume: app_a-data }",
      "  b: { volume: app_a-data, onRemove: retain }",
      "  c: { volume: -x, onRemove: delete }",
      "  d: { volume: app_d, onRemove: retain }",
    ].join("\n");
    const never = "came from elsewhere and is never deleted by an up; write onRemove: retain";
    expect(errorsOf(text)).toEqual([
      expect.stringContaining(`tenants.yaml:3:3: tenants.a.onRemove: the volume "app_a-data" ${never}`),
      "tenants.yaml:4:16: tenants.b.volume: the volume app_a-data is that of tenants.a (line 3) already; each tenant has its own",
      expect.stringMatching(
        /^tenants.yaml:5:16: tenants.c.volume: expected the name of a Docker volume: .*, got "-x"$/,
      ),
      expect.stringContaining(`tenants.yaml:5:30: tenants.c.onRemove: the volume "-x" ${never}`),
    ]);
  });
});

describe("a tenant that is made from another's backups", () => {
  it("names the other one, and as of when", () => {
    const [copy, clone] = parse(
      "tenants:\n  copy: { restoreFrom: { tenant: gone, at: 2026-01-02T03:04:05Z } }\n  clone: { restoreFrom: { tenant: copy } }",
    );
    expect(copy?.restoreFrom).toEqual({ tenant: "gone", at: "2026-01-02T03:04:05Z" });
    expect(clone?.restoreFrom).toEqual({ tenant: "copy" });
  });

  it.each([
    ["{ at: 2026-01-02T03:04:05Z }", /restoreFrom\.tenant: /],
    ["globex", /restoreFrom: expected a map with the keys tenant and at/],
    ["{ tenant: Globex }", /restoreFrom\.tenant: expected a tenant's id, got "Globex"; write globex$/],
    ["{ tenant: globex, at: 2026-01-02 }", /restoreFrom\.at: expected a time with its zone/],
    ["{ tenant: globex, at: 2026-01-02T03:04:05 }", /restoreFrom\.at: expected a time with its zone/],
    ["{ tenant: globex, at: 2026-13-02T03:04:05Z }", /restoreFrom\.at: expected a time with its zone/],
    ["{ tenant: globex, at: 2999-01-02T03:04:05Z }", /restoreFrom\.at: expected a time in the past/],
    ["{ tenant: globex, when: now }", /restoreFrom\.when: there is no field when.*\(allowed: tenant, at\)/],
  ])("cannot say restoreFrom: %s", (value, message) => {
    const errors = errorsOf(`tenants: { acme: { restoreFrom: ${value} } }`);
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatch(message);
  });

  it("may be made from its own backups, as on a new host, and keeps what its entry says", () => {
    const entry = "restoreFrom: { tenant: acme }, volume: old";
    expect(parse(`tenants: { acme: { ${entry} } }`)[0]?.restoreFrom).toEqual({ tenant: "acme" });
  });

  it("has no init scripts, which are for a new database", () => {
    const errors = errorsOf("tenants: { acme: { restoreFrom: { tenant: b }, init: [init/globex.sql] } }");
    expect(errors[0]).toMatch(/acme\.init: init scripts are for a new database/);
    expect(errorsOf("tenants: { acme: { restoreFrom: { tenant: b }, volume: old } }")).toEqual([
      expect.stringMatching(/acme\.volume: this volume came with its data/),
    ]);
  });
});

describe("how a tenant is backed up", () => {
  it("is what it says itself, over defaults, over the stack", () => {
    const [acme, globex, none] = parse(
      "defaults: { backup: { schedule: 03:00, retention: 14d } }\ntenants:\n  acme: {}\n  globex: { backup: { retention: 30d } }\n  none: { backup: { schedule: off } }",
    );
    const stack = { schedule: "02:30", retention: "7d" };
    expect(acme && backupPlan(acme, stack)).toEqual({ schedule: "03:00", retention: "14d" });
    expect(globex && backupPlan(globex, stack)).toEqual({ schedule: "03:00", retention: "30d" });
    expect(none && backupPlan(none, stack)).toEqual({ schedule: "off", retention: "14d" });
    expect(acme && backupPlan(acme, { ...stack, schedule: "off" }).schedule).toBe("off");
    const [plain] = parse("tenants: { acme: {} }");
    expect(plain && backupPlan(plain, stack)).toEqual(stack);
  });

  it.each([
    ["off", /backup: expected a map with the keys schedule and retention/],
    [
      "{ schedule: daily }",
      /acme\.backup\.schedule: expected off, or a time of day \(UTC\) such as 02:30, got "daily"/,
    ],
    ["{ schedule: 24:00 }", /acme\.backup\.schedule: expected off, or a time of day/],
    ["{ schedule: false }", /acme\.backup\.schedule: expected off, or a time of day/],
    ["{ retention: 7 }", /acme\.backup\.retention: expected a number of days such as 14d, got 7/],
    ["{ retention: 0d }", /acme\.backup\.retention: expected a number of days/],
    ["{ retain: 7d }", /backup\.retain: there is no field retain.*\(allowed: schedule, retention\)/],
  ])("cannot be %s", (value, message) => {
    for (const text of [
      `tenants: { acme: { backup: ${value} } }`,
      `defaults: { backup: ${value} }\ntenants: {}`,
    ]) {
      const errors = errorsOf(text);
      expect(errors).toHaveLength(1);
      expect(errors[0]?.replace("defaults.backup", "tenants.acme.backup")).toMatch(message);
    }
  });

  it("may be that of a tenant whose id is backup", () => {
    expect(errorsOf("tenants: { backup: { memry: 1Gi } }")[0]).toMatch(/did you mean memory\?/);
  });
});

describe("the file as a whole", () => {
  it.each(["", "\n", "# only a comment\n", "---\n", "null"])("has to say something (%j)", (text) => {
    expect(errorsOf(text)).toEqual([
      "tenants.yaml:1:1: the file is empty; write `tenants: { acme: {} }` for one tenant, or `tenants: {}` for none",
    ]);
  });

  it("has to name tenants, even when there are none", () => {
    const message = "tenants: expected a map from tenant id to fields; write {} for no tenants, got nothing";
    expect(errorsOf("defaults: {}")).toEqual([`tenants.yaml:1:1: ${message}`]);
    expect(errorsOf("defaults: {}\ntenants:")).toEqual([`tenants.yaml:2:1: ${message}`]);
  });

  it("is a map", () => {
    expect(errorsOf("- acme")).toEqual([
      "tenants.yaml:1:1: expected a map with the keys defaults and tenants, got a list",
    ]);
  });

  it("reports every problem at once, in the order of the file, each with its place", () => {
    const text = [
      "defaults:", // 1
      "  memroy: 1Gi", // 2
      "  memory: 512MB", // 3
      "tenants:", // 4
      "  acme:", // 5
      "    access: yes", // 6
      "    password_version: 2", // 7
      "  Acme_Inc: { cpus: '2' }", // 8
      "  globex: { hostname: acme, init: [init/none.sql, init/a.sql, ./init/a.sql] }", // 9
      "  globex: {}", // 10
      "  1: {}", // 11
      "  initech: { settings: { port: 5, work_mem: [1] } }", // 12
    ].join("\n");
    const shared =
      "version, image, memory, cpus, disk, replicas, sync, access, state, tls, allow, maxConnectionsPerClient, pooler, locale, encoding, icu, extensions, settings, superuser, roles, passwordVersion, backup, onRemove";
    expect(errorsOf(text)).toEqual([
      `tenants.yaml:2:3: defaults.memroy: there is no field memroy; did you mean memory? (allowed: ${shared})`,
      'tenants.yaml:3:11: defaults.memory: expected a whole number with the unit Ki, Mi or Gi, such as 512Mi, got "512MB"; write 512Mi',
      'tenants.yaml:6:13: tenants.acme.access: expected a boolean: true or false, got "yes"',
      `tenants.yaml:7:5: tenants.acme.password_version: there is no field password_version; did you mean passwordVersion? (allowed: ${shared}, hostname, init, volume, restoreFrom)`,
      "tenants.yaml:8:3: tenants.Acme_Inc: a tenant id has lower-case letters, digits and single hyphens between them, at most 48 characters, a letter first; write acme-inc",
      'tenants.yaml:8:21: tenants.Acme_Inc.cpus: expected a number of CPUs from 0.05 to 512 with at most two decimals, such as 2 or 0.5, got "2"',
      "tenants.yaml:9:23: tenants.globex.hostname: the hostname acme is that of tenants.acme (line 5) already; each tenant needs its own",
      `tenants.yaml:9:36: tenants.globex.init[0]: "init/none.sql" does not exist (looked for ${folder}/init/none.sql)`,
      "tenants.yaml:9:63: tenants.globex.init[2]: this script is in the list already; each runs once",
      "tenants.yaml:10:3: tenants.globex: this key is there twice, first in line 9; remove one",
      'tenants.yaml:11:3: tenants: a key has to be text, got 1; in quotes, "1", it is text',
      "tenants.yaml:12:26: tenants.initech.settings.port: port cannot be set: files, addresses, port and TLS of a server belong to the platform; leave it out",
      "tenants.yaml:12:45: tenants.initech.settings.work_mem: expected text, a number, true or false, got a list",
    ]);
  });

  it("names roles that a tenant without a superuser cannot have", () => {
    const text = [
      "defaults: { superuser: off, roles: { acme: {} } }", // 1
      "tenants:", // 2
      "  acme: { roles: { app: { inRoles: [pg_monitor, pg_read_server_files] } } }", // 3
      "  globex: { superuser: on, roles: { globex: { inRoles: [pg_read_server_files] } } }", // 4
      "  initech: { superuser: false }", // 5
    ].join("\n");
    expect(errorsOf(text)).toEqual([
      "tenants.yaml:1:38: defaults.roles.acme: with superuser: off, acme itself logs in as a role of this name; choose another",
      "tenants.yaml:3:49: tenants.acme.roles.app.inRoles[1]: members of pg_read_server_files can become superusers, and superuser is off for acme; take it out",
      "tenants.yaml:5:25: tenants.initech.superuser: expected on or off, got false",
    ]);
  });

  it("names init scripts that psql could not run, or would run elsewhere, before anything is planned", () => {
    const dump = "--\n-- PostgreSQL database dump\n--\n\nCREATE DATABASE acme;\n\\connect acme\n";
    const files: [string, string | Buffer, RegExp | undefined][] = [
      ["run.sh", "#!/bin/sh", /"init\/run\.sh" is a shell script, .*as SQL, or run it yourself/],
      ["all.sql", dump, /init\/all\.sql:5: CREATE DATABASE in a dump would leave .* without --create/],
      ["all.sql.gz", gzipSync(dump), /init\/all\.sql\.gz:5: CREATE DATABASE/],
      ["acme.dump", "PGDMP\x01", /a dump in a format of pg_restore's, .*\.\/pgs load ID < init\/acme\.dump/],
      ["plain.gz", "SELECT 1;", /"init\/plain\.gz" is no gzip file/],
      ["broken.gz", Buffer.from([0x1f, 0x8b, 1, 2]), /is damaged/],
      ["huge.sql.gz", Buffer.concat([gzipSync("SELECT 1;").subarray(0, -1), Buffer.from([0xf0])]), /256 MiB/],
      ["packed.sql.gz", gzipSync("SELECT 1;"), undefined],
      ["own.sql", "CREATE DATABASE second;\n\\connect second\n", undefined],
    ];
    for (const [name, content, expected] of files) {
      writeFileSync(join(folder, "init", name), content);
      const error = errorOf(`init: [init/${name}]`);
      if (expected) expect(error).toMatch(expected);
      else expect(error).toBe("accepted");
    }
  });

  it("has its problems as data, too", () => {
    expect(() => parse("tenants: { acme: { cpus: 0 } }")).toThrow(
      expect.objectContaining({
        name: "TenantsFileError",
        problems: [
          expect.objectContaining({
            line: 1,
            column: 26,
            path: "tenants.acme.cpus",
            message: expect.any(String),
          }),
        ],
      }),
    );
  });

  it("shows a problem of defaults once, however many tenants take it over", () => {
    expect(errorsOf("defaults: { cpus: 0 }\ntenants: { a: {}, b: {}, c: {} }")).toHaveLength(1);
  });

  it("takes fields of one tenant in defaults for what they are", () => {
    expect(errorsOf("defaults: { hostname: a, init: [] }\ntenants: {}")).toEqual([
      expect.stringMatching(/^tenants\.yaml:1:13: defaults\.hostname: hostname belongs to one tenant/),
      expect.stringMatching(/^tenants\.yaml:1:26: defaults\.init: init belongs to one tenant/),
    ]);
  });
});

describe("YAML", () => {
  it.each([
    ["tenants: {", "1:11: this is not valid YAML: "],
    ["tenants:\n\tacme: {}", "2:1: this line is indented with a tab; YAML wants spaces"],
    [
      "tenants: {}\n---\ntenants: {}",
      "2:1: the file has to be one YAML document; take this --- and what it separates out",
    ],
    ["tenants:\n  acme: !!js/function 'x'", "2:9: tags (!…) are not known here; write the plain value"],
    ["tenants: { acme: *none }", "1:18: tenants.acme: there is no anchor &none before this alias"],
    ["tenants: { acme: { <<: 5 } }", '1:24: tenants.acme."<<": expected a map to merge, got 5'],
    ["tenants: {}\ntenants: {}", "2:1: tenants: this key is there twice, first in line 1; remove one"],
    [
      "tenants: { acme: { settings: { log_file_mode: 0640 } } }",
      '1:47: tenants.acme.settings.log_file_mode: a number cannot start with 0; write 640, or "0640" in quotes',
    ],
    ["tenants: { true: {} }", '1:12: tenants: a key has to be text, got true; in quotes, "true", it is text'],
    ["tenants: { ? [a] : {} }", "1:14: tenants: a key has to be text, got nothing"],
    ["tenants: { __proto__: {} }", "1:12: tenants.__proto__: this key is not allowed"],
    ["tenants: &t { acme: *t }", "1:21: tenants.acme: this alias is inside of what it stands for, &t"],
  ])("that is wrong is an error with its place: %j", (text, message) => {
    const [first] = errorsOf(text);
    expect(first?.slice(0, "tenants.yaml:".length + message.length)).toBe(`tenants.yaml:${message}`);
  });

  it("that expands to billions of values is refused in no time", () => {
    const lines = Array.from({ length: 12 }, (_, n) => `a${n + 1}: &a${n + 1} [${`*a${n},`.repeat(9)}]`);
    const start = performance.now();
    const errors = errorsOf(["a0: &a0 [x]", ...lines].join("\n"));
    expect(errors.filter((line) => line.includes("repeats aliases too often"))).toHaveLength(1);
    expect(performance.now() - start).toBeLessThan(5000);
  });

  it.each([
    "[".repeat(50_000),
    "{a: ".repeat(50_000),
    `a:\n${Array.from({ length: 500 }, (_, n) => `${" ".repeat(n + 1)}a:`).join("\n")}`,
  ])("that is nested without end is refused", (text) => {
    const errors = errorsOf(text);
    expect(errors.filter((line) => line.includes("nested too deeply"))).toHaveLength(1);
    expect(errors.length).toBeLessThan(5);
  });

  it("gives one message for a place, however many aliases lead there", () => {
    expect(
      errorsOf("tenants:\n  a: &a { settings: { log_file_mode: 0640 } }\n  b: *a\n  c: *none\n"),
    ).toEqual([
      expect.stringContaining("tenants.yaml:2:38: tenants.a.settings.log_file_mode: a number cannot"),
      "tenants.yaml:4:6: tenants.c: there is no anchor &none before this alias",
    ]);
  });

  it("has its columns counted without a byte order mark", () => {
    expect(errorsOf("\ufefftenants: 5")).toEqual([expect.stringMatching(/^tenants\.yaml:1:10: tenants: /)]);
  });

  it("shows nothing from the file that could command a terminal", () => {
    const [line] = errorsOf('tenants: { "a\\e[2J\\x9b2J\\n": {} }');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
  });
});

describe("a tenant id", () => {
  it.each(["a", "acme", "acme-2", "a".repeat(48)])("can be %s", (id) => {
    expect(errorsOf(`tenants: { ${id}: {} }`)).toEqual([]);
  });

  it.each(["Acme", "2acme", "-a", "a-", "a_b", "a.b", "ä", "a".repeat(49), "'a b'", "''"])(
    "cannot be %s",
    (id) => {
      expect(errorsOf(`tenants: { ${id}: {} }`)).toEqual([
        expect.stringContaining("a tenant id has lower-case letters"),
      ]);
    },
  );

  it.each([
    ["postgres", "already has a database of this name"],
    ["template0", "already has a database of this name"],
    ["template1", "already has a database of this name"],
    ["proxy", "the proxy's own container has this name"],
  ])("cannot be %s, and the message says why", (id, why) => {
    expect(errorsOf(`tenants: { ${id}: {} }`)).toEqual([expect.stringContaining(why)]);
  });
});

describe("hostname", () => {
  it.each(["acme", "2acme", "a".repeat(63)])("can be %s", (name) => {
    expect(tenant(`hostname: ${name}`).hostname).toBe(name);
  });

  it.each(["Acme", "a.b", "-a", "a-", "a".repeat(64), "'*'", "''"])("cannot be %s", (name) => {
    expect(errorOf(`hostname: ${name}`)).toContain("expected one DNS label");
  });

  it.each([
    [
      "tenants:\n  a: { hostname: x }\n  b: { hostname: x }",
      "3:18: tenants.b.hostname: the hostname x is that of tenants.a (line 2)",
    ],
    [
      "tenants:\n  a: { hostname: b }\n  b: {}",
      "3:3: tenants.b.hostname: the hostname b is that of tenants.a (line 2)",
    ],
  ])("is that of one tenant only: %j", (text, message) => {
    expect(errorsOf(text)).toEqual([expect.stringContaining(message)]);
  });
});

describe("replicas", () => {
  it.each([
    ["replicas: 1", 1, false],
    ["replicas: 2", 2, true],
    ["replicas: 2, sync: off", 2, false],
    ["replicas: 1, sync: on", 1, true],
  ])("{ %s } are %d, and a commit waits for one: %s", (fields, replicas, sync) => {
    expect(tenant(fields)).toMatchObject({ replicas, sync });
  });

  it.each([
    ["replicas: 9", "replicas: expected a whole number of replicas from 0 to 8, got 9"],
    ["sync: true", "sync: expected on or off, got true"],
    ["sync: on", "sync: sync: on needs a replica, and acme has none"],
  ])("{ %s } is refused", (fields, message) => {
    expect(errorOf(fields)).toContain(message);
  });
});

describe("pooler", () => {
  it.each([
    ["", undefined],
    ["pooler: {}", { mode: "transaction", size: 20 }],
    ["pooler: { mode: session, size: 5 }", { mode: "session", size: 5 }],
    ["pooler: { mode: off }", undefined],
  ])("{ %s } is %j", (fields, plan) => {
    expect(tenant(fields).pooler).toEqual(plan);
  });

  it("of defaults is that of every tenant which does not say otherwise", () => {
    const text = "defaults: { pooler: { size: 7 } }\ntenants: { a: {}, b: { pooler: { mode: off } } }";
    expect(parse(text).map(({ pooler }) => pooler)).toEqual([{ mode: "transaction", size: 7 }, undefined]);
  });

  it.each([
    ["pooler: { mode: statement }", 'pooler.mode: expected transaction, session or off, got "statement"'],
    ["pooler: { size: 0 }", "pooler.size: expected a whole number of connections from 1 to 10000, got 0"],
    ["pooler: true", "pooler: expected a map with the keys mode and size, such as"],
    ["pooler: { sise: 2 }", "pooler.sise: there is no field sise; did you mean size? (allowed: mode, size)"],
    ["tls: passthrough, pooler: {}", "pooler: a pooler needs tls: terminate"],
    [
      `hostname: ${"a".repeat(57)}, pooler: {}`,
      "hostname: the hostname of a tenant with a pooler has at most 56",
    ],
    [
      "memory: 128Mi, pooler: { size: 21 }",
      "pooler.size: the pooler may have at most 20 connections, 5 fewer than the server's max_connections of 25",
    ],
    [
      "settings: { max_connections: 24 }, pooler: {}",
      "pooler.size: the pooler may have at most 19 connections",
    ],
  ])("cannot be { %s }", (fields, message) => {
    expect(errorOf(fields)).toContain(message);
  });

  it.each([
    [
      "tenants:\n  a: { pooler: {} }\n  a-pooler: {}",
      "3:3: tenants.a-pooler.hostname: the hostname a-pooler is that of the pooler of tenants.a (line 2)",
    ],
    [
      "tenants:\n  a: { hostname: x-pooler }\n  b: { hostname: x, pooler: {} }",
      "2:18: tenants.a.hostname: the hostname x-pooler is that of the pooler of tenants.b (line 3)",
    ],
  ])("has a hostname that no other has: %j", (text, message) => {
    expect(errorsOf(text)).toEqual([expect.stringContaining(message)]);
  });
});

describe("version", () => {
  it("is one of those the caller has images for", () => {
    const text = "tenants: { acme: { version: 17 } }";
    expect(errorsOf(text, { images: ["17", "18"] })).toEqual([]);
    expect(errorsOf(text)).toEqual([
      "tenants.yaml:1:29: tenants.acme.version: expected a PostgreSQL major version that has an image (18), got 17",
    ]);
  });

  it.each(["'18'", "18.1", "latest", "-1"])("cannot be %s", (version) => {
    expect(errorOf(`version: ${version}`)).toContain("expected a PostgreSQL major version");
  });

  it("has to be written when the default has no image", () => {
    expect(errorsOf("tenants:\n  a: {}\n  b: { version: 17 }", { images: ["17"] })).toEqual([
      "tenants.yaml:2:3: tenants.a.version: PostgreSQL 18, the default, has no image here; write one of 17",
    ]);
    expect(errorsOf("defaults: { version: 17 }\ntenants: { a: {} }", { images: ["17"] })).toEqual([]);
  });
});

describe("image", () => {
  const images = ["17-postgis", "18", "18-pgvector"];

  it("is a variant that its version has", () => {
    const [acme, globex] = parseTenants(
      "defaults: { image: pgvector }\ntenants: { acme: {}, globex: { version: 17, image: postgis } }",
      { images },
    );
    expect([acme?.image, globex?.image]).toEqual(["pgvector", "postgis"]);
  });

  it.each([
    [
      "image: pgvectr",
      "1:27: tenants.acme.image: pgs:images has no image 18-pgvectr; did you mean pgvector?",
    ],
    ["image: other", "1:27: tenants.acme.image: pgs:images has no image 18-other; image may be pgvector"],
    [
      "version: 17, image: pgvector",
      "1:40: tenants.acme.image: pgs:images has no image 17-pgvector; image may be postgis",
    ],
    ["version: 17", "1:12: tenants.acme.image: pgs:images has no image 17; image may be postgis"],
    ["image: 5", "1:27: tenants.acme.image: expected the variant of an image"],
  ])("cannot be %s", (fields, message) => {
    expect(errorsOf(`tenants: { acme: { ${fields} } }`, { images })).toEqual([
      expect.stringContaining(message),
    ]);
  });
});

describe("extensions", () => {
  it("have their names, and versions where they are written; a list replaces that of defaults", () => {
    const [acme, globex] = parseTenants(
      "defaults: { extensions: [vector] }\ntenants: { acme: {}, globex: { extensions: [uuid-ossp, vector@0.8.0] } }",
    );
    expect(acme?.extensions).toEqual([{ name: "vector" }]);
    expect(acme?.positions["extensions.vector"]).toBe("tenants.yaml:1:26");
    expect(globex?.extensions).toEqual([{ name: "uuid-ossp" }, { name: "vector", version: "0.8.0" }]);
  });

  it.each([
    ["[vector, vector@0.8.0]", "1:41: tenants.acme.extensions[1]: vector is in the list already"],
    ["[vector--0.8.0]", "1:33: tenants.acme.extensions[0]: expected an extension such as vector"],
    ["[vector@]", "tenants.acme.extensions[0]: expected an extension"],
    ['["a; DROP"]', "tenants.acme.extensions[0]: expected an extension"],
    ["vector", "1:32: tenants.acme.extensions: expected a list of extensions"],
  ])("cannot be %s", (list, message) => {
    expect(errorsOf(`tenants: { acme: { extensions: ${list} } }`)).toEqual([
      expect.stringContaining(message),
    ]);
  });

  const needed = (names: string[], own: Record<string, string> = {}) =>
    extensionSettings(
      "acme",
      names.map((name) => ({ name })),
      own,
    );

  it("bring the libraries that they need, in the order in which those have to be loaded", () => {
    expect(needed(["vector", "pg_trgm"])).toEqual({});
    expect(needed(["pg_cron"])).toEqual({
      shared_preload_libraries: "pg_stat_statements, pg_cron",
      "cron.database_name": "acme",
    });
    expect(needed(["pg_stat_statements", "timescaledb"])).toEqual({
      shared_preload_libraries: "timescaledb, pg_stat_statements",
    });
  });

  it("bring them beside those that the entry's own setting has", () => {
    expect(needed(["pg_cron"], { shared_preload_libraries: 'auto_explain, "a b"' })).toMatchObject({
      shared_preload_libraries: 'auto_explain, "a b", pg_cron',
    });
    expect(needed(["pg_cron"], { shared_preload_libraries: "pg_cron" })).toMatchObject({
      shared_preload_libraries: "pg_cron",
    });
  });
});

describe("memory", () => {
  it.each([
    ["131072Ki", 2 ** 27],
    ["128Mi", 2 ** 27],
    ["2Gi", 2 ** 31],
    ["4096Gi", 2 ** 42],
  ])("%s is %d bytes", (text, bytes) => {
    expect(tenant(`memory: ${text}`).memory).toBe(bytes);
  });

  it.each([
    ["512MB", "512Mi"],
    ["512m", "512Mi"],
    ["512", "512Mi"],
    ["536870912", "512Mi"],
    ["'1 gb'", "1Gi"],
    ["1.5Gi", "1536Mi"],
    ["1Ti", "1024Gi"],
  ])("%s is refused with the hint to write %s", (text, meant) => {
    expect(errorOf(`memory: ${text}`)).toMatch(
      new RegExp(`^memory: expected a whole number .*; write ${meant}$`),
    );
  });

  it.each(["lots", "0Mi", "-1Gi", "[]", "''", "9e99Gi"])("%s is refused", (text) => {
    expect(errorOf(`memory: ${text}`)).toContain("expected a whole number with the unit Ki, Mi or Gi");
  });

  it("is enough for PostgreSQL to start", () => {
    expect(errorOf("memory: 127Mi")).toBe(
      'memory: PostgreSQL needs at least 128Mi to start and to answer some clients, got "127Mi"',
    );
  });

  it("is at most 4096Gi", () => {
    expect(errorOf("memory: 4097Gi")).toBe('memory: expected at most 4096Gi, got "4097Gi"');
  });
});

describe("disk", () => {
  it.each([
    ["512Mi", 2 ** 29],
    ["10Gi", 10 * 2 ** 30],
    ["off", undefined],
    ["'off'", undefined],
  ])("%s is %s bytes", (text, bytes) => {
    expect(tenant(`disk: ${text}`).disk).toBe(bytes);
  });

  it("is that of defaults where the tenant has none, which may do without", () => {
    const [acme, globex] = parseTenants(
      "defaults: { disk: 10Gi }\ntenants: { acme: {}, globex: { disk: off } }",
    );
    expect([acme?.disk, globex?.disk]).toEqual([10 * 2 ** 30, undefined]);
  });

  it.each([
    [
      "10GB",
      'disk: expected off, or a whole number with the unit Ki, Mi or Gi, such as 10Gi, got "10GB"; write 10Gi',
    ],
    [
      "10",
      "disk: expected off, or a whole number with the unit Ki, Mi or Gi, such as 10Gi, got 10; write 10Mi",
    ],
    [
      "500Mi",
      'disk: a new server and its write-ahead log need most of 512Mi, the least that is allowed, got "500Mi"',
    ],
    ["900001Gi", 'disk: expected at most 900000Gi, got "900001Gi"'],
  ])("%s is refused", (text, message) => {
    expect(errorOf(`disk: ${text}`)).toBe(message);
  });

  it.each(["max_slot_wal_keep_size: -1", "temp_file_limit: -1", "max_wal_size: 513MB", "wal_keep_size: 1GB"])(
    "does not go with %s",
    (setting) => {
      expect(errorOf(`disk: 1Gi, settings: { ${setting} }`)).toMatch(
        / may be at most \d+ % of the tenant's disk/,
      );
      expect(errorOf(`settings: { ${setting} }`)).toBe("accepted");
    },
  );

  it("keeps the name of its own setting", () => {
    expect(errorOf("settings: { pgs.disk: 5 }")).toContain("pgs.disk cannot be set");
  });
});

describe("cpus", () => {
  it.each([0.05, 0.29, 1, 1.15, 2.5, 512])("can be %d", (cpus) => {
    expect(tenant(`cpus: ${cpus}`).cpus).toBe(cpus);
  });

  it.each(["0", "0.04", "-1", "1.005", "512.01", "'2'", ".inf", ".nan"])("cannot be %s", (cpus) => {
    expect(errorOf(`cpus: ${cpus}`)).toContain("expected a number of CPUs from 0.05 to 512");
  });
});

describe("access, state, maxConnectionsPerClient, passwordVersion and onRemove", () => {
  it.each([
    ["access: yes", 'access: expected a boolean: true or false, got "yes"'],
    ["access: 1", "access: expected a boolean: true or false, got 1"],
    ["access: ", "access: expected a boolean: true or false, got nothing"],
    ["state: Stopped", 'state: expected running or stopped, got "Stopped"'],
    ["passwordVersion: 0", "passwordVersion: expected a whole number of at least 1, got 0"],
    ["passwordVersion: 1.5", "passwordVersion: expected a whole number of at least 1, got 1.5"],
    [
      "allow: [203.0.113.0/24, 203.0.113.256]",
      'allow[1]: expected an address or a range (CIDR) of IPv4 or IPv6, such as 203.0.113.0/24, got "203.0.113.256"',
    ],
    ["allow: []", "allow: nobody could connect; write access: false to let no one in, or leave allow out"],
    [
      "maxConnectionsPerClient: -1",
      "maxConnectionsPerClient: expected a whole number of connections such as 200, or 0 for no limit, got -1",
    ],
    ["onRemove: keep", 'onRemove: expected retain or delete, got "keep"'],
  ])("refuse %s", (fields, message) => {
    expect(errorOf(fields)).toBe(message);
  });
});

describe("roles", () => {
  it("are merged over those of defaults, field by field and setting by setting", () => {
    const [acme] = parse(
      "defaults: { roles: { app: { grants: readonly, settings: { jit: off, work_mem: 4MB } }, other: } }\ntenants: { acme: { roles: { app: { connectionLimit: 5, settings: { jit: true } } } } }",
    );
    const plainRole = { settings: {}, inRoles: [], passwordVersion: 1 };
    expect(acme?.roles).toEqual({
      app: { ...plainRole, grants: "readonly", connectionLimit: 5, settings: { jit: "on", work_mem: "4MB" } },
      other: plainRole,
    });
  });

  it.each(["postgres", "pg_monitor", "pgs_owner", "public"])("may not be called %s", (name) => {
    expect(errorOf(`roles: { ${name}: {} }`)).toContain(`${name} cannot be a role of the tenant's`);
  });

  it.each([
    ["{ App: {} }", /^roles\.App: a role's name has .*; write app$/],
    [
      "{ app: { grants: admin } }",
      /^roles\.app\.grants: expected readonly, readwrite or owner, got "admin"$/,
    ],
    ["{ app: { grant: owner } }", /^roles\.app\.grant: there is no field grant; did you mean grants\?/],
    ["{ app: { superuser: true } }", /there is no field superuser/],
    ["{ app: { inRoles: [postgres] } }", /a role cannot be a member of "postgres": use grants$/],
    ["{ app: { validUntil: 2027-01-31 } }", /validUntil: expected a time with its zone/],
    ["{ app: { connectionLimit: -2 } }", /connectionLimit: expected a whole number of connections, or -1/],
    [
      "{ app: { settings: { max_connections: 5 } } }",
      /is the whole server's: write it in the tenant's own settings$/,
    ],
    ["{ app: { settings: { work_men: 5MB } } }", /did you mean work_mem\?$/],
    ["{ app: { settings: { role: postgres } } }", /role is set by pgs: use grants$/],
    [`{ ${Array.from({ length: 101 }, (_, n) => `r${n}: {}`).join(", ")} }`, /at most 100 roles/],
  ])("refuse %s", (roles, message) => {
    expect(errorOf(`roles: ${roles}`)).toMatch(message);
  });
});

describe("settings", () => {
  it.each([
    ["work_mem", "16MB"],
    ["pg_stat_statements.max", "x"],
    ["shared_preload_libraries", "x"],
    ["password_encryption", "scram-sha-256"],
    ["archive_command", "x"],
  ])("may have %s", (name, value) => {
    expect(tenant(`settings: { ${name}: ${value} }`).settings).toEqual({ [name]: value });
  });

  it.each([
    "data_directory",
    "hba_file",
    "ident_file",
    "config_file",
    "external_pid_file",
    "listen_addresses",
    "port",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "ssl",
    "ssl_cert_file",
    "allow_alter_system",
  ])("may not have %s", (name) => {
    expect(errorOf(`settings: { ${name}: x }`)).toContain(`settings.${name}: ${name} cannot be set`);
  });

  it("have names in lower case", () => {
    expect(errorOf("settings: { TimeZone: UTC }")).toMatch(/^settings\.TimeZone: .*; write timezone$/);
    expect(errorOf("settings: { 'a;b': 1 }")).toContain("a setting's name has lower-case letters");
  });

  it("have values of one line", () => {
    const message = "settings.app.x: a setting's value is one line of text";
    expect(errorOf('settings: { app.x: "a\\nb" }')).toContain(message);
    expect(errorOf('settings: { app.x: "a\\0b" }')).toContain(message);
    expect(errorOf('settings: { app.x: "\\ud800" }')).toContain(message);
    expect(errorOf(`settings: { app.x: ${"a".repeat(1001)} }`)).toContain(
      "at most 1000 characters, got 1001",
    );
    expect(errorOf(`settings: { app.x: ${"a".repeat(1000)} }`)).toBe("accepted");
  });

  it.each([
    [
      "defaults: { version: 17, settings: { io_metod: sync } }\ntenants: { new: { version: 18 } }",
      "1:38: defaults.settings.io_metod: PostgreSQL 18 has no setting io_metod; did you mean io_method? (for tenant new)",
    ],
    [
      "defaults: { version: 17, roles: { app: { settings: { xy_z: 1 } } } }\ntenants: { new: { version: 18 }, newer: { version: 18 } }",
      "1:54: defaults.roles.app.settings.xy_z: PostgreSQL 18 has no setting xy_z (for tenant new)",
    ],
    [
      "defaults: { memory: 4Gi, settings: { shared_buffers: 1GB } }\ntenants: { small: { memory: 1Gi } }",
      "1:54: defaults.settings.shared_buffers: shared_buffers may be at most 60 % of the tenant's memory, got 1GB; raise memory or lower it (for tenant small)",
    ],
    [
      "defaults: { settings: { max_wal_size: 1GB } }\ntenants: { small: { disk: 1Gi } }",
      "1:39: defaults.settings.max_wal_size: max_wal_size may be at most 50 % of the tenant's disk, got 1GB; raise disk or lower it (for tenant small)",
    ],
  ])("of defaults suit each tenant that has them: %s", (text, problem) => {
    expect(errorsOf(text, { images: ["17", "18"] })).toEqual([`tenants.yaml:${problem}`]);
  });

  it("of defaults that a tenant says itself are not its own", () => {
    expect(
      errorsOf(
        "defaults: { memory: 4Gi, settings: { shared_buffers: 1GB } }\ntenants: { small: { memory: 1Gi, settings: { shared_buffers: 128MB } } }",
      ),
    ).toEqual([]);
  });

  it.each(["[1]", "{}", "", ".inf"])("cannot have the value %j", (value) => {
    expect(errorOf(`settings: { app.x: ${value} }`)).toContain(
      "settings.app.x: expected text, a number, true or false",
    );
  });
});

describe("init", () => {
  it.each([
    ["init/none.sql", '"init/none.sql" does not exist'],
    ["init", '"init" is no file'],
    ["init/a.sql/b", '"init/a.sql/b" cannot be read (ENOTDIR)'],
    ["../a.sql", "is outside the folder of the file"],
    ["init/../../a.sql", "is outside the folder of the file"],
    ["..", "is outside the folder of the file"],
    ["/etc/hostname", "is outside the folder of the file"],
    ["''", "expected the path of an SQL script"],
    ['"a\\0b"', "expected the path of an SQL script"],
    ["5", "expected the path of an SQL script"],
  ])("refuses %s", (path, message) => {
    expect(errorOf(`init: [${path}]`)).toContain(message);
  });

  it("has each script once", () => {
    expect(errorOf("init: [init/a.sql, init/../init/a.sql]")).toBe(
      "init[1]: this script is in the list already; each runs once",
    );
  });

  it("is a list", () => {
    expect(errorOf("init: init/a.sql")).toContain("expected a list of paths of SQL scripts");
  });
});

describe("reading the file", () => {
  it("finds init scripts beside it, and names it from the working directory", () => {
    const path = join(folder, "hosts.yaml");
    writeFileSync(path, "tenants: { acme: { init: [init/a.sql] } }");
    expect(readTenants(path)).toMatchObject([{ initFiles: [join(folder, "init/a.sql")] }]);
    expect(readTenants(path)[0]?.positions[""]).toBe(`${path}:1:12`);
  });

  it("says where it looked when there is none", () => {
    const path = join(folder, "none.yaml");
    expect(() => readTenants(path)).toThrow(TenantsFileError);
    expect(() => readTenants(path)).toThrow(`there is no such file (looked for ${path}); create it`);
  });

  it("says so when it is a folder", () => {
    expect(() => readTenants(folder)).toThrow("this is a folder");
  });
});

describe("the nearest word", () => {
  it.each([
    ["hostnam", "hostname"],
    ["PASSWORD-VERSION", "passwordVersion"],
    ["cpu", "cpus"],
    ["statee", "state"],
    ["tenant", undefined],
    ["x", undefined],
    ["memory".repeat(10), undefined],
  ])("to %s is %s", (word, expected) => {
    const words = ["hostnames", "hostname", "passwordVersions", "passwordVersion", "cpus", "state", "memory"];
    expect(nearest(word, words)).toBe(expected);
  });
});

describe("the project's own files", () => {
  it("the sample tenants.yaml is right", () => {
    expect(
      readTenants(join(project, "tenants.yaml")).map(({ id, access, init }) => [id, access, init]),
    ).toEqual([
      ["acme", true, []],
      ["globex", true, ["init/globex.sql"]],
      ["initech", false, []],
    ]);
  });

  it("the page on tenants.yaml shows files that are right, and the errors of the one that is wrong", () => {
    const page = readFileSync(join(project, "docs/tenants.md"), "utf8");
    const blocks = [...page.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, kind, text]) => ({
      kind,
      text: text ?? "",
    }));
    const files = blocks.filter(({ kind }) => kind === "yaml").map(({ text }) => text);
    const errors = files.flatMap((text) => errorsOf(text, { folder: project }));
    const shown = blocks.find(({ kind }) => kind === "")?.text.replace("/srv/pgs", project);
    expect(files).toHaveLength(3);
    expect(`${errors.join("\n")}\n`).toBe(shown);
  });

  it("tenants.schema.json is what the schema generates", () => {
    expect(readFileSync(join(project, "tenants.schema.json"), "utf8")).toBe(tenantsJsonSchema());
  });

  it("tenants.schema.json refuses unknown fields and describes each with its default", () => {
    const schema = JSON.parse(tenantsJsonSchema());
    const tenantSchema = schema.properties.tenants.additionalProperties.anyOf[0];
    expect(schema.additionalProperties).toBe(false);
    expect(tenantSchema.additionalProperties).toBe(false);
    for (const [field, { description, default: byDefault }] of Object.entries<Record<string, unknown>>(
      tenantSchema.properties,
    )) {
      expect(description, field).toMatch(/\.$/);
      expect(byDefault !== undefined || /Default: /.test(String(description)), field).toBe(true);
    }
  });
});

describe("a setting that PostgreSQL 18 knows", () => {
  it.each([
    ["work_mem", "64", "64kB", "1.5GB", "2147483647"],
    ["shared_buffers", "16", "128kB", "256MB", "307MB"],
    ["checkpoint_timeout", "30", "5min", "1d", "0.5h"],
    ["random_page_cost", "0", "1.1", "1e3", ".5"],
    ["wal_level", "minimal", "replica", "LOGICAL", "logical"],
    ["synchronous_commit", "remote_apply", "off", "true", "0"],
    ["jit", "on", "OFF", "no", "1"],
    ["log_file_mode", "0640", "0x1A0", "416", "0777"],
  ])("%s takes %s, %s, %s and %s", (name, ...values) => {
    for (const value of values) expect(errorOf(`settings: { ${name}: "${value}" }`)).toBe("accepted");
  });

  it.each([
    ["work_mem", "63", "from 64 to 2147483647 (× kB), or one with a unit (B, kB, MB, GB, TB), got 63"],
    ["work_mem", "16mb", "got 16mb"],
    ["work_mem", "lots", "got lots"],
    ["work_mem", "5min", "got 5min"],
    [
      "checkpoint_timeout",
      "29s",
      "from 30 to 86400 (× s), or one with a unit (us, ms, s, min, h, d), got 29s",
    ],
    ["checkpoint_timeout", "2d", "got 2d"],
    ["max_connections", "0", "from 1 to 262143, got 0"],
    ["max_connections", "10MB", "got 10MB"],
    ["wal_level", "archive", "expected minimal, replica, logical, got archive"],
    ["jit", "maybe", "expected on or off, got maybe"],
    ["transaction_read_only", "on", "belongs to a session or transaction"],
    ["log_file_mode", "01000", "from 0 to 511, got 01000"],
    ["block_size", "8192", "tells how the server was built"],
    ["work_men", "1MB", "PostgreSQL 18 has no setting work_men; did you mean work_mem?"],
    ["shared_buffers", "308MB", "shared_buffers may be at most 60 % of the tenant's memory, got 308MB"],
  ])("%s does not take %s", (name, value, message) => {
    expect(errorOf(`settings: { ${name}: "${value}" }`)).toContain(message);
  });

  it("is measured against the memory of the tenant that has it", () => {
    expect(errorOf("memory: 1Gi, settings: { shared_buffers: 400MB }")).toBe("accepted");
    expect(errorsOf("defaults: { memory: 256Mi, settings: { shared_buffers: 160MB } }\ntenants: {}")).toEqual(
      [
        expect.stringContaining(
          "tenants.yaml:1:56: defaults.settings.shared_buffers: shared_buffers may be at most",
        ),
      ],
    );
  });
});

describe("a file that was made to take long", () => {
  /** Of this process alone: other work on the machine does not count. */
  function seconds(work: () => void): number {
    const start = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(start);
    return (user + system) / 1e6;
  }
  /** As errorsOf, of a message that leaves some out. */
  const linesOf = (text: string) => {
    try {
      parse(text);
    } catch (error) {
      return (error as Error).message.split("\n");
    }
    return [];
  };
  const many = (count: number, unit: (index: number) => string) =>
    Array.from({ length: count }, (_, index) => unit(index)).join(", ");

  it.each([
    ["aliases to what they are in", "tenants: &t { acme: *t, b: *t, c: *t, d: *t }"],
    ["lists of themselves", "tenants: &t [*t, *t, *t, *t]"],
    ["merges of themselves", "tenants: &t { <<: [*t, *t, *t], a: *t, c: { <<: *t } }"],
  ])("by %s is refused at once", (_, text) => {
    let errors: string[] = [];
    expect(seconds(() => (errors = linesOf(text)))).toBeLessThan(0.5);
    expect(errors.join("\n")).toContain("this alias is inside of what it stands for, &t");
  });

  it.each([
    [
      "settings",
      (count: number) => `{ acme: { settings: { ${many(count, (n) => `maxconections${n}: 1`)} } } }`,
    ],
    ["fields", (count: number) => `{ acme: { ${many(count, (n) => `memori${n}: 1`)} } }`],
    ["tenants", (count: number) => `{ ${many(count, (n) => `t${n}: { memory: 5 }`)} }`],
    ["init scripts", (count: number) => `{ acme: { init: [${many(count, (n) => `x${n}.sql`)}] } }`],
    [
      "settings that are there twice",
      (count: number) => `{ acme: { settings: { ${many(count, () => "work_mem: 1")} } } }`,
    ],
  ])("by twenty thousand wrong %s takes a time that grows with their number alone", (_, text) => {
    linesOf(`tenants: ${text(2_000)}`);
    const few = seconds(() => linesOf(`tenants: ${text(2_000)}`));
    let errors: string[] = [];
    const whole = seconds(() => (errors = linesOf(`tenants: ${text(20_000)}`)));
    // Ten times as many: a hundred times as long would be the square.
    expect(whole).toBeLessThan(40 * few + 0.5);
    expect(errors).toHaveLength(501);
    expect(errors.at(-1)).toMatch(/^and \d+ more problems$/);
  });

  it("has no key of more than 256 characters", () => {
    expect(errorsOf(`tenants: { ${"a".repeat(257)}: {} }`)).toEqual([
      "tenants.yaml:1:12: tenants: a key has at most 256 characters, got 257",
    ]);
  });

  it("still has suggestions for its first unknown names", () => {
    expect(
      errorsOf(`tenants: { acme: { settings: { ${many(100, (n) => `work_mem${n}: 1`)} } } }`)[0],
    ).toContain("did you mean work_mem?");
  });
});

describe("a file that is no plain file, or too large", () => {
  it.each([
    ["/dev/zero", "this is no plain file"],
    ["a pipe", "this is no plain file"],
    ["a folder", "this is a folder"],
    ["more than 256 KiB", "it has more than 256 KiB"],
  ])("%s is refused at once", (what, reason) => {
    const path = what === "/dev/zero" ? what : join(folder, what.replaceAll(" ", "-"));
    if (what === "a pipe") execFileSync("mkfifo", [path]);
    if (what === "a folder") mkdirSync(path);
    if (what === "more than 256 KiB") writeFileSync(path, `tenants: {}\n#${"x".repeat(2 ** 18)}`);
    expect(() => readTenants(path)).toThrow(reason);
  });

  it("of just 256 KiB is read", () => {
    const path = join(folder, "256 KiB");
    const text = "tenants: {}\n#";
    writeFileSync(path, text + "x".repeat(2 ** 18 - text.length));
    expect(readTenants(path)).toEqual([]);
  });
});
