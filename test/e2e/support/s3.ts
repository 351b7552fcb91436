import { type ChildProcess, spawn } from "node:child_process";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import { buffer } from "node:stream/consumers";
import { freePort } from "./checkout";
import { eventually } from "./command";

/** The only one that the server below lets in. */
export const accessKeyId = "the-backups";
export const secretAccessKey = "never-to-be-seen-anywhere";

/** An S3 server with one bucket, on this machine, that containers reach at the host's addresses. It can be away. */
export class S3Server {
  /** While set, every connection is cut. */
  away = false;

  /** For so many seconds, nothing comes of a base backup's data. */
  delay = 0;

  private constructor(
    /** What listens for clients: an S3 server that asks nobody who they are is behind it. */
    private readonly door: Server,
    private readonly process: ChildProcess,
    readonly port: number,
    private readonly inner: number,
  ) {}

  static async start(bucket: string): Promise<S3Server> {
    const program = process.env.S3SERVER;
    if (!program) throw new Error("S3SERVER is not set: run the tests by script/test, which provides it");
    const [port, inner] = [await freePort(), await freePort()];
    // Its database would hand out parts of other objects to who reads slowly while others are written.
    const store = ["-backend", "memory", "-initialbucket", bucket];
    const child = spawn(program, ["-quiet", "-host", `127.0.0.1:${inner}`, ...store], { stdio: "ignore" });
    const door = createServer((incoming, answer) => server.letIn(incoming, answer));
    const server = new S3Server(door, child, port, inner);
    door.listen(port, "0.0.0.0");
    await eventually(60, async () => void (await server.ask("GET", "/")));
    return server;
  }

  /** The keys of the objects in a bucket that start so. */
  async list(bucket: string, prefix: string): Promise<string[]> {
    const { body } = await this.ask("GET", `/${bucket}?list-type=2&prefix=${encodeURIComponent(prefix)}`);
    return [...body.matchAll(/<Key>([^<]+)<\/Key>/g)].map(([, key]) => key as string);
  }

  /** Takes an object away, as somebody who has the bucket may. */
  async remove(bucket: string, key: string): Promise<void> {
    await this.ask("DELETE", `/${bucket}/${key}`);
  }

  /** Writes over an object, as somebody who has the bucket may. */
  async overwrite(bucket: string, key: string, content: string): Promise<void> {
    await this.ask("PUT", `/${bucket}/${key}`, content);
  }

  /** By what an object is encrypted, as the server was told. */
  async encryption(bucket: string, key: string): Promise<string | undefined> {
    const { headers } = await this.ask("HEAD", `/${bucket}/${key}`);
    return headers["x-amz-server-side-encryption"] as string | undefined;
  }

  stop(): void {
    this.door.close();
    this.door.closeAllConnections();
    this.process.kill();
  }

  private ask(
    method: string,
    path: string,
    content?: string,
  ): Promise<{ body: string; headers: IncomingMessage["headers"] }> {
    return new Promise((resolve, reject) => {
      const asked = request({ host: "127.0.0.1", port: this.inner, method, path }, (response) => {
        buffer(response).then(
          (body) => resolve({ body: body.toString(), headers: response.headers }),
          reject,
        );
      });
      asked.on("error", reject).end(content);
    });
  }

  private letIn(incoming: IncomingMessage, answer: ServerResponse): void {
    if (this.away) {
      incoming.socket.destroy();
      return;
    }
    if (!incoming.headers.authorization?.includes(`Credential=${accessKeyId}/`)) {
      incoming.resume();
      answer.writeHead(403, { "content-type": "application/xml" });
      answer.end("<Error><Code>InvalidAccessKeyId</Code><Message>No such access key.</Message></Error>");
      return;
    }
    const { method, url, headers } = incoming;
    const onward = request(
      { host: "127.0.0.1", port: this.inner, method, path: url, headers },
      (response) => {
        answer.writeHead(response.statusCode ?? 500, response.headers);
        const delay = method === "GET" && url?.includes(".tar.lz4") ? this.delay : 0;
        setTimeout(() => response.pipe(answer), delay * 1000);
      },
    );
    onward.on("error", () => incoming.socket.destroy());
    incoming.pipe(onward);
  }
}
