// Loaded first in the program, in the provider and in `pgs` (Pulumi.yaml, provider/pulumi-resource-pgs, pgs): TypeScript
// for the project's own files, a cache of compiled modules, and the patches below. Each was measured by bench/preload. A
// patch is for one version of its package; with another version the package stays as it is, and a line on stderr names
// the patches that are left out.
require("./preload/compile-cache.cjs");
const { patch } = require("./preload/patch.cjs");

require("./preload/own-typescript.cjs");
patch({
  "lazy-modules": require("./preload/lazy-modules.cjs"),
  "lazy-inspector": require("./preload/lazy-inspector.cjs"),
  "promise-traces": require("./preload/promise-traces.cjs"),
  "debug-messages": require("./preload/debug-messages.cjs"),
  "source-positions": require("./preload/source-positions.cjs"),
  "plain-errors": require("./preload/plain-errors.cjs"),
});
