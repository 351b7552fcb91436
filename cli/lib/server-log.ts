import { PassThrough, type Readable, Transform } from "node:stream";
import { finished } from "node:stream/promises";
import { dockerClient, engineName } from "../../docker/client";
import { resourceNames } from "../../docker/names";
import { clusterLog } from "./kubernetes";
import { CommandError } from "./pulumi";
import { wayBack } from "./restore-in-place";
import type { StackConfig, TenantSummary } from "./stack";

/**
 * What the tenant's server wrote, as the engine keeps it: at most three files of 10 MB.
 * @param options.tail only so many last lines
 * @throws CommandError where there is no container
 */
export async function serverLog(
  id: string,
  tenant: TenantSummary,
  config: StackConfig,
  { follow = false, tail }: { follow?: boolean; tail?: number } = {},
): Promise<Readable> {
  if (config.platform === "kubernetes") {
    return (await clusterLog(id, tenant, config, { follow, tail })).pipe(printable());
  }
  const container = dockerClient(config.dockerHost).getContainer(resourceNames(config.prefix).tenant(id));
  const which = { stdout: true, stderr: true, tail };
  let source: Readable;
  try {
    // Two requests in dockerode's types: one that ends, one that goes on.
    if (follow) source = (await container.logs({ ...which, follow: true })) as unknown as Readable;
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
  return text;
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
