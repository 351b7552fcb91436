// Loaded first in the program, in the provider and in `pgs` (Pulumi.yaml, provider/pulumi-resource-pgs, pgs): TypeScript
// for the project's own files, and without what costs time in every command and serves nothing here.
const Module = require("node:module");
const { dirname, join, sep } = require("node:path");
const { inspect } = require("node:util");

/** tsx would read, parse and resolve each installed module as well: half of the start-up time. */
const plain = { js: Module._extensions[".js"], resolve: Module._resolveFilename };
require("tsx/cjs");
const tsx = { js: Module._extensions[".js"], resolve: Module._resolveFilename };

const own = dirname(__dirname) + sep;
const isOwn = (path) => !path || (path.startsWith(own) && !path.startsWith(join(own, "node_modules", sep)));

Module._extensions[".js"] = (module, path) => (isOwn(path) ? tsx : plain).js(module, path);
Module._resolveFilename = function (request, parent, ...rest) {
  return (isOwn(parent?.filename) ? tsx : plain).resolve.call(this, request, parent, ...rest);
};

const load = Module._load;

Module._load = function (request, parent, isMain) {
  const now = () => load.call(this, request, parent, isMain);
  if (inDockerode.has(request) && /[\\/](dockerode|docker-modem)[\\/]lib[\\/]/.test(parent?.filename ?? "")) {
    return whenUsed(now);
  }
  // Its messages in all languages; the English ones are loaded by themselves.
  if (request === "../locales/index.cjs" && /[\\/]zod[\\/]/.test(parent?.filename ?? "")) return whenUsed(now);
  if (!/[\\/]@pulumi[\\/]pulumi[\\/]/.test(parent?.filename ?? "")) return now();
  if (usedToSerializeFunctions.test(request) || usedRarely.test(request)) return whenUsed(now);
  if (request === "./debuggable") return withoutTraces(now());
  if (/^\.\.?\/log$/.test(request)) return withoutDebugging(now());
  if (request === "./error") return withoutColours(now());
  if (/^\.\.?\/resource$/.test(request)) return withoutPositions(now());
  return now();
};

/**
 * The TypeScript compiler and npm's dependency solver, half of the start-up time: for the code of functions that
 * a program writes into its state. This one writes none.
 */
const usedToSerializeFunctions =
  /^(typescript|@npmcli\/arborist|normalize-package-data|fdir|upath|js-yaml)$/;

/** For traces that nobody asked for (--tracing), plugins by version, and programs that run Pulumi. */
const usedRarely = /^(@opentelemetry\/.*|semver|\.\/automation)$/;

/** For engines that are reached by SSH, and for builds. */
const inDockerode = new Set(["./ssh", "./session", "./buildkit"]);

function whenUsed(load) {
  let loaded;
  const module = () => {
    loaded ??= load();
    return loaded;
  };
  // __esModule keeps TypeScript's import helpers from copying the module's properties, which would load it.
  return new Proxy(() => {}, {
    get: (_, name) => (name === "__esModule" ? true : module()[name]),
    apply: (_, self, values) => module().apply(self, values),
  });
}

/**
 * Each of the many promises of a resource is given a stack trace, with positions looked up in source maps: with
 * 50 tenants, half of the program's time. It would be shown where a program ends with a promise that is open;
 * that it does is told all the same.
 */
function withoutTraces(debuggable) {
  const { debuggablePromise } = debuggable;
  if (debuggablePromise.withoutTrace) return debuggable;
  debuggable.debuggablePromise = (promise, context) => {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    try {
      return debuggablePromise(promise, context);
    } finally {
      Error.stackTraceLimit = limit;
    }
  };
  debuggable.debuggablePromise.withoutTrace = true;
  return debuggable;
}

/**
 * What Pulumi's SDK does is told to the engine one message after another, some for each resource, and dropped there
 * unless it runs with --debug: with 50 tenants, a sixth of a preview. PGS_DEBUG=1 brings them back.
 */
function withoutDebugging(log) {
  if (!process.env.PGS_DEBUG) log.debug = () => Promise.resolve();
  return log;
}

/**
 * Each resource would carry its place in the source through the loader's code into the state: a quarter of the
 * state file, which is written anew with every step of an `up`.
 */
function withoutPositions(resource) {
  if (resource.Resource) resource.Resource.callsites = () => [];
  return resource;
}

/**
 * In Node 20, `util.inspect` in colours never ends on a line such as "…/node_modules/@pulumi/output.ts:378:13",
 * which Pulumi's source maps make: each error of the program took half a minute, until memory for the text ran out.
 */
function withoutColours(error) {
  const { defaultErrorMessage } = error;
  if (defaultErrorMessage) {
    error.defaultErrorMessage = (thrown) => (thrown?.stack ? inspect(thrown) : defaultErrorMessage(thrown));
  }
  return error;
}
