import { setTimeout as delay } from "node:timers/promises";
import { connect, type PeerCertificate } from "node:tls";
import { Client } from "pg";

/** Seconds that a connection or a login may take. */
const timeoutSeconds = 8;

/** Result of a connection without a login. */
export interface TlsProbe {
  /** Why there is no connection at all. */
  unreachable?: string;
  /** The proxy has no certificate for the name. */
  unknownName?: boolean;
  /** The server's certificate. */
  certificate?: PeerCertificate;
  /** Why the certificate cannot be verified. */
  untrusted?: string;
  /** Whether a PostgreSQL server answered: without a route, the proxy closes instead. */
  answered: boolean;
}

/** How a tenant is reached. */
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
export async function probeTls({ address, port, host, ca }: Target, user: string): Promise<TlsProbe> {
  return new Promise((settle) => {
    const found: TlsProbe = { answered: false };
    let connected = false;
    const socket = connect({
      host: address,
      port,
      servername: host,
      ALPNProtocols: ["postgresql"],
      ca: ca ?? undefined,
      // An expired certificate is a finding, not a failure of the probe.
      rejectUnauthorized: false,
    });
    const end = () => {
      socket.destroy();
      settle(found);
    };
    socket.setTimeout(timeoutSeconds * 1000, () => {
      if (!connected) found.unreachable = `no answer in ${timeoutSeconds} s`;
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
    connectionTimeoutMillis: timeoutSeconds * 1000,
    query_timeout: timeoutSeconds * 1000,
    application_name: "pgs doctor",
    // The password goes only to a server with the right certificate.
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
    // A server that never closes the connection must not hold up the command.
    await Promise.race([client.end().catch(() => {}), delay(500, undefined, { ref: false })]);
  }
}
