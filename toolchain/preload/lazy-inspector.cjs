const { whenUsed } = require("./patch.cjs");

/**
 * The SDK opens a session of V8's inspector before it runs a program, to find where a function was written whose code
 * goes into the state. V8 then tells it of each script. This program writes no functions (lazy-modules).
 * Saves 7 % of the processor time of a preview.
 */
module.exports = {
  package: "@pulumi/pulumi",
  version: "3.248.0",
  modules: /\/v8Hooks$/,
  replace(load) {
    const hooks = whenUsed(load);
    return new Proxy(hooks, {
      get: (_, name) => (name === "isInitializedAsync" ? async () => {} : hooks[name]),
    });
  },
};
