import { printable } from "../../docker/exec";
import { ifPresent, type KubernetesClient } from "../../kubernetes/client";
import { askServer, type PodName } from "../../kubernetes/exec";
import { cnpg } from "../../kubernetes/names";
import { identifier, literal } from "../server/session";

/** FATAL messages in the JSON log of CloudNativePG, and in PostgreSQL's output before its log collector runs. */
const logged = /"error_severity":"FATAL",[^{}]*"message":"([^"\\]{1,300})/g;
const printed = /FATAL: +([^"\\]{1,300})/g;

/**
 * What PostgreSQL ended the recovery of a new tenant's data with, twice: the operator would try for ever.
 * @returns undefined while it may still succeed
 */
export async function whyRecoveryFails(
  { core }: KubernetesClient,
  namespace: string,
  cluster: string,
): Promise<string | undefined> {
  const labelSelector = `${cnpg.cluster}=${cluster},${cnpg.job}=full-recovery`;
  const { items = [] } = (await ifPresent(core.listNamespacedPod({ namespace, labelSelector }))) ?? {};
  const failed = items.filter(({ status }) => status?.phase === "Failed");
  if (failed.length < 2 || failed.length < items.length) return undefined;
  const name = failed[0]?.metadata?.name ?? "";
  const log = await ifPresent(
    core.readNamespacedPodLog({ namespace, name, container: "full-recovery", tailLines: 200 }),
  );
  const reason = [logged, printed]
    .flatMap((pattern) => [...(log ?? "").matchAll(pattern)].map(([, text = ""]) => text.trim()))
    // Clients that connected too early.
    .find((text) => !text.startsWith("the database system is"));
  return reason && printable(reason, 300);
}

/** In data that was made from another tenant's backups, the database has that tenant's name: gives it the new one's, once. */
export async function renameRestoredDatabase(
  client: KubernetesClient,
  primary: PodName,
  { version, from, to }: { version: number; from: string; to: string },
): Promise<void> {
  if (from === to) return;
  const present = `SELECT pg_catalog.string_agg(datname, ' ') FROM pg_catalog.pg_database
    WHERE datname IN (${literal(from)}, ${literal(to)})`;
  const { stdout } = await askServer(client, primary, { version, kind: "read", sql: present });
  // A run before was cut off.
  if (stdout.trim() === to) return;
  if (stdout.trim() !== from) {
    throw new Error(
      `what was restored should have a database ${from} and none ${to}: restore it under another id`,
    );
  }
  // Clients have no route yet: who is there is the operator, to see how the database is.
  const sql = `SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
    WHERE datname = ${literal(from)} AND pid <> pg_catalog.pg_backend_pid();
    ALTER DATABASE ${identifier(from)} RENAME TO ${identifier(to)}`;
  await askServer(client, primary, { version, kind: "change", sql });
}
