import { command } from "../lib/command";
import { CommandError } from "../lib/pulumi";
import { stackConfig } from "../lib/stack";

export const dashboard = command(
  "dashboard",
  "a web page of tenants, host and changes, served on this machine until Ctrl-C",
  "./pgs dashboard",
  "./pgs dashboard --no-open --port 9000",
  "ssh -L 8484:127.0.0.1:8484 HOST     then ./pgs dashboard there, and its address here",
)
  .option("--port <port>", "on 127.0.0.1", "8484")
  .option("--no-open", "do not open a browser")
  .action(async (options: { port: string; open: boolean }) => {
    const port = /^\d{1,5}$/.test(options.port) ? Number(options.port) : 0;
    if (port < 1 || port > 65535)
      throw new CommandError(`--port is a number from 1 to 65535, got ${options.port}`, 2);
    await stackConfig();
    // Only this command needs what it loads.
    const { runDashboard } = require("../dashboard") as typeof import("../dashboard");
    await runDashboard({ port, open: options.open });
  });
