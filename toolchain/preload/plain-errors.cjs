const { inspect } = require("node:util");

/**
 * In Node 20, `util.inspect` in colours never ends on a line such as "…/node_modules/@pulumi/output.ts:378:13", which
 * Pulumi's source maps make: each error of the program took half a minute, until memory for the text ran out.
 */
module.exports = {
  package: "@pulumi/pulumi",
  version: "3.248.0",
  modules: /^\.\/error$/,
  replace(load) {
    const error = load();
    const { defaultErrorMessage } = error;
    // Others of the package's modules have this name too.
    if (!defaultErrorMessage) return error;
    error.defaultErrorMessage = (thrown) => {
      if (!thrown?.stack) return defaultErrorMessage(thrown);
      try {
        return inspect(thrown);
      } catch {
        // Too large for one text.
        return String(thrown.stack);
      }
    };
    return error;
  },
};
