import type Docker from "dockerode";
import { z } from "zod";
import { dockerClient } from "../../docker/client";
import { exec, printable } from "../../docker/exec";
import { roleLabel } from "../../docker/labels";
import { containersOf } from "./containers";
import { CommandError } from "./pulumi";
import type { StackConfig, StackOutputs } from "./stack";

/** One series with its value now. */
export interface Sample {
  labels: Record<string, string>;
  value: number;
}

/** One series over some hours: pairs of seconds since 1970 and value, the oldest first. */
export interface Series {
  labels: Record<string, string>;
  points: [number, number][];
}

const labels = z.record(z.string(), z.string());
const point = z.tuple([z.number(), z.string().transform(numberOf)]);
const samples = z.array(z.object({ metric: labels, value: point }));
const ranges = z.array(z.object({ metric: labels, values: z.array(point) }));

/** Prometheus as the commands ask it: by promtool in its own container, so that the engine may be remote. */
export class Metrics {
  private constructor(readonly container: Docker.Container) {}

  /** @returns undefined where the stack has no Prometheus, or it does not run */
  static async of(
    config: Pick<StackConfig, "dockerHost">,
    outputs: Pick<StackOutputs, "stack">,
  ): Promise<Metrics | undefined> {
    const all = [...(await containersOf(config, outputs)).values()];
    const found = all.find(({ Labels, State }) => Labels[roleLabel] === "prometheus" && State === "running");
    return found && new Metrics(dockerClient(config.dockerHost).getContainer(found.Id));
  }

  /** @param expression in PromQL, of an instant vector @throws CommandError */
  async query(expression: string): Promise<Sample[]> {
    const found = await this.ask(samples, ["instant"], expression);
    return found.map(({ metric, value: [, value] }) => ({ labels: metric, value }));
  }

  /** @param points at most, for each series; Prometheus has one value in 15 or 60 seconds @throws CommandError */
  async queryRange(expression: string, hours: number, points = 240): Promise<Series[]> {
    const end = Math.floor(Date.now() / 1000);
    const step = Math.max(15, Math.ceil((hours * 3600) / points));
    const range = ["range", `--start=${end - hours * 3600}`, `--end=${end}`, `--step=${step}s`];
    const found = await this.ask(ranges, range, expression);
    return found.map(({ metric, values }) => ({ labels: metric, points: values }));
  }

  private async ask<T>(schema: z.ZodType<T>, how: string[], expression: string): Promise<T> {
    const command = ["promtool", "query", "--format=json", ...how, "http://127.0.0.1:9090", expression];
    const { code, stdout, stderr } = await exec(this.container, command, {
      seconds: 20,
      outputLimit: 32 << 20,
    }).catch((error: Error) => {
      throw new CommandError(`Prometheus does not answer: ${error.message}`);
    });
    if (code !== 0) throw new CommandError(`Prometheus: ${printable(stderr, 500)}`);
    const parsed = schema.safeParse(parsedJson(stdout));
    if (!parsed.success) throw new CommandError("Prometheus gave an answer of another form");
    return parsed.data;
  }
}

/** As Prometheus writes them: `+Inf`, `-Inf` and `NaN` too. */
function numberOf(text: string): number {
  return text.endsWith("Inf") ? (text.startsWith("-") ? -Infinity : Infinity) : Number(text);
}

/** Promtool prints nothing, or null, where no series is found. */
function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text) ?? [];
  } catch {
    return text.trim() === "" ? [] : undefined;
  }
}
