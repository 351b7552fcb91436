const Module = require("node:module");
const { readFileSync } = require("node:fs");

/**
 * A patch of one version of a package: `modules` matches the names by which the package's own files load the modules
 * that it replaces, and `replace` gets a function that loads the plain one.
 * @typedef {{ package: string, version: string, modules: RegExp, replace: (load: () => any) => any }} Patch
 */

/** Names, with commas between, that PGS_WITHOUT_PATCHES leaves out: for bench/preload, and to look for a fault. */
const leftOut = new Set((process.env.PGS_WITHOUT_PATCHES ?? "").split(","));

/** @param {Record<string, Patch>} patches by name */
exports.patch = (patches) => {
  const wanted = Object.entries(patches).filter(([name]) => !leftOut.has(name));
  const load = Module._load;
  const patchesOf = new Map();
  Module._load = function (request, parent, isMain) {
    const plain = () => load.call(this, request, parent, isMain);
    const folder = packageFolder(parent?.filename);
    if (!folder) return plain();
    if (!patchesOf.has(folder.path)) patchesOf.set(folder.path, fitting(wanted, folder));
    const found = patchesOf.get(folder.path).find(({ modules }) => modules.test(request));
    return found ? found.replace(plain) : plain();
  };
};

/** The installed package that a file belongs to. */
function packageFolder(file) {
  const found = /^.*[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)(?=[\\/])/.exec(file ?? "");
  return found && { path: found[0], name: found[1].replace("\\", "/") };
}

function fitting(patches, { path, name }) {
  const meant = patches.filter(([, patch]) => patch.package === name);
  if (meant.length === 0) return [];
  const { version } = JSON.parse(readFileSync(`${path}/package.json`, "utf8"));
  const others = meant.filter(([, patch]) => patch.version !== version);
  if (others.length > 0) exports.sayLeftOut(name, version, others);
  return meant.filter(([, patch]) => patch.version === version).map(([, patch]) => patch);
}

exports.isLeftOut = (name) => leftOut.has(name);

exports.sayLeftOut = (name, version, others) => {
  const list = others.map(([patch, { version }]) => `${patch} (for ${version})`).join(", ");
  console.error(`pgs: ${name} ${version} is used as it is, without the patches in toolchain/preload: ${list}`);
};

/** Loads a module only when something of it is used. */
exports.whenUsed = (load) => {
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
};
