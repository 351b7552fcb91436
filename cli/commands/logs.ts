import { pipeline } from "node:stream/promises";
import { command } from "../lib/command";
import { CommandError } from "../lib/pulumi";
import { serverLog } from "../lib/server-log";
import { requiredOutputs, stackConfig, tenantOf } from "../lib/stack";

export const logs = command(
  "logs",
  "log of a tenant's server",
  "./pgs logs acme --tail 20",
  "./pgs logs acme -f",
)
  .argument("<tenant>")
  .option("-f, --follow", "go on as more is written, until Ctrl-C")
  .option("--tail <lines>", "only the last ones; or all", "all")
  .action(showLogs);

async function showLogs(
  id: string,
  { follow = false, tail }: { follow?: boolean; tail: string },
): Promise<void> {
  if (!/^(all|\d+)$/.test(tail))
    throw new CommandError(`--tail takes a number of lines or all, got ${tail}`, 2);
  const [config, { tenants }] = await Promise.all([stackConfig("any"), requiredOutputs()]);
  const lines = tail === "all" ? undefined : Number(tail);
  const text = await serverLog(id, tenantOf(tenants, id), config, { follow, tail: lines });
  // `| head` closes the output: no failure.
  await pipeline(text, process.stdout, { end: false }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
}
