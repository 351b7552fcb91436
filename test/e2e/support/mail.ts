import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { TLSSocket } from "node:tls";
import { certificateFiles } from "../../unit/support/certificates";

interface Message {
  from: string;
  to: string[];
  login?: { user: string; password: string };
  /** Headers and body. */
  text: string;
}

/** A mail server (RFC 5321) that takes messages after STARTTLS and a login alone. */
export class MailServer {
  readonly messages: Message[] = [];

  private constructor(
    private readonly server: Server,
    private readonly folder: string,
    /** Path of its certificate, which is its own CA's as well. */
    readonly certificate: string,
  ) {}

  /** @param address of this machine, which its certificate is for */
  static async start(address: string): Promise<MailServer> {
    const folder = mkdtempSync(join(tmpdir(), "pgs-mail-"));
    const { chain, key } = certificateFiles(folder, `mail.localhost,IP:${address}`);
    const server = createServer();
    const mail = new MailServer(server, folder, chain);
    const tls = { isServer: true, cert: readFileSync(chain), key: readFileSync(key) };
    server.on("connection", (socket) => mail.greet(socket, tls));
    await new Promise<void>((resolve) => server.listen(0, resolve));
    return mail;
  }

  get port(): number {
    return (this.server.address() as { port: number }).port;
  }

  stop(): void {
    this.server.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** In plain text, all that is taken is the wish for TLS. */
  private greet(socket: Socket, tls: ConstructorParameters<typeof TLSSocket>[1]): void {
    socket.on("error", () => {});
    socket.write("220 mail.localhost ESMTP\r\n");
    const first = (data: Buffer) => {
      const command = String(data).trim().toUpperCase();
      if (command === "STARTTLS") {
        socket.off("data", first);
        socket.write("220 go on\r\n");
        this.serve(new TLSSocket(socket, tls));
      } else if (/^EHLO /.test(command)) socket.write("250-mail.localhost\r\n250 STARTTLS\r\n");
      else socket.write("530 STARTTLS first\r\n");
    };
    socket.on("data", first);
  }

  private serve(socket: TLSSocket): void {
    socket.on("error", () => {});
    const answer = (text: string) => socket.write(`${text}\r\n`);
    let message: Message = { from: "", to: [], text: "" };
    let inText = false;
    createInterface({ input: socket }).on("line", (line) => {
      const [, address = ""] = /<(.*)>/.exec(line) ?? [];
      if (inText && line !== ".") message.text += `${line}\n`;
      else if (inText) {
        inText = false;
        this.messages.push(message);
        message = { ...message, to: [], text: "" };
        answer("250 taken");
      } else if (/^EHLO /.test(line)) answer("250-mail.localhost\r\n250 AUTH PLAIN");
      else if (/^AUTH PLAIN /.test(line)) {
        const [, user = "", password = ""] = Buffer.from(line.slice(11), "base64").toString().split("\0");
        message.login = { user, password };
        answer("235 welcome");
      } else if (message.login === undefined && line !== "QUIT") answer("530 log in first");
      else if (/^MAIL FROM:/.test(line)) {
        message.from = address;
        answer("250 ok");
      } else if (/^RCPT TO:/.test(line)) {
        message.to.push(address);
        answer("250 ok");
      } else if (line === "DATA") {
        inText = true;
        answer("354 go on");
      } else if (line === "QUIT") socket.end("221 bye\r\n");
      else answer("502 unknown");
    });
  }
}
