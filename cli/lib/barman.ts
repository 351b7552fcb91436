import type Docker from "dockerode";
import { dockerClient } from "../../docker/client";
import { exec } from "../../docker/exec";
import type { Restored } from "../../restore";
import { barmanName } from "../../restore/names";
import { containersOf } from "./containers";
import { CommandError } from "./pulumi";
import { type StackConfig, stackOutputs } from "./stack";

/** A base backup that a restore can begin with. */
export interface BaseBackup {
  /** Barman's name for it, such as 20261123T023000. */
  id: string;
  /** Milliseconds since 1970 of when it was complete: from then on, the tenant can be restored. */
  complete: number;
  /** PostgreSQL major version. */
  version: number;
}

/** The stack's Barman. */
export class Barman {
  private constructor(
    readonly docker: Docker,
    /** Of its container and its volume. */
    readonly name: string,
    /** Id of its image. */
    readonly image: string,
  ) {}

  /** @throws CommandError when it does not run */
  static async find(config: StackConfig): Promise<Barman> {
    const docker = dockerClient(config.dockerHost);
    const name = `${config.prefix}--backups`;
    const info = (await containersOf(config, (await stackOutputs()) ?? {})).get(name);
    if (info?.State === "running") return new Barman(docker, name, info.ImageID);
    throw new CommandError(
      config.backups.schedule === "off"
        ? "backups are off: pulumi config set --path pgs:backups.schedule 02:30, then ./pgs up (docs/backups.md)"
        : `the container ${name} does not run: ./pgs up`,
    );
  }

  /** A restore of its backups. @throws CommandError when no image fits the data */
  restored(
    what: Pick<Restored, "from" | "at" | "version" | "volume" | "limits" | "tell">,
    { images }: StackConfig,
  ): Restored {
    const image = images[what.version];
    if (!image) throw new CommandError(`pgs:images has no image for PostgreSQL ${what.version}`, 2);
    return { ...what, barman: this.name, backups: this.name, barmanImage: this.image, image };
  }

  /** What a bash script prints in its container. @throws CommandError when it gives no answer */
  async run(script: string, args: string[] = [], seconds = 300): Promise<string> {
    const container = this.docker.getContainer(this.name);
    const command = ["bash", "-c", script, "bash", ...args];
    const { code, stdout } = await exec(container, command, { seconds, outputLimit: 16 << 20 });
    if (code !== 0) throw new CommandError(`${this.name} gives no answer: docker logs ${this.name}`);
    return stdout;
  }

  /** A tenant's usable base backups, the oldest first; none of one that Barman does not know. */
  async backupsOf(tenant: string): Promise<BaseBackup[]> {
    const fields = "status|end_time|version";
    const script = `cd "/var/lib/barman/$1/meta" 2>/dev/null && grep -HE '^(${fields})=' -- *-backup.info`;
    const found = new Map<string, Record<string, string>>();
    for (const line of (await this.run(script, [barmanName(tenant)])).split("\n")) {
      const [, id, field, value = ""] = /^(\d+T\d+)-backup\.info:(\w+)=(.*)$/.exec(line) ?? [];
      if (id && field) found.set(id, { ...found.get(id), [field]: value });
    }
    return [...found]
      .filter(([, { status = "" }]) => /^(DONE|WAITING_FOR_WALS)$/.test(status))
      .map(([id, { end_time = "", version }]) => ({
        id,
        complete: Date.parse(end_time),
        version: Math.floor(Number(version) / 10_000),
      }))
      .sort((one, other) => (one.id < other.id ? -1 : 1));
  }
}
