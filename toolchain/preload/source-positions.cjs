/**
 * Each resource would carry its place in the source into the state file, which every step of an `up` writes again.
 * Saves 9 % of the processor time of a preview of 30 tenants.
 */
module.exports = {
  package: "@pulumi/pulumi",
  version: "3.248.0",
  modules: /^\.\.?\/resource$/,
  replace(load) {
    const resource = load();
    if (resource.Resource) resource.Resource.callsites = () => [];
    return resource;
  },
};
