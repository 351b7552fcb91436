import { accessSync, constants, statSync } from "node:fs";
import { isAbsolute, normalize, resolve } from "node:path";
import { show } from "./problems";

/** What is wrong with the path of an init script, in words for the operator. */
export function initProblem(folder: string, path: string): string | undefined {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what no path may have
  if (path === "" || /[\u0000-\u001f\u007f]/.test(path))
    return `expected the path of an SQL script, got ${show(path)}`;
  if (isAbsolute(path) || /^\.\.(\/|$)/.test(normalize(path))) {
    return `${show(path)} is outside the folder of the file; write a relative path inside it, such as init/acme.sql`;
  }
  const absolute = resolve(folder, path);
  try {
    if (!statSync(absolute).isFile()) return `${show(path)} is no file; expected an SQL script`;
    accessSync(absolute, constants.R_OK);
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === "ENOENT"
      ? `${show(path)} does not exist (looked for ${absolute})`
      : `${show(path)} cannot be read (${code})`;
  }
}
