import { PassThrough } from "node:stream";
import { type SessionKind, sessionEnvironment } from "../docker/session-options";
import { clientLibrary, type KubernetesClient } from "./client";

export interface PodName {
  namespace: string;
  name: string;
}

/** The container of a pod that a server runs in. */
export const serverContainer = "postgres";

const outputLimit = 1 << 20;

/**
 * Runs a command in the server's container of a pod. A tenant's code runs there too, so time and output are limited.
 * @param seconds that it may take
 * @returns what it printed
 * @throws Error with what it said when it failed
 */
export async function exec(
  { config }: KubernetesClient,
  { namespace, name }: PodName,
  command: string[],
  seconds: number,
): Promise<string> {
  const { Exec } = await clientLibrary();
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const output = { stdout: "", stderr: "", length: 0 };
  return new Promise<string>((resolve, reject) => {
    let socket: { close(): void } | undefined;
    const fail = (message: string) => {
      clearTimeout(timer);
      socket?.close();
      reject(new Error(`${namespace}/${name}: ${message}`));
    };
    const timer = setTimeout(() => fail(`no answer in ${seconds} s`), seconds * 1000);
    const collect = (stream: "stdout" | "stderr") => (chunk: Buffer) => {
      output.length += chunk.length;
      if (output.length > outputLimit) fail(`more than ${outputLimit} bytes of answer`);
      else output[stream] += chunk;
    };
    stdout.on("data", collect("stdout"));
    stderr.on("data", collect("stderr"));
    new Exec(config)
      .exec(namespace, name, serverContainer, command, stdout, stderr, null, false, ({ status, message }) => {
        // The streams' last chunks are delivered by then, but not read.
        setImmediate(() => {
          if (status !== "Success") return fail(output.stderr.trim() || message || "the command failed");
          clearTimeout(timer);
          resolve(output.stdout);
        });
      })
      .then(
        (opened) => {
          socket = opened;
          // What ends without a status was cut off.
          opened.on("close", () => setTimeout(() => fail("the connection was cut"), 1000).unref());
        },
        (error) => fail((error as Error).message || "the cluster does not let pgs run a command there"),
      );
  });
}

/** Asks a server by its own socket, as its superuser. @returns what psql prints */
export function askServer(
  client: KubernetesClient,
  pod: PodName,
  { version, kind, sql, seconds = 20 }: { version: number; kind: SessionKind; sql: string; seconds?: number },
): Promise<string> {
  const environment = [...sessionEnvironment(version, kind, seconds), "PGHOST=/controller/run"];
  const psql = ["psql", "--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--quiet"];
  const target = ["--set", "ON_ERROR_STOP=1", "--username", "postgres", "--dbname", "postgres"];
  return exec(client, pod, ["env", ...environment, ...psql, ...target, "--command", sql], seconds + 10);
}
