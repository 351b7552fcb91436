import fc from "fast-check";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { availableFrom, extensionsProblem, versionProblem } from "../../../../provider/server/image";
import { runTask } from "../../../../restore/run-script";
import { engine } from "../../support/engine";
import { acme, acmeWith, host } from "../../support/postgres";

vi.mock("../../../../docker/client", async (original) => ({
  ...(await original<object>()),
  dockerClient: () => engine.docker,
}));
vi.mock("../../../../restore/run-script", () => ({ runTask: vi.fn() }));

const listed = `pg_trgm--1.3--1.4.sql
pg_trgm--1.3.sql
pg_trgm--1.4--1.5.sql
pg_trgm--1.5--1.6.sql
vector--0.7.4--0.8.0.sql
vector--0.8.0--0.8.1.sql
vector--0.8.1.sql
pg_trgm.control:default_version = '1.6'
vector--0.8.1.control:default_version = '9'
vector.control:default_version = '0.8.1'
`;

beforeEach(() => {
  host();
  vi.mocked(runTask).mockReset().mockResolvedValue(listed);
});

describe("an image's extensions", () => {
  it("can be made in what their scripts lead to, and updated to more", () => {
    expect(Object.fromEntries(availableFrom(listed))).toEqual({
      pg_trgm: {
        newest: "1.6",
        creatable: ["1.3", "1.4", "1.5", "1.6"],
        reachable: ["1.4", "1.3", "1.5", "1.6"],
      },
      vector: { newest: "0.8.1", creatable: ["0.8.1"], reachable: ["0.8.0", "0.8.1", "0.8.1"] },
    });
  });

  it("are read from any text", () => {
    const line = fc.oneof(
      fc.string(),
      fc
        .array(fc.constantFrom("a", "b", "1.0", "--", ".sql", ".control", ":default_version = '1'"))
        .map((all) => all.join("")),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        for (const [name, { newest }] of availableFrom(lines.join("\n"))) {
          expect(name).not.toContain("--");
          expect(newest).not.toBe("");
        }
      }),
    );
  });

  const wanting = (extensions: Record<string, string>) => ({
    ...acme(),
    extensions,
    positions: { "extensions.vectr": "tenants.yaml:5:18" },
  });

  it.each([
    [
      { vectr: "" },
      /^tenants\.yaml:5:18: tenants\.acme\.extensions: the image postgres:18 has no extension vectr; did you mean vector\? It has pg_trgm, vector$/,
    ],
    [
      { vector: "0.8.0" },
      /vector 0\.8\.0 cannot be made from the image's files; leave the version out for 0\.8\.1, or write one of 0\.8\.1$/,
    ],
    [{ vector: "", pg_trgm: "1.4" }, undefined],
  ])("are held against the entry: %j", async (wanted, message) => {
    const problem = await extensionsProblem(wanting(wanted), {});
    if (message) expect(problem).toMatch(message);
    else expect(problem).toBeUndefined();
  });

  it("that are there may be updated to what none can be made in", async () => {
    expect(
      await extensionsProblem(wanting({ vector: "0.8.0" }), wanting({ vector: "0.7.4" })),
    ).toBeUndefined();
  });

  it("are not looked for in an image that is not on the host yet", async () => {
    engine.images.clear();
    expect(await extensionsProblem(wanting({ vectr: "" }), {})).toBeUndefined();
    expect(runTask).not.toHaveBeenCalled();
  });

  it("are not looked for where neither they nor the image are new, or there are none", async () => {
    await extensionsProblem(wanting({ vector: "" }), wanting({ vector: "" }));
    await extensionsProblem(acme(), {});
    expect(runTask).not.toHaveBeenCalled();
    await extensionsProblem(wanting({ vector: "" }), {
      ...wanting({ vector: "" }),
      container: { ...acme().container, imageId: "sha256:other" },
    });
    expect(runTask).toHaveBeenCalledOnce();
  });
});

describe("an image's PostgreSQL", () => {
  it("is what it says itself, whatever its name", async () => {
    engine.images.set("mine", "sha256:x:17");
    const mine = acmeWith({ container: { image: "mine", imageId: "sha256:x:17" } });
    expect(await versionProblem(mine, {})).toMatch(
      /^the image mine has PostgreSQL 17, and the tenant's version is 18/,
    );
    expect(await versionProblem({ ...mine, version: 17 }, {})).toBeUndefined();
    engine.images.set("none", "sha256:none");
    const none = acmeWith({ container: { image: "none", imageId: "sha256:none" } });
    expect(await versionProblem(none, {})).toContain("it has no PG_MAJOR");
    expect(await versionProblem(none, none)).toBeUndefined();
  });
});
