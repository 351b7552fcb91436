import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Checkout } from "./checkout";
import { eventually } from "./command";

/** A process below the one that was started. */
export interface Descendant {
  pid: number;
  /** When it began, in the kernel's ticks: tells it from a later process with its number. */
  began: string;
  /** Its arguments, with spaces between them. */
  command: string;
}

/** An `up` that goes on while the test does something to it. */
export class RunningUp {
  private readonly child: ChildProcess;
  private output = "";
  /** Ends when the process and all that writes to its terminal have; the code of one that was killed is -1. */
  readonly ended: Promise<{ code: number; output: string }>;

  /** @param options of Pulumi's */
  constructor(checkout: Checkout, ...options: string[]) {
    this.child = spawn("pulumi", ["up", "--yes", "--skip-preview", "--non-interactive", ...options], {
      cwd: checkout.folder,
      env: checkout.env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.child.stdout?.on("data", (chunk) => {
      this.output += chunk;
    });
    this.child.stderr?.on("data", (chunk) => {
      this.output += chunk;
    });
    this.ended = new Promise((resolve) => {
      // Not `close`: plugins that outlive a killed Pulumi hold its terminal.
      this.child.once("exit", (code) =>
        setTimeout(() => resolve({ code: code ?? -1, output: this.output }), 200),
      );
    });
  }

  /** Ends Pulumi's own process, and none that it started. */
  kill(): void {
    this.child.kill("SIGKILL");
  }

  /** Waits until it has printed this. @throws when it ends first */
  async says(pattern: RegExp): Promise<void> {
    await eventually(400, async () => {
      if (pattern.test(this.output)) return;
      if (!this.isRunning) throw new Error(`ended without saying ${pattern}:\n${this.output}`);
      throw new Error(`does not say ${pattern}:\n${this.output}`);
    });
  }

  get isRunning(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** What descends from it now, itself left out. */
  descendants(): Descendant[] {
    const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
    const stats = new Map(pids.map((pid) => [Number(pid), stat(Number(pid))]));
    const below = (pid: number): boolean => {
      const parent = stats.get(pid)?.parent ?? 0;
      return parent > 1 && (parent === this.child.pid || below(parent));
    };
    return [...stats]
      .filter(([pid]) => below(pid))
      .map(([pid, { began }]) => ({
        pid,
        began,
        command: read(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim(),
      }));
  }
}

/** Empty when the process is gone. */
function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** PID (COMMAND) STATE PPID …, the 22nd is when it began; the command may hold spaces and parentheses. */
function stat(pid: number): { parent: number; began: string } {
  const [, parent, ...rest] = read(`/proc/${pid}/stat`).split(") ").at(-1)?.split(" ") ?? [];
  return { parent: Number(parent ?? 0), began: rest[17] ?? "" };
}

/**
 * The next up, which must succeed, after the lock is taken off that a killed Pulumi leaves.
 * @param options of Pulumi's @returns seconds
 */
export async function converge(checkout: Checkout, ...options: string[]): Promise<number> {
  const locks = join(checkout.folder, "state", ".pulumi", "locks");
  const files = existsSync(locks) ? readdirSync(locks, { recursive: true, encoding: "utf8" }) : [];
  if (files.some((name) => name.endsWith(".json"))) await checkout.pulumi("cancel", "--yes");
  const { code, output, seconds } = await checkout.tryUp(...options);
  if (code !== 0 || output.includes("error:")) throw new Error(`the next up ended with ${code}:\n${output}`);
  return seconds;
}

/** Those that still run. */
export function killAll(processes: Iterable<Descendant>): void {
  for (const { pid, began } of processes) {
    if (stat(pid).began !== began) continue;
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended.
    }
  }
}
