import { PassThrough, type Readable, Transform } from "node:stream";
import { finished, pipeline } from "node:stream/promises";
import { dockerClient, engineName } from "../../docker/client";
import { resourceNames } from "../../docker/names";
import { command } from "../lib/command";
import { CommandError } from "../lib/pulumi";
import { wayBack } from "../lib/restore-in-place";
import { requiredOutputs, stackConfig, tenantOf } from "../lib/stack";

export const logs = command(
  "logs",
  "log of a tenant's server",
  "./pgs logs acme --tail 20",
  "./pgs logs acme -f",
)
  .argument("<tenant>")
  .option("-f, --follow", "go on as more is written, until Ctrl-C")
  .option("--tail <lines>", "only the last ones; or all", "all")
  .action(showLogs);

/** What the tenant's server wrote, as the engine keeps it: at most three files of 10 MB. */
async function showLogs(id: string, options: { follow?: boolean; tail: string }): Promise<void> {
  if (!/^(all|\d+)$/.test(options.tail))
    throw new CommandError(`--tail takes a number of lines or all, got ${options.tail}`, 2);
  const [config, { tenants }] = await Promise.all([stackConfig(), requiredOutputs()]);
  const tenant = tenantOf(tenants, id);
  const container = dockerClient(config.dockerHost).getContainer(resourceNames(config.prefix).tenant(id));
  const which = {
    stdout: true,
    stderr: true,
    tail: options.tail === "all" ? undefined : Number(options.tail),
  };
  let source: Readable;
  try {
    // Two requests in dockerode's types: one that ends, one that goes on.
    if (options.follow) source = (await container.logs({ ...which, follow: true })) as unknown as Readable;
    else source = new PassThrough().end(await container.logs({ ...which, follow: false }));
  } catch (error) {
    const { statusCode, message } = error as { statusCode?: number; message: string };
    if (statusCode !== 404)
      throw new CommandError(`the Docker engine at ${engineName(config.dockerHost)} says: ${message}`);
    throw new CommandError(
      tenant.state === "running"
        ? `${id} should run, but its container is gone: ./pgs up`
        : `${id} is stopped, and its log went with its container: ${wayBack(id, config)}`,
    );
  }
  const text = printable();
  container.modem.demuxStream(source, text, text);
  void finished(source, { writable: false })
    .catch(() => {})
    .finally(() => text.end());
  // `| head` closes the output: no failure.
  await pipeline(text, process.stdout, { end: false }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
}

/** A tenant can write to its log: what could steer the operator's terminal becomes visible instead. */
function printable(): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      done(null, Buffer.from(chunk.toString("latin1").replace(steering, shown), "latin1"));
    },
  });
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const steering = /[\x00-\x08\x0b-\x1f\x7f]/g;
const shown = (character: string) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
