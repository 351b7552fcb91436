import { randomBytes } from "node:crypto";
import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";

const holderSchema = z.object({ pid: z.int(), host: z.string(), started: z.string(), command: z.string() });
type Holder = z.infer<typeof holderSchema>;

/**
 * Commands that change one tenants.yaml, or apply it, take turns: from reading the file to the end of the `up`.
 * Waits for the others, with a line that says for whom. A lock whose process is gone is taken over.
 */
export async function inTurn<T>(
  tenantsFile: string,
  work: (turn: { waited: boolean }) => Promise<T>,
  say: (line: string) => void = (line) => console.error(line),
): Promise<T> {
  const path = lockOf(tenantsFile);
  const waited = await acquire(path, say);
  const release = () => rmSync(path, { force: true });
  process.on("exit", release);
  try {
    return await work({ waited });
  } finally {
    process.off("exit", release);
    release();
  }
}

/** The command that has the turn now, such as `./pgs restore acme`, if any runs. */
export function commandInTurn(tenantsFile: string): Pick<Holder, "command" | "pid"> | undefined {
  const holder = read(lockOf(tenantsFile));
  return holder && !isGone(holder) ? holder : undefined;
}

function lockOf(tenantsFile: string): string {
  return join(dirname(tenantsFile), `.${basename(tenantsFile)}.lock`);
}

/** @returns whether another command had the turn */
async function acquire(path: string, say: (line: string) => void): Promise<boolean> {
  const own: Holder = {
    pid: process.pid,
    host: hostname(),
    started: startOf(process.pid),
    command: ["./pgs", ...process.argv.slice(2, 4)].join(" "),
  };
  let told = "";
  while (!create(path, JSON.stringify(own))) {
    const holder = read(path);
    if (holder && isGone(holder)) {
      steal(path, holder);
      continue;
    }
    const who = holder ? `${holder.command} (process ${holder.pid} on ${holder.host})` : "another command";
    if (told !== who) say(`Waiting for ${who} to end. If it is gone, remove ${path}.`);
    told = who;
    await delay(100);
  }
  return told !== "";
}

/** In one step with its content: whoever reads it finds all of it. */
function create(path: string, content: string): boolean {
  const temporary = `${path}.${randomBytes(4).toString("hex")}`;
  writeFileSync(temporary, content, { mode: 0o644 });
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  } finally {
    rmSync(temporary, { force: true });
  }
}

function read(path: string): Holder | undefined {
  try {
    return holderSchema.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    return undefined;
  }
}

/** Only whoever gets the right to steal removes the file, so that no new holder's is removed. */
function steal(path: string, gone: Holder): void {
  const right = `${path}.stolen`;
  if (!create(right, String(process.pid))) {
    const thief = Number(readText(right));
    if (Number.isInteger(thief) && thief > 0 && !runs(thief)) rmSync(right, { force: true });
    return;
  }
  try {
    const holder = read(path);
    if (holder?.pid === gone.pid && holder.started === gone.started) rmSync(path, { force: true });
  } finally {
    rmSync(right, { force: true });
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function isGone({ host, pid, started }: Holder): boolean {
  if (host !== hostname()) return false;
  return !runs(pid) || startOf(pid) !== started;
}

function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** When a process started, as the kernel counts: its number may be another's by now. Empty where that is unknown. */
function startOf(pid: number): string {
  const [, fields = ""] = /^\d+ \(.*\) (.*)$/s.exec(readText(`/proc/${pid}/stat`)) ?? [];
  return fields.split(" ")[19] ?? "";
}
