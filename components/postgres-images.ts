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

  /** Id of the image of this major version: a tag would differ from the container's image on every run. */
  idOf(version: number): pulumi.Output<string> {
    let image = this.images.get(version);
    if (!image) {
      const name = this.args.postgresImages.get(version);
      if (!name) throw new pulumi.ResourceError(`pgs:images has no image for PostgreSQL ${version}`, this);
      image = new docker.RemoteImage(`postgres-${version}`, { name, keepLocally: true }, { parent: this });
      this.images.set(version, image);
    }
    return image.imageId;
  }
}
