import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { containersInState } from "../../components/stack-mark";

const resources = [
  { type: "docker:index/container:Container", id: "one" },
  { type: "docker:index/volume:Volume", id: "two" },
  { type: "pgs:index:PostgresServer", id: "pgs-acme", outputs: { containerId: "three" } },
  { type: "pgs:index:PostgresServer", id: "pgs-idle", outputs: {} },
];

let folder: string;

/** A `pulumi` that fails so many times, as when the engine is writing the state. */
function pulumiThatFails(times: number): void {
  const script = `#!/bin/sh
    echo "$*" >>${folder}/calls
    if [ "$(wc -l <${folder}/calls)" -le ${times} ]; then echo 'error: failed to load checkpoint: EOF' >&2; exit 1; fi
    echo '${JSON.stringify({ version: 3, deployment: { resources } })}'
  `;
  writeFileSync(join(folder, "pulumi"), script);
  chmodSync(join(folder, "pulumi"), 0o755);
}

const calls = () => readFileSync(join(folder, "calls"), "utf8").trim().split("\n");

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "pgs-mark-"));
  vi.stubEnv("PATH", `${folder}:${process.env.PATH}`);
  await pulumi.runtime.setMocks(
    { newResource: ({ inputs }) => ({ id: "", state: inputs }), call: () => ({}) },
    "pgs",
    "dev",
    false,
    "acme",
  );
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

describe("the containers in the state", () => {
  it("are read from the stack's export", async () => {
    pulumiThatFails(0);
    expect(await containersInState()).toEqual({ docker: ["one"], servers: ["three"] });
    expect(calls()).toEqual(["stack export --stack acme/pgs/dev"]);
  });

  it("are read again when the state could not be read, as while it is written", async () => {
    pulumiThatFails(2);
    expect(await containersInState()).toEqual({ docker: ["one"], servers: ["three"] });
    expect(calls()).toHaveLength(3);
  });

  it("are an error, not none, when the state cannot be read at all", async () => {
    pulumiThatFails(99);
    await expect(containersInState()).rejects.toThrow("failed to load checkpoint: EOF");
    expect(calls()).toHaveLength(5);
  });
});
