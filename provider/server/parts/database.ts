import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { promisify } from "node:util";
import { gunzip, type ZlibOptions } from "node:zlib";
import { stopSeconds } from "../../../docker/client";
import { isGzip } from "../../../tenants/dump-file";
import { largestUnpacked } from "../../../tenants/init-scripts";
import { creatingSetting, lookInside } from "../inside";
import { createDatabase, refuseOtherLocale } from "../locale";
import type { OpenServer, Part, RunningServer } from "../part";
import { identifier, literal } from "../session";
import { createUsualExtension, hasUsualExtension } from "./extensions";

/**
 * The tenant's database, made once with its init scripts. A run that fails or is cut off leaves nothing to go on from:
 * the database is made again from nothing, as long as it has never been complete; of a new tenant, the whole data
 * directory. A database that is there without `pgs.creating` is complete, or came with an adopted volume, and stays as
 * it is.
 */
export const database: Part & {
  /** Makes the database `postgres` again, where the tenant dropped it: the notes of pgs are in it. */
  maintain(server: RunningServer): Promise<void>;
  /** Undoes what a run that was cut off has made. It comes before the settings, which it may take away too. */
  startOver(server: RunningServer): Promise<void>;
  apply(server: RunningServer): Promise<void>;
} = {
  name: "database",

  differs(_inputs, { inside }) {
    if (!inside) return false;
    const { database, takesConnections, maintenance, creating, unfinished } = inside;
    return !database || !takesConnections || maintenance !== "open" || creating || unfinished;
  },

  async maintain({ session, inside }) {
    if (inside.maintenance === "open") return;
    const create = "CREATE DATABASE postgres TEMPLATE template0;";
    await session.run(
      {
        closed: "ALTER DATABASE postgres ALLOW_CONNECTIONS true;",
        invalid: `DROP DATABASE postgres;\n${create}`,
        gone: create,
      }[inside.maintenance],
    );
    Object.assign(inside, await lookInside(session));
  },

  async startOver({ inputs, session, container, inside }) {
    if (!inside.creating) return;
    if (inside.unfinished) {
      // Its scripts may have made roles and more that is no database's own.
      await session.run('\\! : >"$PGDATA.unfinished"');
      await container.restart({ t: stopSeconds });
    } else {
      await session.run(
        `DROP DATABASE IF EXISTS ${identifier(inputs.tenant)} WITH (FORCE);
        ALTER DATABASE postgres RESET ${creatingSetting};`,
      );
    }
    Object.assign(inside, await lookInside(session));
  },

  async apply(server) {
    const { inputs, session, inside } = server;
    const name = identifier(inputs.tenant);
    if (inside.database) {
      if (!isMade(server.before)) await refuseOtherLocale(session, inputs.database);
      const open = inside.takesConnections ? "" : `ALTER DATABASE ${name} ALLOW_CONNECTIONS true;\n`;
      if (open || inside.unfinished) await session.run(open + (inside.unfinished ? finished : ""));
      return;
    }
    const scripts = inputs.database.init;
    const begin = `ALTER DATABASE postgres SET ${creatingSetting} = ${literal(inputs.tenant)};
      ${createDatabase(inputs.tenant, inputs.database)}\n`;
    const usual = hasUsualExtension(inputs.settings) ? createUsualExtension(inputs.tenant) : "";
    const end = `${usual}ALTER DATABASE postgres RESET ${creatingSetting};\n${finished}`;
    if (scripts.length === 0) {
      await session.run(begin + end);
      return;
    }
    await session.run(begin);
    for (const script of scripts) await runScript(server, script);
    await session.run(end);
  },
};

/**
 * From now on, a start of the container leaves the data directory as it is (start-server.sh). It has to be so before
 * anyone knows a password: what a client writes must last.
 */
const finished = `\\! rm -f "$PGDATA.unfinished" && sync "$(dirname "$PGDATA")"\n`;

/** The next starts leave it as it is, complete or not: a restart for the settings that it got. */
export const keptUnfinished = '\\! echo keep >"$PGDATA.unfinished" && sync "$PGDATA.unfinished"';

const unpacked = promisify<Buffer, ZlibOptions, Buffer>(gunzip);

/** Whether an `up` before this one has made the tenant's database. */
export function isMade({ state }: RunningServer["before"]): boolean {
  return state !== undefined && state !== "incomplete";
}

/** Paths are from the project's folder, where the provider runs. */
export async function runScript(
  { inputs, session }: Pick<OpenServer, "inputs" | "session">,
  path: string,
): Promise<void> {
  try {
    const content = await readFile(path);
    // By its content, as it was checked.
    const sql = isGzip(content) ? await unpacked(content, { maxOutputLength: largestUnpacked }) : content;
    await session.script(sql.toString("utf8"), inputs.tenant);
  } catch (error) {
    throw new Error(
      `init script ${basename(path)} failed: ${messageOf(error)}. The database ${inputs.tenant} is not complete, and ` +
        "the next up makes it again from nothing: correct the script, then run `pulumi up` again",
    );
  }
}

/** psql calls what it read standard input; the operator knows the script by its own name, given before. */
function messageOf(error: unknown): string {
  const { message } = error as Error;
  const lines = message.match(/psql:<stdin>:\d+: (?:ERROR|FATAL|error).*?(?=psql:<stdin>:|$)/g) ?? [message];
  return lines.map((line) => line.trim().replace(/^psql:[^:]*:(\d+): /, "line $1: ")).join("; ");
}
