import { PassThrough } from "node:stream";
import { printable } from "../docker/exec";
import { connectionValue, type SessionKind, sessionEnvironment } from "../docker/session-options";
import { clientLibrary, type KubernetesClient } from "./client";

export interface PodName {
  namespace: string;
  name: string;
}

/** The container of a pod that a server runs in. */
export const serverContainer = "postgres";

const outputLimit = 1 << 20;

export interface Output {
  stdout: string;
  /** Its end, where it is long. */
  stderr: string;
}

/**
 * Runs a command in the server's container of a pod. A tenant's code runs there too, so time and output are limited.
 * @param options.seconds that it may take
 * @param options.stdin what it reads; it has to know by itself where that ends
 * @throws Error with what it said when it failed
 */
export async function exec(
  { config }: KubernetesClient,
  { namespace, name }: PodName,
  command: string[],
  { seconds, stdin }: { seconds: number; stdin?: Buffer },
): Promise<Output> {
  const { Exec } = await clientLibrary();
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const output = { stdout: "", stderr: "" };
  return new Promise<Output>((resolve, reject) => {
    let socket: { close(): void } | undefined;
    const fail = (message: string) => {
      clearTimeout(timer);
      socket?.close();
      reject(new Error(`${namespace}/${name}: ${printable(message)}`));
    };
    const timer = setTimeout(() => fail(`no answer in ${seconds} s`), seconds * 1000);
    stdout.on("data", (chunk: Buffer) => {
      if (output.stdout.length + chunk.length > outputLimit) fail(`more than ${outputLimit} bytes of answer`);
      else output.stdout += chunk;
    });
    stderr.on("data", (chunk: Buffer) => {
      output.stderr = (output.stderr + chunk).slice(-outputLimit);
    });
    // Never ended: before Kubernetes 1.30, that would end the answer too.
    const input = stdin && new PassThrough();
    input?.write(stdin);
    new Exec(config)
      .exec(
        namespace,
        name,
        serverContainer,
        command,
        stdout,
        stderr,
        input ?? null,
        false,
        ({ status, message }) => {
          // The streams' last chunks are delivered by then, but not read.
          setImmediate(() => {
            if (status !== "Success") return fail(output.stderr.trim() || message || "the command failed");
            clearTimeout(timer);
            resolve(output);
          });
        },
      )
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

export interface Question {
  /** PostgreSQL's major version. */
  version: number;
  kind: SessionKind;
  sql: string;
  /** Default: postgres. */
  database?: string;
  /** A connection string for psql, in place of `database`. */
  target?: string;
  /** The role to ask as. Default: postgres, its superuser. Another has to be in the server's pg_ident.conf. */
  user?: string;
  /** That it may take. Default: 20. */
  seconds?: number;
}

/** Kubernetes does not pass on the end of standard input, so psql gets its length. */
const psql = `length=$1
  shift
  head -c "$length" | psql "$@"`;

/** Asks a server by its own socket, mostly as its superuser. SQL may hold verifiers: it comes as standard input. */
export function askServer(
  client: KubernetesClient,
  pod: PodName,
  { version, kind, sql, database = "postgres", target, user = "postgres", seconds = 20 }: Question,
): Promise<Output> {
  const stdin = Buffer.from(`${sql}\n`);
  const environment = [
    ...sessionEnvironment(version, kind, seconds, user === "postgres"),
    "PGHOST=/controller/run",
  ];
  const options = ["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--quiet", "--file", "-"];
  const failing = ["--set", "ON_ERROR_STOP=1", "--set", "VERBOSITY=terse"];
  // An operator's script may print rows, which are not kept.
  const silent = kind === "script" ? ["--output", "/dev/null"] : [];
  const login = ["--username", user, "--dbname", target ?? `dbname=${connectionValue(database)}`];
  return exec(
    client,
    pod,
    [
      ...["env", ...environment, "sh", "-c", psql, "sh", String(stdin.length)],
      ...[...options, ...failing, ...silent, ...login],
    ],
    { stdin, seconds: seconds + 10 },
  );
}
