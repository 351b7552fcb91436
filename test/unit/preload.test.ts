import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";

const root = join(__dirname, "../..");
const installed = join(root, "node_modules");

/** A project whose packages are the installed ones, but for copies of some that bear another version. */
function project(...copies: string[]): string {
  const folder = mkdtempSync(join(tmpdir(), "pgs-preload-"));
  mkdirSync(join(folder, "node_modules"));
  for (const path of ["toolchain/preload.cjs", "toolchain/preload"]) {
    cpSync(join(root, path), join(folder, path), { recursive: true });
  }
  for (const name of copies) {
    const copy = join(folder, "node_modules", name);
    cpSync(join(installed, name), copy, { recursive: true });
    const description = JSON.parse(readFileSync(join(copy, "package.json"), "utf8"));
    writeFileSync(join(copy, "package.json"), JSON.stringify({ ...description, version: "99.0.0" }));
  }
  return folder;
}

/** What a script of the project prints, as JSON, and what its process writes to stderr. */
function run(folder: string, script: string, without = "") {
  const path = join(folder, "script.cjs");
  writeFileSync(path, script);
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ["--require", join(folder, "toolchain/preload.cjs"), path],
    {
      encoding: "utf8",
      timeout: 20_000,
      env: { ...process.env, NODE_PATH: installed, PGS_WITHOUT_PATCHES: without },
    },
  );
  expect(status, stderr).toBe(0);
  return { answer: JSON.parse(stdout), stderr };
}

let current: string;
let changed: string;
beforeAll(() => {
  current = project();
  changed = project("@pulumi/pulumi", "tsx");
});
afterAll(() => {
  for (const folder of [current, changed]) rmSync(folder, { recursive: true, force: true });
});

/** Scripts load the SDK's inner modules as one of its own files does. */
const asPulumi = (file: string) => `
  require("@pulumi/pulumi");
  const { createRequire } = require("node:module");
  const inner = createRequire(require.resolve("@pulumi/pulumi/${file}"));
`;
interface Effect {
  script: string;
  /** What the script prints with the patch, and without it. */
  patched: unknown;
  plain: unknown;
}
const effects: Record<string, Effect> = {
  "own-typescript": {
    script: `
      const { mkdirSync, writeFileSync } = require("node:fs");
      const folder = __dirname + "/node_modules/installed";
      mkdirSync(folder, { recursive: true });
      // An ES module under a CommonJS name: Node 20 refuses it, Node 22 loads it as what it is, tsx rewrites it.
      writeFileSync(folder + "/index.js", "export const answer = 42;");
      writeFileSync(__dirname + "/own.ts", "export const answer: number = 42;");
      const isRewritten = () => {
        try {
          return !require("node:util").types.isModuleNamespaceObject(require("installed"));
        } catch {
          return false;
        }
      };
      console.log(JSON.stringify({ own: require("./own").answer, rewritten: isRewritten() }));
    `,
    patched: { own: 42, rewritten: false },
    plain: { own: 42, rewritten: true },
  },
  "lazy-modules": {
    script: `
      const { createRequire } = require("node:module");
      const inner = createRequire(require.resolve("@pulumi/pulumi/cmd/run/run.js"));
      const pulumi = require("@pulumi/pulumi");
      inner("./tracing");
      const parts = ["/typescript/", "/@opentelemetry/sdk-trace-base/", "/@pulumi/pulumi/automation/"];
      const loaded = () =>
        parts.map((part) => Object.keys(require.cache).some((path) => path.includes("/node_modules" + part)));
      const before = loaded();
      console.log(JSON.stringify([before, typeof pulumi.automation.LocalWorkspace.create, loaded()[2]]));
    `,
    patched: [[false, false, false], "function", true],
    plain: [[true, true, true], "function", true],
  },
  "lazy-inspector": {
    script: `
      ${asPulumi("cmd/run/index.js")}
      const hooks = inner("../../runtime/closure/v8Hooks");
      const isOpen = () => Object.keys(require.cache).some((path) => path.endsWith("/closure/v8Hooks.js"));
      hooks.isInitializedAsync().then(async () => {
        const before = isOpen();
        const session = await hooks.getSessionAsync();
        console.log(JSON.stringify({ before, session: typeof session.post }));
        session.disconnect();
      });
    `,
    patched: { before: false, session: "function" },
    plain: { before: true, session: "function" },
  },
  "promise-traces": {
    script: `
      ${asPulumi("runtime/resource.js")}
      const { debuggablePromise, leakedPromises, promiseDebugString } = inner("./debuggable");
      debuggablePromise(new Promise(() => {}), "never ends");
      const text = [...leakedPromises()[0]].map(promiseDebugString).join();
      console.log(JSON.stringify({ named: text.includes("never ends"), traced: text.includes("script.cjs") }));
    `,
    patched: { named: true, traced: false },
    plain: { named: true, traced: true },
  },
  "debug-messages": {
    script: `
      ${asPulumi("runtime/resource.js")}
      const grpc = inner("@grpc/grpc-js");
      const { EngineService } = inner("../proto/engine_grpc_pb");
      const { Empty } = inner("google-protobuf/google/protobuf/empty_pb");
      const sent = [];
      const server = new grpc.Server();
      server.addService(EngineService, {
        log: ({ request }, done) => {
          sent.push(request.getMessage());
          done(null, new Empty());
        },
      });
      server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), async (_, port) => {
        inner("./settings").resetOptions("project", "stack", 1, "127.0.0.1:" + port, "", true, "organization");
        await inner("../log").debug("a detail");
        await inner("../log").warn("a warning");
        console.log(JSON.stringify(sent));
        process.exit();
      });
    `,
    patched: ["a warning"],
    plain: ["a detail", "a warning"],
  },
  "source-positions": {
    script: `
      ${asPulumi("runtime/resource.js")}
      console.log(inner("../resource").Resource.callsites().length > 0);
    `,
    patched: false,
    plain: true,
  },
  "plain-errors": {
    script: `
      ${asPulumi("cmd/run/run.js")}
      const text = inner("./error").defaultErrorMessage(new TypeError("wrong"));
      console.log(JSON.stringify({ says: text.includes("TypeError: wrong"), coloured: text.includes("\\u001b[") }));
    `,
    patched: { says: true, coloured: false },
    plain: { says: true, coloured: true },
  },
};

