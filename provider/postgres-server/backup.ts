import { posix } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import type Docker from "dockerode";
import { askedOnce, networksByName, sharedContainer } from "../../docker/cache";
import { dockerClient, ensureRunning, ifPresent } from "../../docker/client";
import { exec } from "../../docker/exec";
import { removeFile, replaceFile } from "../../docker/file-changes";
import { getFile, getFolder } from "../../docker/files";
import { postgresUser } from "../../docker/hardening";
import { barmanName } from "../../restore/names";
import { attachAt, detach, reservedAddress } from "../network";

/** Barman's care for one tenant: it is attached to the tenant's network and has a file that says what to do. */
export interface Backup {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  /** Id of Barman's container. */
  barman: string;
  /** The tenant's id. */
  tenant: string;
  /** Name of the tenant's container, which it is reached by. */
  server: string;
  /** Id of that container, when there is one: another may have other data. */
  serverId?: string;
  /** Name of the tenant's network. */
  network: string;
  /** Of the role that Barman logs in as; letters and digits. */
  password: string;
  /** Time of day of the daily base backup, UTC: `HH:MM`. */
  schedule: string;
  /** For how many days back the tenant can be restored to any second. */
  retention: number;
  /** Whether the tenant's server is to be off. What was backed up of it is kept as long as it is. */
  stopped: boolean;
}

/** The role that Barman logs in as, and the slot by which it receives WAL. */
export const barmanRole = "pgs_barman";

/** Where Barman looks for what to do; in its volume, so that it outlives the container. */
const folder = "/var/lib/barman/servers.d";

/** Of a tenant that nothing more is received of. */
const inactive = "active = false\n";

/** Says that the file is a PostgresServer's own: one of before that is not, and is deleted with its resource. */
const ownership = "; part of PostgresServer";

/** Whether Barman does so now. */
export async function isBackedUp(backup: Backup): Promise<boolean> {
  const info = await sharedContainer(backup.host, backup.barman);
  const network = (await networksByName(backup.host)).get(backup.network);
  if (!info?.State.Running || !network) return false;
  const attached = info.NetworkSettings.Networks[backup.network]?.IPAddress;
  const files = await askedOnce(`${backup.host} ${backup.barman} ${folder}`, () =>
    getFolder(dockerClient(backup.host).getContainer(backup.barman), folder),
  );
  const written = (extension: string) => files?.get(posix.basename(pathOf(backup, extension)));
  const configuration = written("conf");
  return (
    attached === reservedAddress(network, "barman") &&
    // Barman's container adds this line when it has all that a stopped server wrote.
    (backup.stopped ? configuration?.replace(inactive, "") : configuration) === configurationOf(backup) &&
    written("pass") === passFileOf(backup)
  );
}

/** Whether the tenant's file is a PostgresServer's, see provider/former-backup.ts. */
export async function isHeldByServer(backup: Backup): Promise<boolean> {
  const container = dockerClient(backup.host).getContainer(backup.barman);
  return (await getFile(container, pathOf(backup, "conf")))?.includes(ownership) === true;
}

/**
 * Has Barman do so from now on.
 * @param former how it did so before
 */
export async function backUp(backup: Backup, former: Backup | undefined): Promise<void> {
  const docker = dockerClient(backup.host);
  await attachAt(docker, backup.network, backup.barman, "barman");
  const container = docker.getContainer(backup.barman);
  await ensureRunning(container, await container.inspect());
  await replaceFile(container, pathOf(backup, "pass"), passFileOf(backup), postgresUser);
  if (!backup.stopped) {
    const others = await setAsideOthers(container, backup);
    // What was written while nobody streamed is in no WAL that Barman has: only a new base backup goes on from it.
    if (others || !former || former.stopped) {
      await replaceFile(container, pathOf(backup, "due"), "", postgresUser);
    }
  }
  await replaceFile(container, pathOf(backup, "conf"), configurationOf(backup), postgresUser);
}

/** Has Barman receive nothing more of a tenant. What was backed up stays, and can be restored. */
export async function endBackup(backup: Backup): Promise<void> {
  const container = dockerClient(backup.host).getContainer(backup.barman);
  const info = await ifPresent(container.inspect());
  if (info?.State.Running) await retire(container, backup);
  await detach(dockerClient(backup.host), backup.network, backup.barman);
}

/** Prints what names a tenant's volume; beside the data, so that it is in no backup. */
const volumeId = `
  set -eu
  id=/var/lib/postgresql/.volume-id
  [ -s "$id" ] || { cat /proc/sys/kernel/random/uuid >"$id.new"; sync "$id.new"; mv "$id.new" "$id"; }
  cat "$id"`;

