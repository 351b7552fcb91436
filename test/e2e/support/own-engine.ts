import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, run, succeed } from "./command";

let made = 0;

/**
 * A Docker engine for one test, which may be stopped and killed: in a network namespace of its own, so that it
 * cannot touch the host's bridges and rules; ports that it publishes are reached at `address`. Needs root.
 */
export class OwnEngine {
  private process: ChildProcess | undefined;

  private constructor(
    private readonly folder: string,
    private readonly namespace: string,
    /** Where the host reaches what this engine publishes. */
    readonly address: string,
    readonly ipv6: {
      /** The same by IPv6. */
      address: string;
      /** That of the host, as this engine sees it. */
      host: string;
    },
  ) {}

  static async create(images: string[]): Promise<OwnEngine> {
    const name = `pgst${process.pid}${String.fromCharCode(97 + made++)}`;
    const [third, fourth] = [process.pid % 256, 4 * (made % 60)];
    const host = `10.231.${third}.${fourth + 1}`;
    const prefix = `fd5c:231:${third.toString(16)}:${fourth.toString(16)}`;
    const engine = new OwnEngine(
      mkdtempSync(join(tmpdir(), "pgs-engine-")),
      name,
      `10.231.${third}.${fourth + 2}`,
      { host: `${prefix}::1`, address: `${prefix}::2` },
    );
    try {
      const inside = ["netns", "exec", name, "ip"];
      await succeed("ip", ["netns", "add", name]);
      await succeed("ip", ["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name]);
      await succeed("ip", ["addr", "add", `${host}/30`, "dev", name]);
      await succeed("ip", ["-6", "addr", "add", `${engine.ipv6.host}/64`, "dev", name, "nodad"]);
      await succeed("ip", ["link", "set", name, "up"]);
      await succeed("ip", [...inside, "addr", "add", `${engine.address}/30`, "dev", "eth0"]);
      const ipv6 = ["-6", "addr", "add", `${engine.ipv6.address}/64`, "dev", "eth0", "nodad"];
      await succeed("ip", [...inside, ...ipv6]);
      for (const device of ["lo", "eth0"]) await succeed("ip", [...inside, "link", "set", device, "up"]);
      await succeed("ip", [...inside, "route", "add", "default", "via", host]);
      await engine.start();
      const archive = join(engine.folder, "images.tar");
      await succeed("docker", ["save", "--output", archive, ...images]);
      await engine.docker("load", "--input", archive);
      rmSync(archive);
    } catch (error) {
      await engine.remove();
      throw error;
    }
    return engine;
  }

  /** For DOCKER_HOST. */
  get host(): string {
    return `unix://${join(this.folder, "docker.sock")}`;
  }

  /** Returns when it answers. One that ends is started again, as a service manager does it. */
  async start(tries = 5): Promise<void> {
    const path = (name: string) => join(this.folder, name);
    // Not `ip netns exec`, which would hide the control groups behind a new /sys.
    this.process = spawn(
      "nsenter",
      [
        `--net=/run/netns/${this.namespace}`,
        "dockerd",
        // Without these, engines before 27 forward what comes by IPv6 from an address of their own.
        ...["--experimental", "--ip6tables"],
        ...["--data-root", path("data"), "--exec-root", path("exec"), "--pidfile", path("pid")],
        ...["--host", this.host],
      ],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    const log = createWriteStream(path("log"), { flags: "a" });
    this.process.stdout?.pipe(log, { end: false });
    this.process.stderr?.pipe(log, { end: false });
    try {
      await eventually(120, async () => {
        if (this.process?.exitCode === null) await this.docker("version");
      });
      if (this.process.exitCode === null) return;
    } finally {
      log.end();
    }
    // A killed daemon's containerd can be taken for a running one as long as nobody has asked for its exit code.
    if (tries > 1) return this.start(tries - 1);
    throw new Error(`dockerd ended:\n${tail(path("log"))}`);
  }

  /** As a host that is shut down: containers are stopped first. */
  async stop(): Promise<void> {
    await this.end("SIGTERM");
  }

  /** The daemon alone dies; containers run on, as after an out-of-memory kill. */
  async kill(): Promise<void> {
    await this.end("SIGKILL");
  }

  /** All that runs in it dies in one moment, as in a power cut. */
  async cutPower(): Promise<void> {
    const ids = (await this.docker("ps", "--quiet", "--no-trunc")).split("\n").filter(Boolean);
    const inside = processes((pid) => {
      const groups = read(`/proc/${pid}/cgroup`);
      return ids.some((id) => groups.includes(id));
    });
    const ended = this.end("SIGKILL");
    for (const pid of [...this.helpers(), ...inside]) kill(pid);
    await ended;
    await this.unmount();
    // It is in memory on a host (/run).
    rmSync(join(this.folder, "exec"), { recursive: true, force: true });
  }

  docker(...args: string[]): Promise<string> {
    return succeed("docker", ["--host", this.host, ...args]);
  }

  /** Takes away all of it, whatever state it is in. */
  async remove(): Promise<void> {
    if (this.process?.exitCode === null && this.process.signalCode === null) {
      const ids = (await run("docker", ["--host", this.host, "ps", "--all", "--quiet"])).stdout.split("\n");
      await run("docker", ["--host", this.host, "rm", "--force", "--volumes", ...ids.filter(Boolean)]);
      await this.end("SIGTERM");
    }
    for (const pid of this.helpers()) kill(pid);
    await this.unmount();
    await run("ip", ["link", "delete", this.namespace]);
    await run("ip", ["netns", "delete", this.namespace]);
    rmSync(this.folder, { recursive: true, force: true });
  }

  private async unmount(): Promise<void> {
    const mounts = read("/proc/mounts")
      .split("\n")
      .map((line) => line.split(" ")[1] ?? "")
      .filter((path) => path.startsWith(`${this.folder}/`));
    for (const path of mounts.reverse()) await run("umount", ["--lazy", path]);
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const { process } = this;
    if (!process || process.exitCode !== null || process.signalCode !== null) return;
    const ended = new Promise((resolve) => process.once("exit", resolve));
    process.kill(signal);
    await ended;
  }

  /** containerd and its shims, which outlive a killed daemon: the folder, which no other has, is in their arguments. */
  private helpers(): number[] {
    return processes(
      (pid) =>
        /containerd/.test(read(`/proc/${pid}/cmdline`)) &&
        read(`/proc/${pid}/cmdline`).includes(`${this.folder}/`),
    );
  }
}

function processes(matching: (pid: number) => boolean): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && matching(pid));
}

/** Empty when it is gone. */
function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

function tail(path: string): string {
  return read(path).split("\n").slice(-10).join("\n");
}
