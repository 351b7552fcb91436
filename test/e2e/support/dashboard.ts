import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect } from "vitest";
import { type Checkout, freePort } from "./checkout";
import { eventually } from "./command";

/** `./pgs dashboard` of a checkout, until it is ended as by Ctrl-C. */
export class RunningDashboard {
  private constructor(
    readonly port: number,
    /** With the token. */
    readonly address: string,
    /** @returns exit code and signal */
    readonly end: () => Promise<unknown[]>,
  ) {}

  static async start({ folder, env }: Checkout): Promise<RunningDashboard> {
    const port = await freePort();
    const options = ["dashboard", "--no-open", "--port", String(port)];
    const command = spawn(join(folder, "pgs"), options, { cwd: folder, env });
    let printed = "";
    command.stdout.on("data", (chunk) => {
      printed += chunk;
    });
    const ended = once(command, "exit");
    const end = () => {
      command.kill("SIGINT");
      return ended;
    };
    try {
      const address = await eventually(120, async () => {
        const [url = ""] = /http:\S+/.exec(printed) ?? [];
        expect(url).toMatch(`http://127.0.0.1:${port}/?token=`);
        return url;
      });
      return new RunningDashboard(port, address, end);
    } catch (error) {
      await end();
      throw error;
    }
  }
}
