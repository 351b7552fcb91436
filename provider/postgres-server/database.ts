import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type Docker from "dockerode";
import { identifier, literal, psql, psqlScript } from "./psql";

/**
 * Makes the tenant's database and runs its init scripts, once, so that a run cut off anywhere is taken up
 * where it stopped: before the database is made, `pgs.creating` is set on the database postgres, and each
 * script records itself in `pgs.init` in its own transaction. A database that exists without `pgs.creating`
 * is complete, or came with an adopted volume, and is left alone.
 * @param last SQL that is run when the database is there
 */
export async function createDatabase(
  container: Docker.Container,
  database: string,
  scripts: string[],
  observed: { databases: string[]; creating: boolean },
  last: string,
): Promise<void> {
  const exists = observed.databases.includes(database);
  if (exists && !observed.creating) {
    if (last) await psql(container, last);
    return;
  }
  const begin = `ALTER DATABASE postgres SET pgs.creating = ${literal(database)};
    CREATE DATABASE ${identifier(database)};`;
  const end = `ALTER DATABASE ${identifier(database)} RESET pgs.init;
    ALTER DATABASE postgres RESET pgs.creating;\n`;
  if (!exists && scripts.length === 0) {
    await psql(container, begin + end + last);
    return;
  }
  if (!exists) await psql(container, begin);
  await runScripts(container, database, scripts);
  await psql(container, end + last);
}

async function runScripts(container: Docker.Container, database: string, scripts: string[]): Promise<void> {
  if (scripts.length === 0) return;
  const done = await psql(container, "SELECT current_setting('pgs.init', true)", { database });
  const names: string[] = done ? JSON.parse(done) : [];
  for (const script of scripts) {
    if (names.includes(script)) continue;
    names.push(script);
    await runScript(container, database, script, names);
  }
}

/** One transaction holds the script and the record that it ran. */
async function runScript(
  container: Docker.Container,
  database: string,
  script: string,
  done: string[],
): Promise<void> {
  const sql = await readFile(script, "utf8");
  const record = `ALTER DATABASE ${identifier(database)} SET pgs.init = ${literal(JSON.stringify(done))}`;
  try {
    await psqlScript(container, sql, record, database);
  } catch (error) {
    throw new Error(
      `init script ${basename(script)} failed: ${messageOf(error)}. Nothing of it was kept and the database ` +
        `${database} is not complete: correct the script, then run \`pulumi up\` again`,
    );
  }
}

/** psql names its own copy; the operator knows the script by its own name, given before. */
function messageOf(error: unknown): string {
  return (error as Error).message
    .split("\n")
    .filter((line) => /ERROR|FATAL|error/.test(line))
    .map((line) => line.replace(/^psql:[^:]*:(\d+): /, "line $1: "))
    .join("; ");
}
