import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { command } from "../lib/command";
import { holderRuns, type StackLock } from "../lib/explain-error";
import { CommandError, requiredStack, runPulumi } from "../lib/pulumi";

export const cancel = command(
  "cancel",
  "remove the lock that an interrupted run left on the stack",
  "./pgs cancel",
).action(async () => {
  const running = locksOf(await requiredStack()).find((lock) => holderRuns(lock));
  if (running) {
    throw new CommandError(
      `process ${running.pid} of ${running.user} works on the stack since ${running.since}: wait for it, or end it first`,
    );
  }
  await runPulumi(["cancel", "--yes"]);
});

const lockSchema = z.object({
  pid: z.int(),
  username: z.string(),
  hostname: z.string(),
  timestamp: z.string(),
});

/** The locks of a stack whose state is in files here; none of another backend, whose holders only Pulumi knows. */
function locksOf(stack: string): StackLock[] {
  const backend = process.env.PULUMI_BACKEND_URL ?? "";
  if (!backend.startsWith("file://") || stack === "") return [];
  const folder = join(
    fileURLToPath(new URL(backend.replace(/\?.*$/, ""))),
    ".pulumi/locks/organization/pgs",
    stack,
  );
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    const lock = lockSchema.safeParse(JSON.parse(readFileSync(join(folder, name), "utf8")));
    if (!lock.success) return [];
    const { pid, username, hostname, timestamp } = lock.data;
    return [{ pid, user: username, host: hostname, since: timestamp }];
  });
}
