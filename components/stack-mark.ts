import { execFile } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import type * as Leftovers from "../provider/leftovers";

export interface StackMarkArgs {
  /** The Docker host, when it is not the default one. */
  dockerHost?: string;
}

/**
 * What the stack's containers are known by. A run that is cut off can leave one that is in no state, and
 * whose name and volume the next run needs. The Docker provider would end with a conflict; here an `up` first
 * removes what carries the stack's mark and is not in its state, and nothing else.
 */
export class StackMark extends pulumi.ComponentResource {
  readonly labels: docker.types.input.ContainerLabel[];
  private readonly cleared: pulumi.Output<unknown>;

  constructor(name: string, args: StackMarkArgs, opts?: pulumi.ComponentResourceOptions) {
    super("pgs:index:StackMark", name, {}, opts);
    const { hex } = new random.RandomId(name, { byteLength: 8 }, { parent: this });
    this.labels = [{ label: "pgs.stack", value: hex }];
    this.cleared = pulumi.runtime.isDryRun()
      ? pulumi.output(true)
      : hex.apply((stack) => this.clear(args.dockerHost, stack));
    this.registerOutputs();
  }

  /** The name for a container of this stack, once it is free. */
  containerName(name: string): pulumi.Output<string> {
    return this.cleared.apply(() => name);
  }

  private async clear(dockerHost: string | undefined, stack: string): Promise<void> {
    // The engine's client takes a tenth of a second to load: not in a preview.
    const { removeLeftovers } = require("../provider/leftovers") as typeof Leftovers;
    const removed = await removeLeftovers(dockerHost, stack, containersInState);
    if (removed.length === 0) return;
    await pulumi.log.warn(
      `Removed ${removed.join(", ")}: made by this stack, but not in its state, as after a run that was cut off. Volumes stay.`,
      this,
    );
  }
}

/** Ids of the stack's containers as Pulumi knows them in the middle of an `up`. Nothing here is decrypted. */
export async function containersInState(): Promise<Set<string>> {
  const resources: { type: string; id?: string }[] =
    JSON.parse(await exportedState()).deployment.resources ?? [];
  return new Set(
    resources.flatMap(({ type, id }) => (type === "docker:index/container:Container" && id ? [id] : [])),
  );
}

/**
 * The engine writes the state meanwhile. In a folder without `metadata=skip` Pulumi does so partly in place
 * (gocloud.dev, fileblob/attrs.go), and who reads at that moment gets "EOF": so it is read again.
 */
async function exportedState(tries = 5): Promise<string> {
  const stack = `${pulumi.getOrganization()}/${pulumi.getProject()}/${pulumi.getStack()}`;
  try {
    const { stdout } = await promisify(execFile)("pulumi", ["stack", "export", "--stack", stack], {
      maxBuffer: 1 << 30,
    });
    return stdout;
  } catch (error) {
    if (tries === 1) throw error;
    await delay(200);
    return exportedState(tries - 1);
  }
}
