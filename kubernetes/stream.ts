import { PassThrough } from "node:stream";
import { clientLibrary, type KubernetesClient, readable } from "./client";
import type { PodName } from "./exec";

export interface ExecStreams {
  /** What the command reads. Kubernetes does not pass on its end: the command has to know by itself where that is. */
  input?: AsyncIterable<Buffer>;
  /** Takes what the command prints, waiting while it cannot take more. */
  output: (chunk: Buffer) => void | Promise<void>;
  /** Takes what it writes to standard error. */
  errors: (chunk: Buffer) => void;
  /** Cuts the connection: the command finds its input at an end. */
  signal?: AbortSignal;
}

/** Bytes that are held back here before the other end has to wait. */
const most = 1 << 20;

/**
 * Runs a command in a pod's container, with input and output of any size.
 * @returns its exit code
 * @throws what `input` or `output` threw; Error when the connection was cut
 */
export async function execStreams(
  { config }: KubernetesClient,
  { namespace, name, container }: PodName & { container: string },
  command: string[],
  { input, output, errors, signal }: ExecStreams,
): Promise<number> {
  const { Exec } = await clientLibrary();
  const stdout = new PassThrough({ highWaterMark: most });
  const stderr = new PassThrough().on("data", errors);
  // Sent by hand, one after another; this one only says that there is any.
  const stdin = input ? new PassThrough() : null;
  let ended: (status: ExecStatus) => void = () => {};
  const status = new Promise<ExecStatus>((resolve) => {
    ended = resolve;
  });
  const socket = await new Exec(config)
    .exec(namespace, name, container, command, stdout, stderr, stdin, false, ended)
    .catch((error) => {
      throw readable(error);
    });
  const cut = new Promise<never>((_, reject) => {
    socket.on("close", () => reject(new Error(`the connection to ${namespace}/${name} was cut`)));
    signal?.addEventListener("abort", () => socket.close(), { once: true });
    if (signal?.aborted) socket.close();
  });
  socket.on("message", () => {
    if (stdout.writableNeedDrain) socket.pause();
  });
  stdout.on("drain", () => socket.resume());
  const send = (bytes: Buffer) =>
    new Promise<void>((resolve, reject) =>
      socket.send(Buffer.concat([Buffer.of(0), bytes]), (error?: Error) =>
        error ? reject(error) : resolve(),
      ),
    );
  const sent = (async () => {
    for await (const chunk of input ?? []) {
      // A command that has ended reads no more; its exit code says why.
      if (
        !(await send(chunk).then(
          () => true,
          () => false,
        ))
      )
        return;
    }
  })();
  const received = (async () => {
    for await (const chunk of stdout) await output(chunk);
  })();
  const failed = new Promise<never>((_, reject) => {
    sent.catch(reject);
    received.catch(reject);
  });
  try {
    const found = await Promise.race([status, cut, failed]);
    await received;
    return exitCode(found);
  } finally {
    socket.close();
  }
}

/** https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/apimachinery/pkg/util/remotecommand/constants.go */
function exitCode({ status, details, message }: ExecStatus): number {
  if (status === "Success") return 0;
  const found = Number(details?.causes?.find(({ reason }) => reason === "ExitCode")?.message);
  if (Number.isInteger(found)) return found;
  throw new Error(message ?? "the command did not run");
}

interface ExecStatus {
  status?: string;
  message?: string;
  details?: { causes?: { reason?: string; message?: string }[] };
}
