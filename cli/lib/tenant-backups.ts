import type Docker from "dockerode";
import { BackupClient, type BackupSet, withBackupVolume } from "../../backups/client";
import type { TrialsVolume } from "../../backups/trials";
import { dockerClient, ifPresent } from "../../docker/client";
import { stackLabel, tenantLabel } from "../../docker/labels";
import { type ResourceNames, resourceNames } from "../../docker/names";
import type { Restored } from "../../restore";
import { databaseOf } from "../../restore/names";
import { imageKey } from "../../tenants/extensions";
import { CommandError } from "./pulumi";
import type { StackConfig } from "./stack";

/** A base backup that a restore can begin with. */
export interface UsableBackup {
  /** Barman's name for it, such as 20261123T023000. */
  id: string;
  /** Milliseconds since 1970 of when it was complete: from then on, the tenant can be restored. */
  complete: number;
  /** PostgreSQL major version. */
  version: number;
}

/** The backups of a stack's tenants, each in a container and a volume of its own. */
export class TenantBackups {
  readonly docker: Docker;
  readonly names: ResourceNames;

  /** @param stack value of the stack's label */
  constructor(
    private readonly config: StackConfig,
    readonly stack: string,
  ) {
    this.docker = dockerClient(config.dockerHost);
    this.names = resourceNames(config.prefix);
  }

  /** Ids of the tenants that have backups on this host, removed ones too, with whether a container makes more. */
  async all(): Promise<Map<string, { runs: boolean }>> {
    const filters = { label: [`${stackLabel}=${this.stack}`] };
    const [{ Volumes }, containers] = await Promise.all([
      this.docker.listVolumes({ filters: JSON.stringify(filters) }),
      this.docker.listContainers({ filters }),
    ]);
    const running = new Set(containers.flatMap(({ Names }) => Names));
    return new Map(
      (Volumes ?? [])
        .flatMap(({ Name, Labels }) => {
          const id = Labels?.[tenantLabel];
          return id !== undefined && Name === this.names.backup(id) ? [id] : [];
        })
        .sort()
        .map((id) => [id, { runs: running.has(`/${this.names.backup(id)}`) }]),
    );
  }

  /**
   * Asks a tenant's backup container; of a tenant without one, a container that is made for this.
   * @throws CommandError when there are no backups of it
   */
  async ask<T>(tenant: string, question: (client: BackupClient) => Promise<T>): Promise<T> {
    const name = this.names.backup(tenant);
    const volume = await ifPresent(this.docker.getVolume(name).inspect());
    if (volume?.Labels?.[stackLabel] !== this.stack) {
      throw new CommandError(`${tenant} has no backups on this host: ./pgs backups lists those that have`, 2);
    }
    const container = this.docker.getContainer(name);
    const info = await ifPresent(container.inspect());
    if (info?.State.Running && info.Config.Labels[stackLabel] === this.stack) {
      return question(new BackupClient(container, tenant));
    }
    const stored = { image: this.image, volume: name, tenant, stack: this.stack };
    return withBackupVolume(this.docker, stored, question);
  }

  /** The usable base backups, the oldest first; none where there are no backups of that name. */
  async backupsOf(from: string): Promise<UsableBackup[]> {
    const volumes = await this.all();
    // Backups of data that a tenant had before are in its volume.
    const tenant = volumes.has(from) ? from : databaseOf(from);
    if (!volumes.has(tenant)) return [];
    const sets: BackupSet[] = await this.ask(tenant, (client) => client.list());
    const found = sets.find(({ name }) => name === from)?.backups ?? [];
    return found
      .filter(({ usable }) => usable)
      .map(({ id, end, version }) => ({ id, complete: end * 1000, version }));
  }

  /** Deletes a removed tenant's backup volume. */
  async remove(tenant: string): Promise<void> {
    const volume = this.docker.getVolume(this.names.backup(tenant));
    const info = await ifPresent(volume.inspect());
    if (info?.Labels?.[stackLabel] === this.stack) await ifPresent(volume.remove());
  }

  /** @throws CommandError when no image fits the data */
  restored({
    variant,
    ...what
  }: Pick<Restored, "from" | "at" | "version" | "volume" | "limits" | "onProgress"> & {
    /** Of the tenant's image. */
    variant?: string;
  }): Restored {
    const { images, prefix, offsite } = this.config;
    const key = imageKey(what.version, variant);
    const image = images[key];
    if (!image) throw new CommandError(`pgs:images has no image for PostgreSQL ${key}`, 2);
    return { ...what, stack: this.stack, prefix, offsite, backupImage: this.image, image };
  }

  get trials(): TrialsVolume {
    return { name: this.names.trials, stack: this.stack, image: this.image };
  }

  private get image(): string {
    return this.config.backupImage;
  }
}
