import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { OutputFile } from "esbuild";

export interface PageFile {
  type: string;
  content: string;
}

const folder = join(__dirname, "page");

/** The page, by path: made when the command starts, which takes a tenth of a second. */
export async function pageFiles(): Promise<Record<string, PageFile>> {
  const { build } = require("esbuild") as typeof import("esbuild");
  const { outputFiles } = await build({
    entryPoints: [join(folder, "main.tsx")],
    outdir: folder,
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
    // TypeScript's own settings are in a file for the editor and tsc.
    jsx: "automatic",
    jsxImportSource: "preact",
    define: { "process.env.NODE_ENV": '"production"' },
    logLevel: "error",
  });
  const built = (extension: string) =>
    (outputFiles.find(({ path }) => path.endsWith(extension)) as OutputFile).text;
  const own = (name: string) => readFileSync(join(folder, name), "utf8");
  return {
    "/": { type: "text/html; charset=utf-8", content: own("index.html") },
    "/page.js": { type: "text/javascript; charset=utf-8", content: built(".js") },
    "/page.css": { type: "text/css; charset=utf-8", content: built(".css") },
    "/icon.svg": { type: "image/svg+xml", content: own("icon.svg") },
  };
}
