import { connect, createServer, type Server, type Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Checkout } from "./support/checkout";

/** Stands between Pulumi and the engine, as a network would; counts what passes. */
let relay: Server;
let connections = 0;
const open = new Set<Socket>();
let checkout: Checkout;

beforeAll(async () => {
  relay = createServer({ allowHalfOpen: true }, (socket) => {
    connections++;
    const engine = connect({ path: "/var/run/docker.sock", allowHalfOpen: true });
    for (const end of [socket, engine]) {
      open.add(end);
      end.on("error", () => end.destroy());
      end.on("close", () => open.delete(end));
    }
    socket.pipe(engine).pipe(socket);
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  const address = relay.address();
  const port = typeof address === "object" ? address?.port : 0;
  checkout = await Checkout.create("tenants: { acme: { init: [init/a.sql] } }", {
    "docker:host": `tcp://127.0.0.1:${port}`,
  });
  // Whatever did not follow docker:host would end here.
  checkout.env.DOCKER_HOST = "unix:///nowhere/docker.sock";
  checkout.write("init/a.sql", "CREATE TABLE a ();");
});
afterAll(async () => {
  await checkout?.remove();
  for (const socket of open) socket.destroy();
  relay?.close();
});

test("against an engine that docker:host names, up, refresh, preview and logins work", async () => {
  await checkout.up();
  expect(connections).toBeGreaterThan(0);
  await checkout.query("acme", "SELECT * FROM a");
  await checkout.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes");
  await checkout.pulumi("preview", "--expect-no-changes");
});

test("and so does destroy", async () => {
  await checkout.pulumi("destroy", "--yes", "--skip-preview");
});
