import type Docker from "dockerode";
import { psql } from "./psql";

/**
 * Ends the sessions that came over the network, for a tenant whose route is closed. The proxy takes up a
 * changed route a moment after its file is written, so latecomers are ended too.
 */
export async function endSessions(container: Docker.Container): Promise<void> {
  const endThem = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND client_addr IS NOT NULL AND client_addr <> '127.0.0.1'
    \\g /dev/null`;
  const wait = "SELECT pg_sleep(0.3) \\g /dev/null";
  await psql(container, [endThem, wait, endThem, wait, endThem].join("\n"));
}
