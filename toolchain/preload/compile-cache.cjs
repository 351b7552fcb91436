const { createHash } = require("node:crypto");
const { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } = require("node:fs");
const Module = require("node:module");
const { basename, dirname, join, relative, sep } = require("node:path");
const { Script } = require("node:vm");
const { isLeftOut } = require("./patch.cjs");

const name = "compile-cache";
const root = join(__dirname, "..", "..");
const folder = join(root, "node_modules", ".cache", "pgs");

/**
 * Installed modules are compiled once, and not by each command. Node.js can do that itself from 22.1 on; before it, one
 * file for each program has the compiled code of its modules, found by their text.
 * Saves 13 % of a preview's processor time.
 */
if (!isLeftOut(name)) {
  if (Module.enableCompileCache) Module.enableCompileCache(folder);
  else useCacheFile();
}

function useCacheFile() {
  // From the project's own folder, so that checkouts which share packages share it.
  const program = relative(root, process.argv[1] ?? "");
  const key = digest(program, process.version, process.arch).toString("hex").slice(0, 8);
  const path = join(folder, `${basename(program)}-${key}`);
  /** Compiled code by the digest of its text. */
  const known = read(path);
  let changed = false;
  const plain = Module.prototype._compile;

  Module.prototype._compile = function (text, filename) {
    // A script cannot import modules, and has no line for a shell.
    const fits = filename.includes(`${sep}node_modules${sep}`) && !/\bimport\s*\(|^#!/.test(text);
    if (!fits) return plain.call(this, text, filename);
    const hash = digest(filename, text).toString("hex");
    const cachedData = known.get(hash);
    const script = new Script(Module.wrap(text), { filename, cachedData });
    if (!cachedData || script.cachedDataRejected) {
      // Before it runs: a module may change flags of V8, which compiled code is bound to.
      known.set(hash, script.createCachedData());
      changed = true;
    }
    const values = [this.exports, requireOf(this), this, filename, dirname(filename)];
    return script.runInThisContext().apply(this.exports, values);
  };

  const save = () => {
    if (changed) write(path, known);
    changed = false;
  };
  process.once("exit", save);
  // The provider has no end: Pulumi kills it.
  setTimeout(save, 3000).unref();
}

/** As Node.js makes it for a CommonJS module. */
function requireOf(module) {
  const require = (id) => module.require(id);
  require.resolve = (request, options) => Module._resolveFilename(request, module, false, options);
  require.resolve.paths = (request) => Module._resolveLookupPaths(request, module);
  require.main = process.mainModule;
  require.extensions = Module._extensions;
  require.cache = Module._cache;
  return require;
}

function digest(...parts) {
  const hash = createHash("sha1");
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest();
}

/** Digest of the rest, length of the list, list of `[digest, length]`, code. Anything else is an empty cache. */
function read(path) {
  try {
    const file = readFileSync(path);
    const rest = file.subarray(20);
    if (!digest(rest).equals(file.subarray(0, 20))) return new Map();
    let at = 4 + rest.readUInt32LE(0);
    const list = JSON.parse(rest.subarray(4, at).toString());
    return new Map(
      list.map(([hash, length]) => {
        at += length;
        return [hash, rest.subarray(at - length, at)];
      }),
    );
  } catch {
    return new Map();
  }
}

/** In one step: a reader never sees half of it. Where that cannot be, the next command compiles again. */
function write(path, known) {
  const part = `${path}.${process.pid}`;
  try {
    const code = [...known];
    const list = Buffer.from(JSON.stringify(code.map(([hash, data]) => [hash, data.length])));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(list.length);
    const rest = Buffer.concat([length, list, ...code.map(([, data]) => data)]);
    mkdirSync(folder, { recursive: true });
    writeFileSync(part, Buffer.concat([digest(rest), rest]));
    renameSync(part, path);
  } catch {
    try {
      rmSync(part, { force: true });
    } catch {}
  }
}
