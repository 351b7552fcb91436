import type { Server } from "node:http";
import { serve } from "@hono/node-server";
import { onInterrupt } from "../lib/interrupt";
import { CommandError } from "../lib/pulumi";
import { openBrowser } from "./browser";
import { pageFiles } from "./page-files";
import { dashboardApp, newToken } from "./server";
import { StackSource } from "./source";

const address = "127.0.0.1";

/** Serves the dashboard until Ctrl-C. @throws CommandError where there is no stack, or the port is taken */
export async function runDashboard({ port, open }: { port: number; open: boolean }): Promise<void> {
  const source = new StackSource();
  const [stack, files] = await Promise.all([source.begin(), pageFiles()]);
  const token = newToken();
  const app = dashboardApp({ source, files, token, cookie: `pgs-dashboard-${port}` });
  const server = await listen(app.fetch, port);
  const url = `http://${address}:${port}/?token=${token}`;
  console.log(`The dashboard of ${stack}, until Ctrl-C:\n\n  ${url}\n`);
  const close = open ? openBrowser(url) : () => {};
  await new Promise<void>((resolve) => onInterrupt(resolve));
  close();
  server.close();
  // Without waiting for the browser's open connections or for questions to servers that are under way.
  process.exit(0);
}

async function listen(
  fetch: (request: Request) => Response | Promise<Response>,
  port: number,
): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch, port, hostname: address }, () => resolve(server as Server)) as Server;
    server.on("error", (error: NodeJS.ErrnoException) => {
      reject(
        error.code === "EADDRINUSE"
          ? new CommandError(`port ${port} of ${address} is taken: --port chooses another`)
          : error,
      );
    });
  });
}
