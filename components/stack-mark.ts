import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import type { Stock, StockInputs } from "../provider/stock";
import { stackName } from "./stack-settings";

export interface StackMarkArgs {
  /** The Docker host, when it is not the default one. */
  dockerHost?: string;
}

/** What makes a container the stack's. */
interface ContainerPlace {
  name: pulumi.Output<string>;
  labels: pulumi.Output<docker.types.input.ContainerLabel[]>;
}

/**
 * What the stack's containers are known by, and which of them are there. The Docker provider believes the state: of a
 * container that was removed by hand it sees nothing, and one that a cut-off run left ends it with a conflict. Here the
 * engine is asked once for all of them: one that is gone is made anew, and what carries the stack's mark but is not in
 * its state is removed in an `up`, and nothing else.
 */
export class StackMark extends pulumi.ComponentResource {
  /** The stack's random id, once a container can bear it. */
  readonly id: pulumi.Output<string>;
  private readonly stock: pulumi.Output<Stock>;

  constructor(
    name: string,
    private readonly args: StackMarkArgs,
    opts?: pulumi.ComponentResourceOptions,
  ) {
    super("pgs:index:StackMark", name, {}, opts);
    const stack = new random.RandomId(name, { byteLength: 8 }, { parent: this }).hex;
    // Begun at once: it takes some tenths of a second. No container is made before the answer is there.
    const inState = pulumi.runtime.isDryRun() ? undefined : containersInState();
    this.stock = pulumi.all([stack, inState]).apply(([stack, inState]) => this.takeStock(stack, inState));
    this.id = pulumi.all([stack, this.stock]).apply(([id]) => id);
    this.registerOutputs();
  }

  /**
   * Name and labels for a container of this stack, in an `up` once it can be made.
   * @param parts what it is made of; names, and the id of the image
   */
  of(name: string, parts: { volume: pulumi.Output<string>; image: pulumi.Output<string> }): ContainerPlace {
    const generation = this.stock.apply(({ generations }) => generations[name]);
    const ready = () =>
      pulumi.all([generation, parts.volume, parts.image]).apply(async ([generation, volume, image]) => {
        if (generation === undefined) await this.ask("demandParts", { container: name, volume, image });
      });
    return {
      // A preview makes nothing, and knows not all parts.
      name: pulumi.runtime.isDryRun() ? pulumi.output(name) : ready().apply(() => name),
      // A generation that the last `up` does not know makes the Docker provider replace the container.
      labels: pulumi
        .all([this.id, generation])
        .apply(([id, generation = randomUUID()]) => [
          { label: "pgs.stack", value: id },
          ...(generation === "" ? [] : [{ label: "pgs.generation", value: generation }]),
        ]),
    };
  }

  private async takeStock(stack: string, inState: StockInputs["inState"]): Promise<Stock> {
    const stock = await this.ask<Stock>("takeStock", { stack, inState });
    if (stock.removed.length > 0) {
      await pulumi.log.warn(
        `Removed ${stock.removed.join(", ")}: made by this stack, but not in its state, as after a run that was cut off. Volumes stay.`,
        this,
      );
    }
    return stock;
  }

  /** Asks the `pgs` provider, which talks to the engine. */
  private ask<Answer>(question: string, inputs: Record<string, unknown>): Promise<Answer> {
    return pulumi.runtime.invoke(
      `pgs:index:${question}`,
      { host: this.args.dockerHost, ...inputs },
      { parent: this },
    );
  }
}

/** Ids of the stack's containers as Pulumi knows them in the middle of an `up`. Nothing here is decrypted. */
export async function containersInState(): Promise<NonNullable<StockInputs["inState"]>> {
  const resources: { type: string; id?: string; outputs?: { containerId?: string } }[] =
    JSON.parse(await exportedState()).deployment.resources ?? [];
  const idsOf = (wanted: string, idOf: (resource: (typeof resources)[number]) => string | undefined) =>
    resources.flatMap((resource) => (resource.type === wanted ? (idOf(resource) ?? []) : []));
  return {
    docker: idsOf("docker:index/container:Container", ({ id }) => id),
    servers: idsOf("pgs:index:PostgresServer", ({ outputs }) => outputs?.containerId),
  };
}

/**
 * The engine writes the state meanwhile. In a folder without `metadata=skip` Pulumi does so partly in place
 * (gocloud.dev, fileblob/attrs.go), and who reads at that moment gets "EOF": so it is read again.
 */
async function exportedState(tries = 5): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)("pulumi", ["stack", "export", "--stack", stackName()], {
      maxBuffer: 1 << 30,
    });
    return stdout;
  } catch (error) {
    if (tries === 1) throw error;
    await delay(200);
    return exportedState(tries - 1);
  }
}
