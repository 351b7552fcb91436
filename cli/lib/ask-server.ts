import type Docker from "dockerode";
import { exec, printable } from "../../docker/exec";
import { sessionEnvironment } from "../../docker/session-options";
import { CommandError } from "./pulumi";

export interface Question {
  /** PostgreSQL's major version. */
  version: number;
  /** Databases or connection strings: the next one is tried where one does not answer. */
  targets: string[];
  /** The role to ask as. Default: postgres, its superuser. */
  user?: string;
  /** For psql. It only reads, and prints once, at its end. */
  sql: string;
  /** Seconds that a statement may take. */
  seconds: number;
  /** How many bytes the answer may have. Default: 1 MiB. */
  outputLimit?: number;
}

/** Asks one server. @throws CommandError with its terse error, or why there is no answer */
export type Ask = (question: Question) => Promise<string>;

/** Where all connections are taken, a session of replication may be had: it takes SQL as well. */
export const byReplication = (database: string) => `dbname=${database} replication=database`;

const psql = `
  sql=$(cat) user=$1
  shift
  for target; do
    printf '%s\\n' "$sql" | psql --no-psqlrc --quiet --tuples-only --no-align --username "$user" \\
      --set ON_ERROR_STOP=1 --set VERBOSITY=terse --file - --dbname "$target" && exit
  done
  exit 1`;

/**
 * Asks a tenant's server over its own socket. The tenant may be its superuser: the answer is data, to be checked.
 * @throws CommandError with its terse error, or why there is no answer
 */
export async function askServer(
  container: Docker.Container,
  { version, targets, user = "postgres", sql, seconds, outputLimit }: Question,
): Promise<string> {
  const { code, stdout, stderr } = await exec(container, ["sh", "-c", psql, "sh", user, ...targets], {
    stdin: sql,
    env: sessionEnvironment(version, "read", seconds, user === "postgres"),
    seconds: seconds + 2,
    outputLimit,
  }).catch((error: Error) => {
    throw new CommandError(`the server does not answer: ${error.message}`);
  });
  if (code === 0) return stdout.trim();
  throw new CommandError(printable(stderr, 500) || `psql ended with ${code}`);
}

/**
 * Asks in a tenant's own database, as the tenant: the view of the statements is there, where a function of its own could
 * stand in its place.
 * @throws CommandError as `askServer` does
 */
export function askDatabase(
  ask: Ask,
  { version, database, user }: { version: number; database: string; user: string },
  sql: string,
): Promise<string> {
  const targets = [`dbname=${database}`, ...(user === "postgres" ? [byReplication(database)] : [])];
  return ask({ version, targets, user, sql, seconds: 10 });
}
