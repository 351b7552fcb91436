import { createServer, type Server, type Socket } from "node:net";
import { PassThrough } from "node:stream";
import type Docker from "dockerode";
import { dockerClient } from "../../docker/client";
import { resourceNames } from "../../docker/names";
import { command } from "../lib/command";
import { onInterrupt } from "../lib/interrupt";
import { Metrics } from "../lib/metrics";
import { CommandError } from "../lib/pulumi";
import { requiredOutputs, stackConfig } from "../lib/stack";

export const metrics = command(
  "metrics",
  "Prometheus's own page, on this machine alone, until Ctrl-C",
  "./pgs metrics",
  "./pgs metrics --port 9090",
)
  .option("--grafana", "Grafana's page, where pgs:monitoring.grafana is true")
  .option("--port <port>", "of this machine, on 127.0.0.1", "any that is free")
  .action(openMetrics);

/** Prometheus is on no network that leads to it: each connection is passed on by a process beside it. */
async function openMetrics(options: { port: string; grafana?: boolean }): Promise<void> {
  const port = options.port.startsWith("any") ? 0 : Number(options.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new CommandError(`--port is a number from 1 to 65535, got ${options.port}`, 2);
  const [config, outputs] = await Promise.all([stackConfig(), requiredOutputs()]);
  if (!(await Metrics.of(config, outputs))) {
    throw new CommandError(
      "the stack has no Prometheus that runs: pulumi config set --path pgs:monitoring.enabled true, then ./pgs up",
    );
  }
  const names = resourceNames(config.prefix);
  const relay = dockerClient(config.dockerHost).getContainer(names.relay);
  const target = options.grafana ? [names.grafana, "3000"] : [names.prometheus, "9090"];
  const server = createServer((socket) => {
    socket.on("error", () => {});
    passOn(socket, relay, target).catch(() => socket.destroy());
  });
  const listening = await listen(server, port);
  console.log(`http://127.0.0.1:${listening}/`);
  console.error(
    `${options.grafana ? "Grafana's page" : "Prometheus's page and API"}, for everybody on this machine; Ctrl-C ends it.`,
  );
  await new Promise<void>((resolve) => onInterrupt(resolve));
  process.exit(0);
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.on("error", (error) =>
      reject(new CommandError(`cannot listen on port ${port}: ${error.message}`)),
    );
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address ? address.port : port);
    });
  });
}

const pump = `
import os, socket, sys, threading
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
connection.settimeout(None)
def answer():
    while data := connection.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=answer).start()
while data := os.read(0, 65536):
    connection.sendall(data)
connection.shutdown(socket.SHUT_WR)
`;

async function passOn(socket: Socket, relay: Docker.Container, target: string[]): Promise<void> {
  const process = await relay.exec({
    Cmd: ["python3", "-I", "-c", pump, ...target],
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
  });
  const stream = await process.start({ hijack: true, stdin: true });
  const ignored = new PassThrough().resume();
  relay.modem.demuxStream(stream, socket, ignored);
  stream.on("error", () => socket.destroy());
  stream.on("end", () => socket.end());
  socket.on("close", () => stream.end());
  socket.pipe(stream);
}
