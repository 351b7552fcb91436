import type Docker from "dockerode";
import { networksByName } from "../../../docker/cache";
import { exec } from "../../../docker/exec";
import { monitorRole } from "../../../docker/session-options";
import { excluded } from "../../../tenants/addresses";
import { proxyAddress } from "../../networks";
import type { PostgresServerInputs, PostgresServerState } from "../inputs";
import { givesPower, type Inside, isPowerful } from "../inside";
import type { Part, RunningServer } from "../part";
import { matches, scramVerifier } from "../scram";
import { endClients, literal } from "../session";
import { pooler } from "./pooler";
import { revoke } from "./roles";

/** Who may come in: the password, and what pg_hba.conf says of clients from the network. */
export const access: Part & {
  apply(server: RunningServer): Promise<void>;
  /** Refuses new clients and ends their sessions. It needs no session itself: all may be taken. */
  close(container: Docker.Container, inputs: PostgresServerInputs): Promise<void>;
  /** Ends the sessions of all clients; those that may come in come back. It needs no session itself. */
  endSessions(container: Docker.Container): Promise<void>;
} = {
  name: "access",

  async differs(inputs, { inside }) {
    if (!inside) return false;
    return (
      !(await isWanted(inputs, inside)) ||
      (await clientsOf(inputs)) !== inside.clients ||
      (await monitorsOf(inputs)) !== inside.monitors ||
      (!inputs.access.open && inside.sessions > 0)
    );
  },

  async apply({ inputs, container, session, inside }) {
    if (!(await isWanted(inputs, inside))) {
      if (inputs.user) {
        await session.run(withoutSuperusers);
        await pooler.endSessions(inputs);
      } else {
        const verifier = literal(await scramVerifier(inputs.password));
        await session.run(`ALTER ROLE postgres PASSWORD ${verifier} VALID UNTIL 'infinity';`);
      }
    }
    if (!inputs.access.open) return;
    const [clients, monitors] = [await clientsOf(inputs), await monitorsOf(inputs)];
    if (clients !== inside.clients || monitors !== inside.monitors) await admit(container, clients, monitors);
  },

  async close(container, inputs) {
    await admit(container, rejected, await monitorsOf(inputs));
    await run(container, endSessions);
  },

  endSessions: (container) => run(container, endSessions),
};

/**
 * Addresses that clients may no longer come from. A session may be from one of them: the server sees the proxy's address
 * alone, so all of the tenant's sessions are ended.
 */
export function excludedClients(
  before: Partial<PostgresServerState>,
  inputs: PostgresServerInputs,
): string[] {
  const wasOpen = before.state !== "stopped" && before.access?.open;
  return wasOpen && inputs.access.open ? excluded(before.access?.allow, inputs.access.allow) : [];
}

const rejected = "reject";

/** Whether the role postgres has its password; where the tenant is no superuser, whether it has none, and no role is one. */
async function isWanted({ user, password }: PostgresServerInputs, inside: Inside): Promise<boolean> {
  if (user !== undefined) return inside.verifier === null && !inside.otherSuperusers;
  return inside.validUntil === null && (await matches(inside.verifier, password));
}

/** Without a password nobody logs in as postgres over the network: pgs does so over the server's own socket. */
const withoutSuperusers = [
  "ALTER ROLE postgres PASSWORD NULL;",
  `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_addr IS NOT NULL AND usesysid IN (SELECT oid FROM pg_authid WHERE oid = 10 OR ${isPowerful}) \\g /dev/null`,
  `SELECT format('ALTER ROLE %I NOSUPERUSER NOCREATEROLE NOREPLICATION NOBYPASSRLS', rolname) FROM pg_authid WHERE ${isPowerful} \\gexec`,
  revoke(givesPower),
].join("\n");

/** As pg_hba.conf has it. */
async function clientsOf(inputs: PostgresServerInputs): Promise<string> {
  return inputs.access.open ? comersOf(inputs) : rejected;
}

/** The role of monitoring sees a tenant that no client may come to. */
async function monitorsOf(inputs: PostgresServerInputs): Promise<string> {
  return inputs.access.monitored ? comersOf(inputs) : "";
}

async function comersOf({ host, access, network }: PostgresServerInputs): Promise<string> {
  if (access.clients !== "proxy") return access.clients;
  const info = (await networksByName(host)).get(network.name);
  const address = info && proxyAddress(info);
  if (!address) throw new Error(`the network ${network.name} has no subnet of pgs:tenantSubnets`);
  return `${address}/32`;
}

/**
 * Writes the line of pg_hba.conf that the image has for clients. The first line that fits a connection counts: so the
 * tenant's own lines come before the one that lets clients in, and after the one that refuses them; that of monitoring
 * comes before all. https://www.postgresql.org/docs/18/auth-pg-hba-conf.html
 */
async function admit(container: Docker.Container, clients: string, monitors: string): Promise<void> {
  const closed = clients === rejected;
  const line = closed ? "host all all all reject" : `host all all ${clients} scram-sha-256`;
  const ofMonitors = monitors && `host all ${monitorRole} ${monitors} scram-sha-256`;
  await run(container, writeLine, closed ? "first" : "last", line, ofMonitors);
}

/** The postmaster, which is the container's first process, reloads the file on SIGHUP. */
const writeLine = `
  ours='^host all (${monitorRole} [^ ]+ scram-sha-256|all [^ ]+ scram-sha-256|all all reject)$'
  {
    if [ -n "$3" ]; then echo "$3"; fi
    if [ "$1" = first ]; then echo "$2"; fi
    grep -vE "$ours" "$PGDATA/pg_hba.conf"
    if [ "$1" = last ]; then echo "$2"; fi
  } >"$PGDATA/pg_hba.conf.new"
  mv "$PGDATA/pg_hba.conf.new" "$PGDATA/pg_hba.conf"
  kill -HUP 1`;

/** The postmaster reads a changed pg_hba.conf a moment after the signal, so latecomers are ended too. */
const endSessions = `
  ${endClients}
  for round in 1 2 3; do
    end_clients all
    sleep 0.2
  done`;

async function run(container: Docker.Container, script: string, ...args: string[]): Promise<void> {
  const result = await exec(container, ["bash", "-c", `set -eu\n${script}`, "bash", ...args], {
    seconds: 30,
  });
  if (result.code !== 0) throw new Error(`cannot change who may log in: ${result.stderr.trim()}`);
}