it("each patch has a test of its effect", () => {
  const files = readdirSync(join(root, "toolchain/preload")).map((file) => file.replace(".cjs", ""));
  const others = ["patch", "compile-cache"];
  expect(files.filter((name) => !others.includes(name)).sort()).toEqual(Object.keys(effects).sort());
});

describe.each(Object.entries(effects))("%s", (name, { script, patched, plain }) => {
  it("takes effect with the version that it is for", () => {
    expect(run(current, script)).toEqual({ answer: patched, stderr: "" });
  });

  it("leaves another version as it is, and says so in one line", () => {
    const { answer, stderr } = run(changed, script);
    expect(answer).toEqual(plain);
    const saying = stderr.split("\n").filter((line) => line.includes(name));
    expect(saying).toEqual([
      expect.stringMatching(
        /^pgs: (tsx|@pulumi\/pulumi) 99\.0\.0 is used as it is, without the patches in toolchain\/preload: /,
      ),
    ]);
  });

  it("is left out by PGS_WITHOUT_PATCHES", () => {
    expect(run(current, script, `another,${name}`)).toEqual({ answer: plain, stderr: "" });
  });
});

it("an error whose stack Node 20 would colour for ever is printed at once", () => {
  const line = `    at ${"x/".repeat(20)}node_modules/@pulumi/output.ts:378:13`;
  const { answer } = run(
    current,
    `
      ${asPulumi("cmd/run/run.js")}
      const error = new Error("wrong");
      error.stack = ${JSON.stringify(`Error: wrong\n${line}`)};
      console.log(JSON.stringify(inner("./error").defaultErrorMessage(error)));
    `,
  );
  expect(answer).toContain("output.ts:378:13");
});

describe("compile-cache", () => {
  const script = `
    const { parse } = require("installed");
    console.log(JSON.stringify([parse("2"), require.cache[require.resolve("installed")].children.length]));
  `;
  let folder: string;
  const cache = () => join(folder, "node_modules/.cache/pgs");
  /** Of the installed module. */
  const write = (factor: number) => {
    const module = join(folder, "node_modules/installed");
    mkdirSync(module, { recursive: true });
    writeFileSync(join(module, "number.js"), "module.exports = Number;");
    writeFileSync(
      join(module, "index.js"),
      `const number = require("./number"); exports.parse = (text) => ${factor} * number(text);`,
    );
  };
  const files = () =>
    readdirSync(cache(), { recursive: true, withFileTypes: true }).filter((f) => f.isFile());
  const stamps = () => files().map(({ parentPath, name }) => statSync(join(parentPath, name)).mtimeMs);

  beforeEach(() => {
    folder = project();
    write(1);
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it("is written by the first run, and read by the second", () => {
    expect(run(folder, script)).toEqual({ answer: [2, 1], stderr: "" });
    const written = stamps();
    expect(written.length).toBeGreaterThan(0);
    expect(run(folder, script)).toEqual({ answer: [2, 1], stderr: "" });
    expect(stamps()).toEqual(written);
  });

  it("gives no code of another text", () => {
    run(folder, script);
    write(10);
    expect(run(folder, script).answer).toEqual([20, 1]);
  });

  it.each([
    ["cut off", (file: Buffer) => file.subarray(0, file.length / 2)],
    ["empty", () => Buffer.alloc(0)],
    ["damaged at its end", (file: Buffer) => Buffer.concat([file.subarray(0, -200), Buffer.alloc(200)])],
  ])("that is %s is made again", (_, damage) => {
    run(folder, script);
    const written = stamps();
    for (const { parentPath, name } of files()) {
      const path = join(parentPath, name);
      writeFileSync(path, damage(readFileSync(path)));
    }
    expect(run(folder, script)).toEqual({ answer: [2, 1], stderr: "" });
    const again = stamps();
    expect(again).not.toEqual(written);
    run(folder, script);
    expect(stamps()).toEqual(again);
  });

  it("is done without where it cannot be written", () => {
    writeFileSync(join(folder, "node_modules/.cache"), "");
    expect(run(folder, script)).toEqual({ answer: [2, 1], stderr: "" });
  });

  it("is left out by PGS_WITHOUT_PATCHES", () => {
    expect(run(folder, script, "compile-cache")).toEqual({ answer: [2, 1], stderr: "" });
    expect(existsSync(cache())).toBe(false);
  });
});
