// Loaded first in the program and in the provider (Pulumi.yaml, provider/pulumi-resource-pgs).
//
// @pulumi/pulumi loads the TypeScript compiler and npm's dependency solver when it starts, for serializing functions:
// half of the start-up time of either process, for something that this project never does. They come when they are
// first used.
const Module = require("node:module");

const late = new Set(["typescript", "@npmcli/arborist", "normalize-package-data"]);
const load = Module._load;

Module._load = function (request, parent, isMain) {
  const now = () => load.call(this, request, parent, isMain);
  if (!late.has(request) || !/[\\/]@pulumi[\\/]pulumi[\\/]/.test(parent?.filename ?? "")) return now();
  let loaded;
  const module = () => {
    loaded ??= now();
    return loaded;
  };
  // __esModule keeps TypeScript's import helpers from copying the module's properties, which would load it.
  return new Proxy(() => {}, {
    get: (_, name) => (name === "__esModule" ? true : module()[name]),
    apply: (_, self, values) => module().apply(self, values),
  });
};
