import { setTimeout as delay } from "node:timers/promises";
import { connect, type PeerCertificate } from "node:tls";
import { Client } from "pg";

/** Seconds that a connection or a login may take. */
const patience = 8;

/** What a connection without a login found. */
export interface Knock {
  /** Why there is no connection at all. */
  unreachable?: string;
  /** The proxy has no certificate for the name. */
  unknownName?: boolean;
  /** What TLS was made with. */
  certificate?: PeerCertificate;
  /** Why the certificate cannot be verified. */
  untrusted?: string;
  /** Whether a PostgreSQL server answered: without a route, the proxy closes instead. */
  answered: boolean;
}

/** Where a tenant is reached, and what with. */
export interface Target {
  /** IP address. */
  address: string;
  port: number;
  /** Goes into SNI. */
  host: string;
  /** PEM of the CA that signed; null means those that this machine trusts. */
  ca: string | null;
}

/** Begins a session, as `sslnegotiation=direct` does, and leaves when the server asks for the password. */
export async function knock({ address, port, host, ca }: Target, user: string): Promise<Knock> {
  return new Promise((settle) => {
    const found: Knock = { answered: false };
    let connected = false;
    const socket = connect({
      host: address,
      port,
      servername: host,
      ALPNProtocols: ["postgresql"],
      ca: ca ?? undefined,
      // An expired certificate is to be looked at, not refused.
      rejectUnauthorized: false,
    });
    const end = () => {
      socket.destroy();
      settle(found);
    };
    socket.setTimeout(patience * 1000, () => {
      if (!connected) found.unreachable = `no answer in ${patience} s`;
      end();
    });
    socket.on("connect", () => {
      connected = true;
    });
    socket.on("secureConnect", () => {
      found.certificate = socket.getPeerCertificate();
      if (!socket.authorized) found.untrusted = String(socket.authorizationError);
      socket.write(startupMessage(user));
    });
    socket.on("data", () => {
      found.answered = true;
      end();
    });
    socket.on("error", (error: NodeJS.ErrnoException) => {
      if (!connected) found.unreachable = error.message;
      found.unknownName = error.code === "ERR_SSL_TLSV1_UNRECOGNIZED_NAME";
      end();
    });
    socket.on("close", end);
  });
}

/** https://www.postgresql.org/docs/18/protocol-message-formats.html */
function startupMessage(user: string): Buffer {
  const version = Buffer.from([0, 3, 0, 0]);
  const parameters = Buffer.from(`user\0${user}\0\0`);
  const length = Buffer.alloc(4);
  length.writeInt32BE(4 + version.length + parameters.length);
  return Buffer.concat([length, version, parameters]);
}

/** Logs in as the tenant does. @returns milliseconds; or why it failed, with PostgreSQL's code when it has one */
export async function login(
  { address, port, host, ca }: Target,
  { user, database, password }: { user: string; database: string; password: string },
): Promise<{ milliseconds: number } | { code?: string; reason: string }> {
  const client = new Client({
    host: address,
    port,
    user,
    database,
    password,
    connectionTimeoutMillis: patience * 1000,
    query_timeout: patience * 1000,
    application_name: "pgs doctor",
    // The password goes to nobody who is not who he should be.
    ssl: { servername: host, ca: ca ?? undefined },
  });
  client.on("error", () => {});
  const started = performance.now();
  try {
    await client.connect();
    await client.query("SELECT 1");
    return { milliseconds: Math.round(performance.now() - started) };
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    return { code, reason: message };
  } finally {
    // A server that never says goodbye must not keep the command.
    await Promise.race([client.end().catch(() => {}), delay(500, undefined, { ref: false })]);
  }
}
