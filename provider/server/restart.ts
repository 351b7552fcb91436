import type Docker from "dockerode";
import { stopSeconds } from "../../docker/client";
import { exec } from "../../docker/exec";
import { putFile } from "../../docker/files";
import { postgresUser } from "../../docker/hardening";
import type { Session } from "./session";

/**
 * Why the server would not start with what its configuration files say now; undefined when nothing speaks
 * against it. Some settings are refused only in combination, and only by a server that starts: its program
 * looks at them before it finds that the data directory is in use, where this trial ends.
 */
export async function refusedStart(container: Docker.Container): Promise<string | undefined> {
  const trial = 'exec postgres -D "$PGDATA" -C shared_memory_size';
  const { code, stderr } = await exec(container, ["sh", "-c", trial]);
  if (code === 0 || stderr.includes("postmaster.pid")) return undefined;
  const reason = stderr.trim().split("\n")[0] ?? "";
  return reason.replace(/^.*FATAL: +|^postgres: /, "");
}

/**
 * Restarts the server: the stop signal asks for a clean shutdown, and the engine waits two minutes before it
 * kills it. A server that does not come up is started again with the settings of `former`.
 * @returns why it did not come up; undefined when it did
 */
export async function restart(
  container: Docker.Container,
  session: Session,
  former: Record<string, string>,
): Promise<string | undefined> {
  const folder = await session.read("SHOW data_directory");
  const since = Math.floor(Date.now() / 1000);
  await container.restart({ t: stopSeconds });
  if (await comesUp(container, session)) return undefined;
  const reason = await lastFatal(container, since);
  await container.stop().catch(() => {});
  await putFile(container, folder, "postgresql.auto.conf", configurationFile(former), postgresUser);
  await container.start();
  await session.ready();
  return reason;
}

/**
 * Whether the server accepts connections. One that ends at its start takes the question down with it, and that
 * may be told before the engine has seen the end.
 * @throws the last failure of a server that runs and still has another trouble
 */
async function comesUp(container: Docker.Container, session: Session): Promise<boolean> {
  for (let tries = 20; ; tries--) {
    try {
      await session.ready();
      return true;
    } catch (error) {
      const { State, RestartCount } = await container.inspect();
      if (!State.Running || State.Restarting || RestartCount > 0) return false;
      if (tries === 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
}

/** https://www.postgresql.org/docs/18/config-setting.html#CONFIG-SETTING-CONFIGURATION-FILE */
function configurationFile(settings: Record<string, string>): string {
  const quoted = (value: string) => `'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
  return Object.entries(settings)
    .map(([name, value]) => `${name} = ${quoted(value)}\n`)
    .join("");
}

async function lastFatal(container: Docker.Container, since: number): Promise<string> {
  const log = await container.logs({ stdout: true, stderr: true, since });
  const lines = log.toString("utf8").split("\n");
  const reason = lines.findLast((line) => line.includes("FATAL: ")) ?? "see its log";
  return reason.replace(/^.*FATAL: +/, "");
}
