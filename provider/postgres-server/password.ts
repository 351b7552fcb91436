import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from "node:crypto";

/** PostgreSQL's own default. https://www.postgresql.org/docs/18/runtime-config-connection.html#GUC-SCRAM-ITERATIONS */
const iterations = 4096;

/**
 * What PostgreSQL keeps instead of the password, computed here so that the password itself never reaches the
 * server. https://www.postgresql.org/docs/18/catalog-pg-authid.html
 */
export function scramVerifier(password: string): string {
  return verifier(password, iterations, randomBytes(16));
}

/** Whether `stored`, as pg_authid has it, belongs to `password`. */
export function matches(stored: string | null, password: string): boolean {
  const match = /^SCRAM-SHA-256\$(\d+):([^$]+)\$/.exec(stored ?? "");
  if (!stored || !match?.[1] || !match[2]) return false;
  const expected = Buffer.from(verifier(password, Number(match[1]), Buffer.from(match[2], "base64")));
  const actual = Buffer.from(stored);
  return expected.length === actual.length && timingSafeEqual(expected, actual);
}

/** RFC 5802; RFC 7677 for SHA-256. Passwords are printable ASCII, which SASLprep leaves as it is. */
function verifier(password: string, rounds: number, salt: Buffer): string {
  const salted = pbkdf2Sync(password, salt, rounds, 32, "sha256");
  const clientKey = createHmac("sha256", salted).update("Client Key").digest();
  const storedKey = createHash("sha256").update(clientKey).digest("base64");
  const serverKey = createHmac("sha256", salted).update("Server Key").digest("base64");
  return `SCRAM-SHA-256$${rounds}:${salt.toString("base64")}$${storedKey}:${serverKey}`;
}
