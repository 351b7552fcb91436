const { whenUsed } = require("./patch.cjs");

/**
 * The TypeScript compiler and npm's dependency solver serve to write the code of a program's functions into its state.
 * This program writes none.
 * Saves a third of the processor time of a preview.
 */
module.exports = {
  package: "@pulumi/pulumi",
  version: "3.248.0",
  modules: /^(typescript|@npmcli\/arborist|normalize-package-data|fdir|upath|js-yaml)$/,
  replace: whenUsed,
};
