/**
 * Each of the many promises of a resource would get a stack trace, with positions looked up in source maps. It is shown
 * where a program ends while a promise is open; that one is open is said without it too.
 * Saves 21 % of the processor time of a preview of 30 tenants.
 */
module.exports = {
  package: "@pulumi/pulumi",
  version: "3.248.0",
  modules: /^\.\/debuggable$/,
  replace(load) {
    const debuggable = load();
    const { debuggablePromise } = debuggable;
    // The package's modules load each other in circles: it may not be there yet.
    if (!debuggablePromise || debuggablePromise.withoutTrace) return debuggable;
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
  },
};
