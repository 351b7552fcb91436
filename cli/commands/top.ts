import { type Ask, askDatabase } from "../lib/ask-server";
import { command } from "../lib/command";
import { CommandError } from "../lib/pulumi";
import type { TenantSummary } from "../lib/stack";
import { runningServer } from "../lib/tenant-login";
import { printableJson, terminalWidth } from "../lib/terminal";
import { endQuery, readTop, topText } from "../lib/top";

export const top = command(
  "top",
  "slow statements of a tenant, and sessions that work, wait or idle in a transaction",
  "./pgs top acme",
  "./pgs top acme --cancel 4711",
  "./pgs top acme --json | jq '.statements[] | select(.meanMilliseconds > 100) | .query'",
)
  .argument("<tenant>")
  .option("--limit <number>", "how many statements", "20")
  .option("--cancel <pid>", "cancel the statement of a session")
  .option("--terminate <pid>", "end a session, such as one that is idle in a transaction")
  .option("--json", "for programs: times in seconds and milliseconds, statements up to 2000 characters")
  .action(showTop);

interface Options {
  limit: string;
  cancel?: string;
  terminate?: string;
  json?: boolean;
}

async function showTop(id: string, options: Options): Promise<void> {
  const limit = number("--limit", options.limit, 200);
  if (options.cancel !== undefined && options.terminate !== undefined)
    throw new CommandError("--cancel and --terminate are for one session each: give one of them", 2);
  const { tenant, ask } = await runningServer(id);
  for (const [end, pid] of [
    ["statement", options.cancel],
    ["session", options.terminate],
  ] as const) {
    if (pid !== undefined) return endOne(ask, tenant, id, end, number("PID", pid, 2 ** 31 - 1));
  }
  const found = await readTop(ask, tenant, limit);
  console.log(options.json ? printableJson(found) : topText(id, found, terminalWidth()));
}

async function endOne(
  ask: Ask,
  tenant: TenantSummary,
  id: string,
  end: "statement" | "session",
  pid: number,
): Promise<void> {
  const state = await askDatabase(ask, tenant, endQuery(pid, end));
  if (state === "")
    throw new CommandError(`${id} has no session of a client with the PID ${pid}: ./pgs top ${id}`, 2);
  if (end === "statement" && state !== "active") {
    throw new CommandError(
      `session ${pid} is at no statement: ./pgs top ${id} --terminate ${pid} ends it`,
      2,
    );
  }
  console.log(
    end === "statement" ? `The statement of session ${pid} is cancelled.` : `Session ${pid} is ended.`,
  );
}

function number(what: string, value: string, most: number): number {
  const found = /^[1-9]\d{0,9}$/.test(value) ? Number(value) : Number.NaN;
  if (found <= most) return found;
  throw new CommandError(`${what} is a whole number from 1 to ${most}, got ${value}`, 2);
}
