import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import type { Settings } from "../../config";
import type { Tenant } from "../../tenants";
import { imageKey } from "../../tenants/extensions";

export interface PostgresImagesArgs {
  /** Names of PostgreSQL's images by major version, or one with a variant. */
  postgresImages: Map<string, string>;
  /** Barman, with the programs of the newest PostgreSQL that a tenant runs. */
  barmanImage: string;
  /** PgBouncer. */
  poolerImage: string;
  /** Prometheus and what belongs to it. */
  monitoringImages: Settings["monitoringImages"];
}

/** An image's name and tag, and its id, which is what counts. */
export interface PinnedImage {
  image: string;
  imageId: pulumi.Output<string>;
}

/**
 * Folders that Barman's image declares as volumes. A container that mounts nothing there gets an anonymous volume for
 * each: on the disk, writable, and left behind when the container is removed.
 */
export const barmanVolumes = ["/var/lib/barman", "/var/lib/postgresql"];

/** The images on the Docker host that servers and what belongs to them are made of, each fetched when the first asks for it. */
export class PostgresImages extends pulumi.ComponentResource {
  private readonly images = new Map<string, docker.RemoteImage>();

  constructor(
    name: string,
    private readonly args: PostgresImagesArgs,
    opts?: pulumi.ComponentResourceOptions,
  ) {
    super("pgs:index:PostgresImages", name, {}, opts);
    this.registerOutputs();
  }

  /** What backups are made with, and what else of the stack runs Python. */
  get barman(): PinnedImage {
    return this.get("barman", this.args.barmanImage);
  }

  /** What tenants' connections are pooled with. */
  get pooler(): PinnedImage {
    return this.get("pooler", this.args.poolerImage);
  }

  /** What the stack is watched with. */
  monitoring(program: keyof Settings["monitoringImages"]): PinnedImage {
    return this.get(program, this.args.monitoringImages[program]);
  }

  /** What a tenant's server runs on. */
  of({ version, image }: Pick<Tenant, "version" | "image">): PinnedImage {
    const key = imageKey(version, image);
    const name = this.args.postgresImages.get(key);
    if (!name) throw new pulumi.ResourceError(`pgs:images has no image for PostgreSQL ${key}`, this);
    return this.get(`postgres-${key}`, name);
  }

  private get(resource: string, name: string): PinnedImage {
    const image =
      this.images.get(resource) ??
      new docker.RemoteImage(resource, { name, keepLocally: true }, { parent: this });
    this.images.set(resource, image);
    return { image: name, imageId: image.imageId };
  }
}
