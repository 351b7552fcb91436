import { Duplex } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import type Docker from "dockerode";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { runClient } from "../../../../cli/lib/client-stream";

function frame(kind: 1 | 2, content: string): Buffer {
  const body = Buffer.from(content);
  const header = Buffer.alloc(8);
  header[0] = kind;
  header.writeUInt32BE(body.length, 4);
  return Buffer.concat([header, body]);
}

/** A container whose program prints these chunks, and ends with `code` when it has read its input. */
function containerOf(chunks: Buffer[], code = 0) {
  const read: Buffer[] = [];
  const waiting = [...chunks];
  let killed = false;
  const stream = new Duplex({
    read() {
      const next = waiting.shift();
      if (next) this.push(next);
    },
    write(chunk, _encoding, done) {
      read.push(chunk);
      done();
    },
    final(done) {
      for (const rest of waiting.splice(0)) this.push(rest);
      this.push(null);
      done();
    },
  });
  const container = {
    wait: async () => {
      await new Promise((resolve) => stream.once("close", resolve));
      return { StatusCode: killed ? 137 : code };
    },
    attach: async () => stream,
    start: async () => {},
    remove: async () => {
      killed = true;
      stream.push(null);
    },
  };
  return { container: container as unknown as Docker.Container, read: () => Buffer.concat(read).toString() };
}

describe("the program of a client container", () => {
  it("has its outputs told apart, however the stream is cut into chunks", async () => {
    const whole = Buffer.concat([frame(1, "da"), frame(2, "one\ntw"), frame(1, "ta"), frame(2, "o\nlast")]);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(whole.length)), async (cuts) => {
        const ends = [...cuts, 0, whole.length].sort((a, b) => a - b);
        const chunks = ends.slice(1).map((end, index) => whole.subarray(ends[index], end));
        let output = "";
        const lines: string[] = [];
        const { container } = containerOf(
          chunks.filter(({ length }) => length > 0),
          3,
        );
        const code = await runClient(container, {
          output: (chunk) => {
            output += chunk;
          },
          line: (line) => lines.push(line),
        });
        expect([code, output, lines]).toEqual([3, "data", ["one", "two", "last"]]);
      }),
    );
  });

  it("reads its input, and fails with what the input failed with, without having seen its end", async () => {
    const whole = containerOf([frame(1, "x")]);
    const streams = { output: () => {}, line: () => {} };
    async function* input(failing: boolean) {
      yield Buffer.from("one ");
      await nextTurn();
      if (failing) throw new Error("cut off");
      yield Buffer.from("two");
    }
    expect(await runClient(whole.container, { ...streams, input: input(false) })).toBe(0);
    expect(whole.read()).toBe("one two");
    const cut = containerOf([frame(1, "x")]);
    await expect(runClient(cut.container, { ...streams, input: input(true) })).rejects.toThrow("cut off");
  });

  it("fails where its output cannot be written, or was cut in a frame", async () => {
    const output = () => {
      throw new Error("disk full");
    };
    const { container } = containerOf([frame(1, "x")]);
    await expect(runClient(container, { output, line: () => {} })).rejects.toThrow("disk full");
    const cut = containerOf([frame(1, "xyz").subarray(0, 10)]).container;
    await expect(runClient(cut, { output: () => {}, line: () => {} })).rejects.toThrow("was cut");
  });
});
