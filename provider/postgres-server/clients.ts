import type Docker from "dockerode";
import { exec } from "../engine";
import { psql } from "./psql";

/**
 * Lets clients in from `address` only (a CIDR, or `all`), by the line of pg_hba.conf that the image writes
 * for them. https://www.postgresql.org/docs/18/auth-pg-hba-conf.html
 */
export async function admitClients(
  container: Docker.Container,
  address: string,
  present: string,
): Promise<void> {
  if (address === present) return;
  const line = "host all all";
  const change = `file=$PGDATA/pg_hba.conf; sed -E "s#^(${line} )[^ ]+( scram-sha-256)\\$#\\1$1\\2#" "$file" >"$file.new" && mv "$file.new" "$file"`;
  const result = await exec(container, ["sh", "-c", change, "sh", address]);
  if (result.code !== 0) throw new Error(`cannot write pg_hba.conf: ${result.stderr.trim()}`);
  await psql(container, "SELECT pg_reload_conf() \\g /dev/null");
}

/** SQL for the address that is admitted now, as written in the file; empty when the line is not there. */
export const admittedClients = `(SELECT coalesce(max(line), '') FROM (
  SELECT (regexp_match(line, '^host all all (\\S+) scram-sha-256$'))[1] AS line
  FROM regexp_split_to_table(pg_read_file(current_setting('hba_file')), '\\n') AS line) AS lines)`;
