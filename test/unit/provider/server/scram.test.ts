import { createHash, createHmac, pbkdf2Sync } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { matches, scramVerifier } from "../../../../provider/server/scram";

describe("a SCRAM verifier", () => {
  // The exchange of RFC 7677, section 3: user "user", password "pencil".
  const clientFirst = "n=user,r=rOprNGfwEbeRWgbNEkqO";
  const serverFirst =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
  const clientFinal = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
  const proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
  const signature = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
  const pencil =
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
  const password = fc.string({ unit: "grapheme-ascii", minLength: 1, maxLength: 256 });
  const hmac = (key: Buffer, text: string) => createHmac("sha256", key).update(text).digest();

  it("is what a server needs for the exchange of RFC 7677", async () => {
    const [storedKey, serverKey] = (pencil.split("$")[2] ?? "")
      .split(":")
      .map((key) => Buffer.from(key, "base64")) as [Buffer, Buffer];
    const exchange = [clientFirst, serverFirst, clientFinal].join(",");
    const clientSignature = hmac(storedKey, exchange);
    const clientKey = Buffer.from(proof, "base64").map((byte, at) => byte ^ (clientSignature[at] ?? 0));
    expect(createHash("sha256").update(clientKey).digest()).toEqual(storedKey);
    expect(hmac(serverKey, exchange).toString("base64")).toBe(signature);
    expect(await matches(pencil, "pencil")).toBe(true);
  });

  it("is in the form that PostgreSQL takes for a verifier, with a salt of its own", async () => {
    const form = /^SCRAM-SHA-256\$4096:([A-Za-z0-9+/]{22}==)\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$/;
    const [one, other] = [await scramVerifier("pencil"), await scramVerifier("pencil")].map(
      (text) => form.exec(text)?.[1],
    );
    expect(one).toBeDefined();
    expect(other).toBeDefined();
    expect(one).not.toBe(other);
  });

  it("belongs to its password", async () => {
    await fc.assert(
      fc.asyncProperty(password, async (text) => matches(await scramVerifier(text), text)),
      { numRuns: 30 },
    );
  });

  it("belongs to no other password", async () => {
    await fc.assert(
      fc.asyncProperty(password, password, async (text, other) => {
        fc.pre(text !== other);
        return !(await matches(await scramVerifier(text), other));
      }),
      { numRuns: 30 },
    );
    expect(await matches(pencil, "Pencil")).toBe(false);
    expect(await matches(pencil, "")).toBe(false);
  });

  it("that is cut short, altered, of another kind or absent belongs to no password", async () => {
    const md5 = `md5${createHash("md5").update("pencilpostgres").digest("hex")}`;
    const altered = [
      pencil.slice(0, -1),
      `${pencil} `,
      pencil.replace("4096", "4095"),
      pencil.replace("W22", "W23"),
    ];
    for (const stored of [...altered, md5, "pencil", "", null]) {
      expect(await matches(stored, "pencil"), String(stored)).toBe(false);
    }
  });

  /** As PostgreSQL makes it for the password "pencil" with the salt of RFC 7677 and this scram_iterations. */
  function made(rounds: number): string {
    const salt = Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64");
    const salted = pbkdf2Sync("pencil", salt, rounds, 32, "sha256");
    const storedKey = createHash("sha256").update(hmac(salted, "Client Key")).digest("base64");
    return `SCRAM-SHA-256$${rounds}:${salt.toString("base64")}$${storedKey}:${hmac(salted, "Server Key").toString("base64")}`;
  }

  it("made with another number of iterations is understood", async () => {
    expect(await matches(made(1), "pencil")).toBe(true);
    expect(await matches(made(100_000), "pencil")).toBe(true);
  });

  it("made with more iterations than pgs ever asks for is not computed: a tenant may write any number", async () => {
    expect(await matches(made(100_001), "pencil")).toBe(false);
    const started = performance.now();
    for (const rounds of ["999999999", "0", "1e9", "-1"]) {
      expect(await matches(pencil.replace("4096", rounds), "pencil")).toBe(false);
    }
    expect(performance.now() - started).toBeLessThan(1000);
  });

  it("with a salt without end is not computed", async () => {
    expect(await matches(pencil.replace("W22", "W".repeat(300)), "pencil")).toBe(false);
  });
});
