import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type Docker from "dockerode";
import { onInterrupt } from "./interrupt";
import { CommandError } from "./pulumi";

export interface ClientStreams {
  /** What the program reads; it may throw, and then the program never sees its end. Default: nothing. */
  input?: AsyncIterable<Buffer>;
  /** Takes what the program prints, waiting while it cannot take more. */
  output: (chunk: Buffer) => void | Promise<void>;
  /** A line that the program wrote to standard error: a server's text may be in it. */
  line: (text: string) => void;
}

/**
 * Runs the program of a client container that was not started yet, to its end.
 * @returns its exit code
 * @throws what `input` or `output` threw; CommandError when a signal came, or the engine was cut off
 */
export async function runClient(
  container: Docker.Container,
  { input, output, line }: ClientStreams,
): Promise<number> {
  let interrupted = false;
  const end = () => void container.remove({ force: true, v: true }).catch(() => {});
  const off = onInterrupt(() => {
    interrupted = true;
    end();
  });
  try {
    const code = await runToItsEnd(container, { input, output, line }, end);
    if (!interrupted) return code;
  } catch (error) {
    if (!interrupted) throw error;
  } finally {
    off();
  }
  throw new CommandError("interrupted", 130);
}

/** @param end ends the program, or keeps it from being started */
async function runToItsEnd(
  container: Docker.Container,
  { input, output, line }: ClientStreams,
  end: () => void,
): Promise<number> {
  // Asked before it starts: it is removed as soon as it ends.
  const exit: Promise<number> = container
    .wait({ condition: "next-exit" })
    .then(({ StatusCode }) => StatusCode);
  exit.catch(() => {});
  const stream = (await container.attach({
    ...{ stream: true, hijack: true, stdin: true, stdout: true, stderr: true },
  })) as NodeJS.ReadWriteStream & Readable;
  await container.start();

  let failure: unknown;
  const fail = (error: unknown) => {
    failure ??= error;
    end();
  };
  async function* read(): AsyncGenerator<Buffer> {
    try {
      if (input) yield* input;
    } catch (error) {
      fail(error);
      throw error;
    }
  }
  try {
    // A program that ends early closes its input; its exit code says why.
    const sent = pipeline(Readable.from(read()), stream as NodeJS.WritableStream).catch(() => {});
    await receive(stream, output, line).catch(fail);
    const code = await exit;
    if (failure) throw failure;
    // One that ended well has read all of it.
    if (code === 0) await sent;
    if (failure) throw failure;
    return code;
  } finally {
    stream.destroy();
  }
}

/**
 * Both outputs of a container come in one stream, in frames.
 * https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach
 */
async function receive(
  stream: Readable,
  output: ClientStreams["output"],
  line: ClientStreams["line"],
): Promise<void> {
  let pending: Buffer = Buffer.alloc(0);
  let text = "";
  for await (const chunk of stream) {
    pending = pending.length > 0 ? Buffer.concat([pending, chunk]) : chunk;
    while (pending.length >= 8) {
      const end = 8 + pending.readUInt32BE(4);
      if (pending.length < end) break;
      const content = pending.subarray(8, end);
      if (pending[0] === 2) text = lines(text + content.toString("utf8"), line);
      else await output(content);
      pending = pending.subarray(end);
    }
  }
  if (text) line(text);
  if (pending.length > 0) throw new CommandError("the connection to the Docker engine was cut");
}

/** @returns what is no whole line yet; of an endless one, its beginning was passed on */
export function lines(text: string, line: ClientStreams["line"]): string {
  const parts = text.split("\n");
  const rest = parts.pop() ?? "";
  for (const part of parts) line(part);
  if (rest.length < 10_000) return rest;
  line(rest);
  return "";
}
