import type Docker from "dockerode";
import { barmanRole } from "./backup";
import { scramVerifier } from "./password";
import { literal, psql } from "./psql";

/**
 * Gives Barman a role that may receive WAL and make base backups, and nothing else.
 * https://docs.pgbarman.org/release/3.19.1/user_guide/pre_requisites.html
 */
export async function createBarmanRole(container: Docker.Container, password: string): Promise<void> {
  const functions =
    "pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_switch_wal(), pg_create_restore_point(text)";
  await psql(
    container,
    `SELECT 'CREATE ROLE ${barmanRole}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '${barmanRole}') \\gexec
     ALTER ROLE ${barmanRole} WITH LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS
       PASSWORD ${literal(scramVerifier(password))};
     GRANT pg_read_all_settings, pg_read_all_stats, pg_checkpoint TO ${barmanRole};
     GRANT EXECUTE ON FUNCTION ${functions} TO ${barmanRole};`,
  );
}

/**
 * Locks the role, and drops the slot, which would hold back WAL that nobody fetches. The role itself stays:
 * nothing says that the tenant has not made it own something.
 */
export async function lockBarmanRole(container: Docker.Container): Promise<void> {
  await psql(
    container,
    `ALTER ROLE ${barmanRole} NOLOGIN NOREPLICATION PASSWORD NULL;
     SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '${barmanRole}' \\g /dev/null
     SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '${barmanRole}' \\g /dev/null`,
  );
}
