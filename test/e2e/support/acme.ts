import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { get } from "node:https";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { freePort } from "./checkout";
import { eventually } from "./command";

/** What the DNS provider below lets its customer in with. */
export const dnsPassword = "let-me-change-records";

/**
 * An ACME server that asks a DNS server whether somebody may have a certificate, that DNS server, and the HTTP
 * interface by which its customer writes records: all on this machine, reached from containers at `address`.
 */
export class AcmeServer {
  private constructor(
    readonly directory: string,
    /** The DNS server, as ADDRESS:PORT. */
    readonly resolver: string,
    /** Of the HTTP interface, as the provider `httpreq` calls it. */
    readonly endpoint: string,
    /** Path of the CA that the ACME server's own certificate is verified with. */
    readonly caFile: string,
    private readonly managementPort: number,
    private readonly processes: ChildProcess[],
    private readonly bridge: Server,
  ) {}

  static async start(folder: string, address: string): Promise<AcmeServer> {
    const [api, management, dns, dnsManagement, bridgePort] = (await Promise.all(
      Array.from({ length: 5 }, freePort),
    )) as [number, number, number, number, number];
    const files = { certificate: join(folder, "pebble.pem"), privateKey: join(folder, "pebble.key") };
    const self = [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-days",
      "1",
    ];
    const names = ["-subj", "/CN=pebble", "-addext", `subjectAltName=IP:${address},IP:127.0.0.1`];
    const out = ["-out", files.certificate, "-keyout", files.privateKey];
    execFileSync("openssl", [...self, ...names, ...out], { stdio: "ignore" });
    const config = join(folder, "pebble.json");
    writeFileSync(
      config,
      JSON.stringify({
        pebble: {
          listenAddress: `0.0.0.0:${api}`,
          managementListenAddress: `127.0.0.1:${management}`,
          ...files,
          httpPort: 5002,
          tlsPort: 5001,
        },
      }),
    );
    const none = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""];
    const listen = ["-dns01", `:${dns}`, "-management", `127.0.0.1:${dnsManagement}`];
    const processes = [
      spawn(required("CHALLTESTSRV"), [...none, ...listen], { stdio: "ignore" }),
      spawn(required("PEBBLE"), ["-config", config, "-dnsserver", `127.0.0.1:${dns}`], {
        env: { ...process.env, PEBBLE_VA_NOSLEEP: "1" },
        stdio: "ignore",
      }),
    ];
    const server = new AcmeServer(
      `https://${address}:${api}/dir`,
      `${address}:${dns}`,
      `http://${address}:${bridgePort}`,
      files.certificate,
      management,
      processes,
      recordsOver(dnsManagement).listen(bridgePort),
    );
    await eventually(60, async () => void (await server.root()));
    return server;
  }

  /** The CA that signs what it gives out: another one each time the server is started. */
  root(): Promise<string> {
    return new Promise((resolve, reject) => {
      const url = `https://127.0.0.1:${this.managementPort}/roots/0`;
      get(url, { rejectUnauthorized: false }, (response) => {
        buffer(response).then((body) => resolve(body.toString()), reject);
      }).on("error", reject);
    });
  }

  stop(): void {
    this.bridge.close();
    for (const process of this.processes) process.kill();
  }
}

/** What the provider `httpreq` asks for, as the DNS server's own interface takes it. Nothing without the password. */
function recordsOver(dnsManagement: number): Server {
  const wanted = `Basic ${Buffer.from(`customer:${dnsPassword}`).toString("base64")}`;
  return createServer(async (request, response) => {
    const { fqdn, value } = JSON.parse((await buffer(request)).toString());
    const path = request.url === "/present" ? "set-txt" : "clear-txt";
    const allowed = request.headers.authorization === wanted;
    if (allowed) {
      const body = JSON.stringify({ host: fqdn, value });
      await fetch(`http://127.0.0.1:${dnsManagement}/${path}`, { method: "POST", body });
    }
    response.writeHead(allowed ? 200 : 401).end();
  });
}

function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the tests by script/test, which provides it`);
  return value;
}
