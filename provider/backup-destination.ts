import { posix } from "node:path";
import type Docker from "dockerode";
import { dockerClient, ensureRunning, ifPresent } from "../docker/client";
import { exec, printable } from "../docker/exec";
import { getFile, putFile } from "../docker/files";
import { postgresUser } from "../docker/hardening";
import type { ResourceType } from "./resource-type";

/** The bucket that backups are copied to. */
export interface BackupDestinationInputs {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  /** Id of the container that copies. */
  container: string;
  /** s3://BUCKET/PATH */
  destination: string;
  /** URL of the S3 server. Default: that of AWS. */
  endpoint?: string;
  /** Default: us-east-1. */
  region?: string;
  /** Which key the S3 server encrypts with, or `off`. */
  encryption: string;
  accessKeyId: string;
  secretAccessKey: string;
}

/** Where the container looks for it; in its volume, as a restore reads it there too. */
const folder = "/var/lib/offsite/destination";
const settingsFile = "settings.json";
const credentialsFile = "credentials";

export const BackupDestination: ResourceType<BackupDestinationInputs> = {
  updatable: [
    "container",
    "destination",
    "endpoint",
    "region",
    "encryption",
    "accessKeyId",
    "secretAccessKey",
  ],
  replacing: ["host"],

  async create(inputs) {
    await apply(inputs);
    return { id: "backup-destination", state: inputs };
  },

  async read(_id, state) {
    const container = dockerClient(state.host).getContainer(state.container);
    const settings = await getFile(container, posix.join(folder, settingsFile));
    const credentials = await getFile(container, posix.join(folder, credentialsFile));
    return {
      ...state,
      destination: settings === settingsOf(state) ? state.destination : "",
      secretAccessKey: credentials === credentialsOf(state) ? state.secretAccessKey : "",
    };
  },

  async update(_id, _state, inputs) {
    await apply(inputs);
    return inputs;
  },

  /** What is in the bucket stays. */
  async delete(_id, state) {
    const container = dockerClient(state.host).getContainer(state.container);
    const info = await ifPresent(container.inspect());
    if (info?.State.Running) await exec(container, ["rm", "-rf", folder]);
  },
};

/** Tried before it counts: what is wrong is told at once, and the destination that worked stays. */
async function apply(inputs: BackupDestinationInputs): Promise<void> {
  const container = dockerClient(inputs.host).getContainer(inputs.container);
  await ensureRunning(container, await container.inspect());
  const tried = `${folder}.new`;
  await run(container, ["sh", "-c", 'rm -rf "$1" && mkdir -m 700 "$1"', "sh", tried]);
  await putFile(container, tried, settingsFile, settingsOf(inputs), postgresUser);
  await putFile(container, tried, credentialsFile, credentialsOf(inputs), postgresUser);
  const check = await exec(container, ["pgs-offsite", "check", "--settings", tried], { seconds: 300 });
  if (check.code !== 0) {
    await exec(container, ["rm", "-rf", tried]);
    const where = `${inputs.destination}${inputs.endpoint ? ` at ${inputs.endpoint}` : ""}`;
    throw new Error(
      `the backups' destination ${where} cannot be used: ${printable(check.stderr)}. Nothing was changed. Look at pgs:backups and pgs:backupCredentials (docs/backups.md)`,
    );
  }
  await run(container, ["sh", "-c", 'rm -rf "$2" && mv "$1" "$2"', "sh", tried, folder]);
}

async function run(container: Docker.Container, command: string[]): Promise<void> {
  const { code, stderr } = await exec(container, command, { seconds: 60 });
  if (code !== 0) throw new Error(`the backups' destination: ${stderr.trim()}`);
}

function settingsOf({ destination, endpoint, region, encryption }: BackupDestinationInputs): string {
  return `${JSON.stringify({ destination, endpoint, region, encryption })}\n`;
}

/** https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html */
function credentialsOf({ accessKeyId, secretAccessKey }: BackupDestinationInputs): string {
  return `[default]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`;
}
