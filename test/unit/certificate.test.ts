import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { certificateProblems } from "../../components/wildcard-certificate";
import { type CertificateFiles, certificateFiles } from "./support/certificates";

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
    expect(problems(own.chain, own.chain)).toEqual([wrong]);
  });

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