/**
 * Backups under this tenant's name may be those of other data: of a volume that is gone. They get the name
 * TENANT-SYSTEM, by which they can be restored, and Barman begins anew. The system's identifier does not tell: it is
 * the same for all that was restored from one tenant.
 * https://www.postgresql.org/docs/18/protocol-replication.html
 */
const setAside = `
  set -eu
  cd /var/lib/barman
  known=$(cat "servers.d/$1.volume" 2>/dev/null || true)
  note() { printf '%s\\n' "$2" >"servers.d/.$1.volume.new"; mv "servers.d/.$1.volume.new" "servers.d/$1.volume"; }
  if [ ! -e "$1/identity.json" ]; then note "$1" "$3"; exit 0; fi
  old=$(sed -n 's/.*"systemid": "\\([0-9]*\\)".*/\\1/p' "$1/identity.json")
  new=$(psql --no-psqlrc --tuples-only --no-align "$2" --command 'SELECT system_identifier FROM pg_control_system()')
  if [ "$old" = "$new" ] && [ "\${known:-$3}" = "$3" ]; then note "$1" "$3"; exit 0; fi
  barman -q receive-wal --stop "$1" || true
  aside=$1-$old n=1
  while [ -e "$aside" ] || [ -e "servers.d/$aside.conf" ]; do n=$((n + 1)) aside=$1-$old-$n; done
  retention=$(grep '^retention_policy' "servers.d/$1.conf" || true)
  printf '%s\\n' '; set aside' "[$aside]" "$retention" 'active = false' 'conninfo = host=none' 'streaming_conninfo = host=none' >"servers.d/$aside.conf"
  mv "$1/wals/$1-xlog.db" "$1/wals/$aside-xlog.db"
  mv "$1" "$aside"
  note "$1" "$3"
  echo "$aside"`;

/** @returns whether there were any */
async function setAsideOthers(container: Docker.Container, backup: Backup): Promise<boolean> {
  const server = dockerClient(backup.host).getContainer(backup.server);
  const volume = (await exec(server, ["sh", "-c", volumeId], { seconds: 60 })).stdout.trim();
  // Code of the tenant may have written it.
  if (!/^[0-9a-f-]{36}$/.test(volume)) throw new Error(`backup of ${backup.tenant}: its volume has no name`);
  const args = [barmanName(backup.tenant), `${loginOf(backup)} dbname=postgres`, volume];
  const result = await exec(container, ["bash", "-c", setAside, "bash", ...args], { seconds: 120 });
  if (result.code !== 0) throw new Error(`backup of ${backup.tenant}: ${result.stderr.trim()}`);
  const name = result.stdout.trim().replace(/^tenant-/, "");
  if (name === "") return false;
  await pulumi.log.warn(
    `The data of ${backup.tenant} is not that of its backups: those are kept, and are restored by restoreFrom: { tenant: ${name} }.`,
  );
  return true;
}

/** Files what was streamed until now, and asks the server for nothing more. */
async function retire(container: Docker.Container, backup: Backup): Promise<void> {
  const name = barmanName(backup.tenant);
  const stop = () => exec(container, ["barman", "-q", "receive-wal", "--stop", name], { seconds: 60 });
  await exec(container, ["timeout", "60", "pgs-backups", "archive", name, "mark"], { seconds: 120 });
  await stop();
  await exec(container, ["barman", "-q", "archive-wal", name], { seconds: 60 });
  await replaceFile(
    container,
    pathOf(backup, "conf"),
    `${configurationOf({ ...backup, stopped: false })}${inactive}`,
    postgresUser,
  );
  // Barman's own round may have started it again meanwhile.
  await stop();
  await removeFile(container, pathOf(backup, "pass"));
}

/** https://docs.pgbarman.org/release/3.19.1/user_guide/configuration.html */
function configurationOf(backup: Backup): string {
  const login = loginOf(backup);
  return [
    backup.stopped ? "; stopped" : `; daily at ${backup.schedule}`,
    `[${barmanName(backup.tenant)}]`,
    `conninfo = ${login} dbname=postgres`,
    `streaming_conninfo = ${login}`,
    `retention_policy = RECOVERY WINDOW OF ${backup.retention} DAYS`,
    ownership,
    "",
  ].join("\n");
}

function loginOf(backup: Backup): string {
  return `host=${backup.server} user=${barmanRole} connect_timeout=10 passfile=${pathOf(backup, "pass")}`;
}

/** https://www.postgresql.org/docs/18/libpq-pgpass.html */
function passFileOf({ password }: Backup): string {
  return `*:*:*:${barmanRole}:${password}\n`;
}

function pathOf({ tenant }: Backup, extension: string): string {
  return posix.join(folder, `${barmanName(tenant)}.${extension}`);
}
