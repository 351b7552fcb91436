import type Docker from "dockerode";
import { exec } from "../../docker/exec";
import { psql } from "./psql";

/** From where a server takes connections, as written in its pg_hba.conf. */
export interface Admitted {
  /** A CIDR, or `all`; empty when the image's line is not there. */
  clients: string;
  /** Barman's address, from where alone its role may log in; empty when that role is not there. */
  barman: string;
}

/**
 * Lets clients in from there only, by the line of pg_hba.conf that the image writes for them. The first line that
 * fits a connection counts. https://www.postgresql.org/docs/18/auth-pg-hba-conf.html
 */
export async function admit(
  container: Docker.Container,
  wanted: Admitted,
  present: Admitted,
  role: string,
): Promise<void> {
  if (wanted.clients === present.clients && wanted.barman === present.barman) return;
  const program = `
    $1 == "host" && $3 == role { next }
    /^host all all [^ ]+ scram-sha-256$/ {
      if (barman) {
        print "host postgres,replication " role " " barman "/32 scram-sha-256"
        print "host all " role " all reject"
      }
      print "host all all " clients " scram-sha-256"
      next
    }
    { print }`;
  const change =
    'file=$PGDATA/pg_hba.conf; awk -v role="$2" -v clients="$3" -v barman="$4" "$1" "$file" >"$file.new" && mv "$file.new" "$file"';
  const args = [program, role, wanted.clients, wanted.barman];
  const result = await exec(container, ["sh", "-c", change, "sh", ...args]);
  if (result.code !== 0) throw new Error(`cannot write pg_hba.conf: ${result.stderr.trim()}`);
  await psql(container, "SELECT pg_reload_conf() \\g /dev/null");
}

/** SQL for what is admitted now, a JSON object. */
export function admittedNow(role: string): string {
  const address = (pattern: string) => `(SELECT coalesce(max((regexp_match(line, '${pattern}'))[1]), '')
    FROM regexp_split_to_table(pg_read_file(current_setting('hba_file')), '\\n') AS line)`;
  return `json_build_object(
    'clients', ${address("^host all all (\\S+) scram-sha-256$")},
    'barman', ${address(`^host postgres,replication ${role} (\\S+)/32 scram-sha-256$`)})`;
}
