import { readFileSync } from "node:fs";
import { join } from "node:path";
import type Docker from "dockerode";
import { barmanName, databaseOf } from "../backup";
import { engine, exec, ifPresent } from "../engine";
import { literal } from "../postgres-server/psql";
import type { ResourceType } from "../resource-type";

/** A new tenant's data, made from another's backups before its server first starts. */
export interface RestoreInputs {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  /** The new tenant's volume. */
  volume: string;
  /** Id of the tenant whose backups are restored; it may be gone. */
  from: string;
  /** As of when: ISO 8601 with a time zone. Without one, the end of what was streamed. */
  at?: string;
  /** The new tenant's database. */
  database: string;
  /** PostgreSQL major version of the new tenant: the backup's own. */
  version: number;
  /** Settings that the new server starts with. */
  settings: Record<string, string>;
  /** Name of Barman's container. */
  barman: string;
  /** Name of Barman's volume. */
  backups: string;
  /** Name of the network that leads to the copies off the host; undefined without them. */
  offsiteNetwork?: string;
  /** Id of Barman's image. */
  barmanImage: string;
  /** Id of the new server's image. */
  image: string;
}

/** A day: what a restore may take. */
const limit = 86_400;

export const Restore: ResourceType<RestoreInputs> = {
  updatable: [],
  replacing: ["host", "volume"],

  check({ from, at }, before) {
    if (before.from === undefined || (before.from === from && before.at === at)) return [];
    const made = `${before.from}${before.at ? ` at ${before.at}` : ""}`;
    return [
      {
        property: "from",
        reason: `the tenant's data was made from ${made} already, and an edit never replaces data: take restoreFrom out, or restore into another entry`,
      },
    ];
  },

  async create(inputs) {
    await archiveWal(inputs);
    await layOut(inputs);
    await recover(inputs);
    return { id: inputs.volume, state: inputs };
  },

  async read(_id, state) {
    // A volume that was removed by hand is made anew, and its data with it.
    return (await ifPresent(engine(state.host).getVolume(state.volume).inspect())) ? state : undefined;
  },

  async update(_id, _state, inputs) {
    return inputs;
  },

  async delete() {
    // The data is the volume's.
  },
};

/** Files what was streamed until now; of a tenant that is gone, that was done when it went. */
async function archiveWal(inputs: RestoreInputs): Promise<void> {
  const container = engine(inputs.host).getContainer(inputs.barman);
  await exec(container, ["barman", "-q", "archive-wal", barmanName(inputs.from)], { seconds: 600 });
}

/** What lay-out.sh ends with when the backups on this host cannot have what is asked for. */
const notHere = 68;

/** From the backups on this host; where they have nothing of that time, from the copies off it. */
async function layOut(inputs: RestoreInputs): Promise<void> {
  const lay = (source: "volume" | "s3", network: string) =>
    runScript(
      inputs,
      "lay-out.sh",
      [barmanName(inputs.from), inputs.at ?? "", String(inputs.version), source],
      { image: inputs.barmanImage, binds: [`${inputs.backups}:/var/lib/barman:ro`], network },
    );
  try {
    await lay("volume", "none");
  } catch (error) {
    if (!(error instanceof ScriptError && error.code === notHere && inputs.offsiteNetwork)) throw error;
    await lay("s3", inputs.offsiteNetwork);
  }
}

async function recover(inputs: RestoreInputs): Promise<void> {
  const settings = Object.entries(inputs.settings).map(
    ([name, value]) => `ALTER SYSTEM SET ${name} = ${literal(value)};`,
  );
  await runScript(inputs, "recover.sh", [databaseOf(inputs.from), inputs.database, settings.join("\n")], {
    image: inputs.image,
    binds: [],
    network: "none",
  });
}

class ScriptError extends Error {
  constructor(
    message: string,
    readonly code: number,
  ) {
    super(message);
  }
}

/**
 * Runs a script in a container of its own that has the new tenant's volume and no rights.
 * @throws ScriptError with what the script said when it failed
 */
async function runScript(
  inputs: RestoreInputs,
  script: string,
  args: string[],
  { image, binds, network }: { image: string; binds: string[]; network: string },
): Promise<void> {
  const docker = engine(inputs.host);
  // Two hyphens: no tenant's container has such a name. One of this name is left of a run that was cut off.
  const name = `${inputs.volume}--restore`;
  await ifPresent(docker.getContainer(name).remove({ force: true }));
  const container = await docker.createContainer({
    name,
    Image: image,
    Entrypoint: ["bash", "-c", readFileSync(join(__dirname, script), "utf8"), "bash"],
    Cmd: args,
    User: "999:999",
    Env: [`PGDATA=/var/lib/postgresql/${inputs.version}/docker`],
    HostConfig: {
      NetworkMode: network,
      ReadonlyRootfs: true,
      Tmpfs: { "/tmp": "", "/var/run/postgresql": "mode=1777" },
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges:true"],
      Binds: [`${inputs.volume}:/var/lib/postgresql`, ...binds],
    },
  });
  try {
    await container.start();
    const code = await ended(container);
    if (code !== 0) {
      throw new ScriptError(
        `restore of ${inputs.from} into ${inputs.volume}: ${await said(container)}`,
        code,
      );
    }
  } finally {
    await ifPresent(container.remove({ force: true }));
  }
}

async function ended(container: Docker.Container): Promise<number> {
  const timer = setTimeout(() => void container.kill().catch(() => {}), limit * 1000);
  try {
    return (await container.wait()).StatusCode;
  } finally {
    clearTimeout(timer);
  }
}

/** The end of what it wrote to standard error. */
async function said(container: Docker.Container): Promise<string> {
  const log = (await container.logs({ stdout: false, stderr: true, tail: 10 })) as Buffer;
  // Each frame has a head of eight bytes, the last four of which are its length.
  const lines: string[] = [];
  for (let at = 0; at + 8 <= log.length; at += 8 + log.readUInt32BE(at + 4)) {
    lines.push(log.toString("utf8", at + 8, at + 8 + log.readUInt32BE(at + 4)));
  }
  return lines.join("").trim() || "it ended without a word";
}
