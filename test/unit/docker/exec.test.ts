import { type Duplex, PassThrough } from "node:stream";
import type Docker from "dockerode";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ExecTimeoutError, exec, OutputLimitError, printable } from "../../../docker/exec";

/** A container whose command prints what the test lets it print. */
function containerWith(behave: (stream: PassThrough) => void, code: number | null = 0) {
  const asked: Record<string, unknown>[] = [];
  const container = {
    exec: async (options: Record<string, unknown>) => {
      asked.push(options);
      return {
        start: async () => {
          const stream = new PassThrough();
          setImmediate(() => behave(stream));
          return stream;
        },
        inspect: async () => ({ ExitCode: code }),
      };
    },
    modem: {
      demuxStream: (stream: Duplex, out: { write(chunk: Buffer): void }) =>
        stream.on("data", (chunk) => out.write(chunk)),
    },
  };
  return { container: container as unknown as Docker.Container, asked };
}

describe("a command in a container", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }));
  afterEach(() => void vi.useRealTimers());

  it("returns what it printed, and its exit code", async () => {
    const { container, asked } = containerWith((stream) => stream.end("hello"), 3);
    expect(await exec(container, ["echo", "hello"])).toEqual({ code: 3, stdout: "hello", stderr: "" });
    expect(asked[0]?.Cmd).toEqual(["timeout", "-k", "5", "60", "echo", "hello"]);
  });

  it("that floods is cut off at its limit", async () => {
    const { container } = containerWith((stream) => {
      for (let chunk = 0; chunk < 4; chunk++) stream.write(Buffer.alloc(400));
    });
    await expect(exec(container, ["yes"], { outputLimit: 1000 })).rejects.toBeInstanceOf(OutputLimitError);
  });

  it("that never ends is given up, whoever keeps the time in the container", async () => {
    const { container } = containerWith(() => {});
    const answer = exec(container, ["sleep", "inf"], { seconds: 7 });
    const failed = expect(answer).rejects.toBeInstanceOf(ExecTimeoutError);
    await vi.advanceTimersByTimeAsync(17_000);
    await failed;
  });

  it("without an exit code is a connection that was cut", async () => {
    const { container } = containerWith((stream) => stream.end(), null);
    await expect(exec(container, ["true"])).rejects.toThrow("was cut");
  });
});

describe("text of a tenant", () => {
  it("cannot steer a terminal", () => {
    expect(printable("a\u001b]0;title\u0007b\u009b31mc\r\nd\u202ee")).toBe(
      "a\\u001b]0;title\\u0007b\\u009b31mc d\\u202ee",
    );
  });

  it("ends after its limit", () => {
    expect(printable("x".repeat(10), 4)).toBe("xxxx…");
  });
});
