import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import type { Checkout } from "./checkout";
import { eventually } from "./command";

/** A process below the one that was started. */
export interface Descendant {
  pid: number;
  /** Its arguments, with spaces between them. */
  command: string;
}

/** An `up` that goes on while the test does something to it. */
export class RunningUp {
  private readonly child: ChildProcess;
  private output = "";
  /** Ends when the process and all that writes to its terminal have; the code of one that was killed is -1. */
  readonly ended: Promise<{ code: number; output: string }>;

  constructor(checkout: Checkout) {
    this.child = spawn("pulumi", ["up", "--yes", "--skip-preview", "--non-interactive"], {
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

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Waits until it has printed this. @throws when it ends first */
  async says(pattern: RegExp): Promise<void> {
    await eventually(200, async () => {
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
    const parents = new Map<number, number>();
    for (const name of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      // PID (COMMAND) STATE PPID …; the command may hold spaces and parentheses.
      const ppid = read(`/proc/${name}/stat`).split(") ").at(-1)?.split(" ")[1];
      if (ppid) parents.set(Number(name), Number(ppid));
    }
    const below = (pid: number): boolean => {
      const parent = parents.get(pid);
      return parent !== undefined && parent > 1 && (parent === this.pid || below(parent));
    };
    return [...parents.keys()]
      .filter(below)
      .map((pid) => ({ pid, command: read(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim() }));
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

export function killAll(pids: number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended.
    }
  }
}
