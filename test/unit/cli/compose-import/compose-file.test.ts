import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readCompose } from "../../../../cli/compose-import/compose-file";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "My.App-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const project = () =>
  folder
    .split("/")
    .at(-1)
    ?.toLowerCase()
    .replace(/[^a-z0-9_-]/g, "");
const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
function read(text: string, env = "") {
  write("compose.yml", text);
  write(".env", env);
  return readCompose(join(folder, "compose.yml"));
}
const one = (service: string, rest = "", env = "") =>
  read(`services: { db: { image: "postgres:18", ${service} } }\n${rest}`, env).servers[0];
const mounted = 'volumes: ["data:/var/lib/postgresql/data"]';

describe("the volume", () => {
  it("is called as Docker knows it: with the project before it, or as its name says", () => {
    expect(one(mounted)?.volume).toBe(`${project()}_data`);
    expect(one(mounted, "name: shop")?.volume).toBe("shop_data");
    expect(one(mounted, "", "COMPOSE_PROJECT_NAME=store")?.volume).toBe("store_data");
    expect(one(mounted, "volumes: { data: { name: exactly } }")?.volume).toBe("exactly");
    expect(one(mounted, "volumes: { data: { external: true } }")?.volume).toBe("data");
    expect(one(mounted, "volumes: { data: { external: { name: other } } }")?.volume).toBe("other");
  });

  it("is read in its short and its long form, and of the others none is taken", () => {
    const long = "{ type: volume, source: data, target: /var/lib/postgresql/ }";
    expect(one(`volumes: ["./init:/docker-entrypoint-initdb.d:ro", "conf:/etc/x", ${long}]`)).toMatchObject({
      volume: `${project()}_data`,
      mountedAt: "/var/lib/postgresql",
    });
    expect(one('volumes: ["data:/var/lib/postgresql/data:rw"]')?.mountedAt).toBe("/var/lib/postgresql/data");
  });

  it("has to be there, and to be a named one of an image postgres", () => {
    const { servers, others } = read(`services:
  folder: { image: "postgres:18", volumes: ["./data:/var/lib/postgresql"] }
  none: { image: docker.io/library/postgres }
  built: { build: . }
  other: { image: "example/postgres-exporter:1", ${mounted} }`);
    expect(servers).toEqual([]);
    expect(others.map(({ service, reason }) => `${service}: ${reason}`)).toEqual([
      "folder: it has no named volume at /var/lib/postgresql or below",
      "none: it has no named volume at /var/lib/postgresql or below",
      "built: it is built, not pulled",
      "other: its image is example/postgres-exporter:1",
    ]);
  });
});

describe("the environment", () => {
  it("is a map or a list, with variables from .env and files", () => {
    write("db.env", "POSTGRES_PASSWORD=from file # not this\n");
    expect(
      one(`${mounted}, environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD: "$PW" }`, "", "PW='a b#c'"),
    ).toMatchObject({ user: "shop", database: "shop", password: "a b#c" });
    expect(one(`${mounted}, environment: [POSTGRES_DB=x=y, PW], env_file: db.env`)).toMatchObject({
      user: "postgres",
      database: "x=y",
      password: "from file",
    });
    expect(
      one(`${mounted}, environment: ["POSTGRES_PASSWORD"]`, "", "POSTGRES_PASSWORD=bare")?.password,
    ).toBe("bare");
    expect(one(mounted)).toMatchObject({ database: "postgres", password: undefined });
  });

  it.each([
    [`\${A}`, "a"],
    ["$A-$$B", "a-$B"],
    [`\${NONE:-b}\${EMPTY:-c}\${EMPTY-d}`, "bc"],
  ])("%s becomes %s", (text, value) => {
    expect(
      one(`${mounted}, environment: { POSTGRES_PASSWORD: "${text}" }`, "", "A=a\nEMPTY=")?.password,
    ).toBe(value);
  });

  it("that says something else is refused without a word of the value", () => {
    const refused = (password: string) => () =>
      one(`${mounted}, environment: { POSTGRES_PASSWORD: "${password}" }`);
    expect(() => read("services: { db: { POSTGRES_PASSWORD: pass ] }")).toThrow(/compose\.yml: .* at line 1/);
    expect(() => read("services: { db: { POSTGRES_PASSWORD: pass ] }")).not.toThrow(/pass/);
    expect(refused("pass${")).toThrow(/there is a \$ that is not understood/);
    expect(refused(`pass\${NONE:?}`)).toThrow(/the variable NONE is not set/);
    for (const password of ["pass$", `pass\${NONE:?word}`])
      expect(refused(password)).not.toThrow(/pass|word/);
  });
});

it("limits, settings and the hostname come along", () => {
  expect(
    one(
      `${mounted}, mem_limit: 1g, cpus: 1.5, command: ["postgres", "-c", "max_connections=50", "-cwork_mem=8MB"],
       labels: { rule: "HostSNI(\`shop.db.example.com\`)" }`,
    ),
  ).toMatchObject({
    memory: "1Gi",
    cpus: 1.5,
    settings: { max_connections: "50", work_mem: "8MB" },
    hostname: "shop",
  });
  expect(
    one(
      `${mounted}, command: postgres -c "statement_timeout=5s", deploy: { resources: { limits: { memory: 512M } } }`,
    ),
  ).toMatchObject({ memory: "512Mi", settings: { statement_timeout: "5s" } });
});
