const Module = require("node:module");
const { dirname, join, sep } = require("node:path");
const { isLeftOut, sayLeftOut } = require("./patch.cjs");

const name = "own-typescript";
const version = "4.23.15";

/**
 * TypeScript by tsx, for the project's own files alone: it would read, parse and resolve each installed module as well.
 * Saves 16 % of a preview's processor time.
 */
const plain = hooks();
require("tsx/cjs");
const tsx = hooks();

function hooks() {
  return { js: Module._extensions[".js"], resolve: Module._resolveFilename };
}

const own = dirname(dirname(__dirname)) + sep;
const isOwn = (path) => !path || (path.startsWith(own) && !path.startsWith(join(own, "node_modules", sep)));

const found = require("tsx/package.json").version;
if (found !== version) sayLeftOut("tsx", found, [[name, { version }]]);
else if (!isLeftOut(name)) {
  Module._extensions[".js"] = (module, path) => (isOwn(path) ? tsx : plain).js(module, path);
  Module._resolveFilename = function (request, parent, ...rest) {
    return (isOwn(parent?.filename) ? tsx : plain).resolve.call(this, request, parent, ...rest);
  };
}
