import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * Opens an address in the user's browser, where there is one. The address has a secret and every user of the machine
 * can read arguments: the browser gets a file that leads there, which this user alone can read.
 * @returns what removes the file
 */
export function openBrowser(address: string, env = process.env, platform = process.platform): () => void {
  const program = opener(env, platform);
  if (!program) return () => {};
  const folder = mkdtempSync(join(tmpdir(), "pgs-dashboard-"));
  const file = join(folder, "open.html");
  writeFileSync(
    file,
    `<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=${address}"><a href="${address}">pgs</a>\n`,
    { mode: 0o600 },
  );
  const child = spawn(program, [file], { env, stdio: "ignore", detached: true });
  child.on("error", () => {});
  child.unref();
  return () => rmSync(folder, { recursive: true, force: true });
}

/** On Linux there is a browser where there is a desktop. */
function opener(env: NodeJS.ProcessEnv, platform: NodeJS.Platform): string | undefined {
  if (platform === "darwin") return "open";
  const desktop = env.DISPLAY || env.WAYLAND_DISPLAY;
  return platform === "linux" && desktop ? "xdg-open" : undefined;
}
