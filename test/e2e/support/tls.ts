import { connect, type PeerCertificate } from "node:tls";

/** The certificate that a new client is shown for this hostname, verified with nothing. It greets as libpq does by direct TLS. */
export function shownCertificate(port: number, hostname: string): Promise<PeerCertificate> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: "127.0.0.1",
      port,
      servername: hostname,
      ALPNProtocols: ["postgresql"],
      rejectUnauthorized: false,
    });
    socket.setTimeout(20_000, () => socket.destroy(new Error("no answer within 20 seconds")));
    socket.on("error", reject);
    socket.on("secureConnect", () => {
      resolve(socket.getPeerCertificate());
      socket.destroy();
    });
  });
}
