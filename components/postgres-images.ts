import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";

export interface PostgresImagesArgs {
  /** Names of PostgreSQL's images by major version. */
  postgresImages: Map<number, string>;
}

/** PostgreSQL's images on the Docker host, each fetched when the first tenant asks for it. */
export class PostgresImages extends pulumi.ComponentResource {
  private readonly images = new Map<number, docker.RemoteImage>();

  constructor(
    name: string,
    private readonly args: PostgresImagesArgs,
    opts?: pulumi.ComponentResourceOptions,
  ) {
    super("pgs:index:PostgresImages", name, {}, opts);
    this.registerOutputs();
  }

  /** The image of this major version: its name and tag, and its id, which is what counts. */
  of(version: number): { image: string; imageId: pulumi.Output<string> } {
    const name = this.args.postgresImages.get(version);
    if (!name) throw new pulumi.ResourceError(`pgs:images has no image for PostgreSQL ${version}`, this);
    let image = this.images.get(version);
    if (!image) {
      image = new docker.RemoteImage(`postgres-${version}`, { name, keepLocally: true }, { parent: this });
      this.images.set(version, image);
    }
    return { image: name, imageId: image.imageId };
  }
}
