import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { certificateProblems } from "../../../components/wildcard-certificate";
import { type CertificateFiles, certificateFiles } from "../support/certificates";
import { childrenOf, runTenant } from "../support/graph";
import { type Graph, temporaryFolder } from "../support/program";
import { isSecret, plain } from "../support/wire";

describe("the CA", () => {
  it("and the certificate that it signs are below one component", async () => {
    expect(childrenOf(await runTenant(), "certificate", "certificate")).toEqual([
      "tls:index/certRequest:CertRequest server",
      "tls:index/locallySignedCert:LocallySignedCert server",
      "tls:index/privateKey:PrivateKey ca",
      "tls:index/privateKey:PrivateKey server",
      "tls:index/selfSignedCert:SelfSignedCert ca",
    ]);
  });

  it("signs a certificate for every hostname below the domain, renewed before it ends", async () => {
    const graph = await runTenant("", { "pgs:domain": "pgs.example.com" });
    const inputs = Object.fromEntries(
      graph.resources.map((one) => [`${one.type.split(":").at(-1)} ${one.name}`, one.inputs]),
    );
    expect(inputs["CertRequest server"]).toMatchObject({ dnsNames: ["*.pgs.example.com"] });
    expect(inputs["SelfSignedCert ca"]).toMatchObject({ isCaCertificate: true });
    const { validityPeriodHours, earlyRenewalHours } = inputs["LocallySignedCert server"] as {
      validityPeriodHours: number;
      earlyRenewalHours: number;
    };
    expect([validityPeriodHours, earlyRenewalHours]).toEqual([365 * 24, (365 * 24) / 3]);
  });

  it("signs for as many days as the stack says", async () => {
    const graph = await runTenant("", { "pgs:certificateDays": "90" });
    const signed = graph.resources.find(({ type }) => type.endsWith(":LocallySignedCert"));
    expect(signed?.inputs).toMatchObject({ validityPeriodHours: 2160, earlyRenewalHours: 720 });
  });

  it("is the same whatever serves the hostnames", async () => {
    const files = certificateFiles(temporaryFolder(), "*.pgs.localhost");
    const ca = (graph: Graph) => graph.resources.filter(({ name }) => name === "ca");
    const own = ca(await runTenant());
    expect(own).toHaveLength(2);
    expect(ca(await runTenant("", { "pgs:certificate": JSON.stringify(files) }))).toEqual(own);
    expect(ca(await runTenant("", { "pgs:certificateDays": "90" }))).toEqual(own);
  });

  it("and the certificate have a key each, and secrets they stay", async () => {
    const graph = await runTenant();
    const keys = graph.resources.flatMap(({ inputs }) =>
      ["privateKeyPem", "caPrivateKeyPem"].flatMap((key) => (key in inputs ? [inputs[key]] : [])),
    );
    expect(keys.map(isSecret)).toEqual([true, true, true]);
    expect(new Set(keys.map((key) => plain(key)))).toEqual(new Set(["ca key\n", "server key\n"]));
  });
});

let folder: string;
let own: CertificateFiles;
let other: CertificateFiles;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "pgs-unit-"));
  own = certificateFiles(folder, "*.pgs.example.com");
  other = certificateFiles(folder, "*.example.com", "other");
});
afterEach(() => {
  vi.useRealTimers();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function problems(chain: string, key: string): string[] {
  return certificateProblems(readFileSync(chain, "utf8"), readFileSync(key, "utf8"), "pgs.example.com");
}

describe("a certificate of the operator's own", () => {
  it("is taken when it covers the wildcard, is valid now and belongs to its key", () => {
    expect(problems(own.chain, own.key)).toEqual([]);
  });

  it("is refused when it covers other names, and says which", () => {
    expect(problems(other.chain, other.key)).toEqual([
      "it does not cover *.pgs.example.com; it is for DNS:*.example.com",
    ]);
  });

  it("is refused with another's key, or with none", () => {
    const wrong = "the key in pgs:certificate.key does not belong to it";
    expect(problems(own.chain, other.key)).toEqual([wrong]);
    expect(problems(own.chain, own.chain)).toEqual([
      "the key in pgs:certificate.key is no PEM private key (-----BEGIN PRIVATE KEY-----)",
    ]);
    const cut = readFileSync(own.key, "utf8").replace(/\n.{20}/, "\n");
    expect(certificateProblems(readFileSync(own.chain, "utf8"), cut, "pgs.example.com")).toEqual([
      expect.stringMatching(/^the key in pgs:certificate\.key cannot be read: /),
    ]);
  });

  it.each(["pkcs8", "pkcs1"] as const)(
    "is refused with a key that is encrypted, by that reason: %s",
    (type) => {
      const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
      const key = privateKey.export({ type, format: "pem", cipher: "aes-256-cbc", passphrase: "secret" });
      expect(certificateProblems(readFileSync(own.chain, "utf8"), String(key), "pgs.example.com")).toEqual([
        expect.stringMatching(/^the key in pgs:certificate\.key is encrypted, .*openssl pkey -in KEY/),
      ]);
    },
  );

  it("is refused once it has expired, and before it is valid", () => {
    vi.useFakeTimers({ now: Date.now() + 2 * 86_400_000, toFake: ["Date"] });
    expect(problems(own.chain, own.key)).toEqual([
      expect.stringMatching(/^it expired on .*; put a renewed one/),
    ]);
    vi.setSystemTime(Date.now() - 4 * 86_400_000);
    expect(problems(own.chain, own.key)).toEqual([expect.stringMatching(/^it is not valid before /)]);
  });

  it("is refused when it is none", () => {
    expect(problems(own.key, own.key)).toEqual([expect.stringMatching(/^this is no PEM certificate/)]);
  });
});
