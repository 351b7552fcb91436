import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

/** PostgreSQL's own default. https://www.postgresql.org/docs/18/runtime-config-connection.html#GUC-SCRAM-ITERATIONS */
const iterations = 4096;

/** A verifier with more was not made by pgs, and a tenant may write any number there. */
const mostIterations = 100_000;

/** Beside the event loop. */
const derive = promisify(pbkdf2);

/**
 * What PostgreSQL keeps instead of the password, computed here so that the password itself never reaches the
 * server. https://www.postgresql.org/docs/18/catalog-pg-authid.html
 */
export function scramVerifier(password: string): Promise<string> {
  return verifier(password, iterations, randomBytes(16));
}

/** Whether `stored`, as pg_authid has it, belongs to `password`. */
export async function matches(stored: string | null, password: string): Promise<boolean> {
  const match = /^SCRAM-SHA-256\$(\d{1,9}):([^$]{1,200})\$/.exec(stored ?? "");
  if (!stored || !match?.[1] || !match[2]) return false;
  const rounds = Number(match[1]);
  if (rounds < 1 || rounds > mostIterations) return false;
  const expected = Buffer.from(await verifier(password, rounds, Buffer.from(match[2], "base64")));
  const actual = Buffer.from(stored);
  return expected.length === actual.length && timingSafeEqual(expected, actual);
}

/** RFC 5802; RFC 7677 for SHA-256. Passwords are printable ASCII, which SASLprep leaves as it is. */
async function verifier(password: string, rounds: number, salt: Buffer): Promise<string> {
  const salted = await derive(password, salt, rounds, 32, "sha256");
  const clientKey = createHmac("sha256", salted).update("Client Key").digest();
  const storedKey = createHash("sha256").update(clientKey).digest("base64");
  const serverKey = createHmac("sha256", salted).update("Server Key").digest("base64");
  return `SCRAM-SHA-256$${rounds}:${salt.toString("base64")}$${storedKey}:${serverKey}`;
}
