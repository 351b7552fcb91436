import { readFileSync } from "node:fs";
import type { Checkout } from "../../test/e2e/support/checkout";
import { runPrefix } from "../../test/e2e/support/checkout";
import { succeed } from "../../test/e2e/support/command";
import { dockerRun, ids, median } from "../support";
import type { Row } from "./row";

/** Proportional set size of an idle tenant, all processes of its container; PostgreSQL alone has its defaults. */
export async function idleMemory(checkout: Checkout): Promise<Row[]> {
  const name = `${runPrefix}-plain-idle`;
  await dockerRun(name);
  const alone = await pss(name);
  const tenants: number[] = [];
  for (const id of ids(10)) tenants.push(await pss(checkout.name(id)));
  const ratio = median(tenants) / alone;
  await succeed("docker", ["rm", "--force", "--volumes", name]);
  return [
    {
      figure: "memory of an idle tenant (PSS of its container's processes, median of 10)",
      measured: `${median(tenants).toFixed(1)} MiB`,
      against: `PostgreSQL alone with its defaults: ${alone.toFixed(1)} MiB`,
      ratio,
      aim: "≤ 1.2",
      met: ratio <= 1.2,
    },
  ];
}

/** Of the processes of a container whose command line has these words, in MiB. */
export async function pss(container: string, words = /./): Promise<number> {
  const kib = (await pidsOf(container, words)).map((pid) => {
    const [, size] = /^Pss: +(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8")) ?? [];
    return Number(size);
  });
  return kib.reduce((sum, one) => sum + one, 0) / 1024;
}

/** Processor time that they have taken since they began, in seconds. */
export async function processorSeconds(container: string, words: RegExp): Promise<number> {
  const ticks = (await pidsOf(container, words)).map((pid) => {
    // Fields 14 and 15 of proc(5), in hundredths of a second; the second, in brackets, may have spaces.
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ") ?? [];
    return Number(fields[11]) + Number(fields[12]);
  });
  return ticks.reduce((sum, one) => sum + one, 0) / 100;
}

/** Host's ids of the processes of a container whose command line has these words. */
async function pidsOf(container: string, words: RegExp): Promise<number[]> {
  const processes = await succeed("docker", ["top", container, "-o", "pid,args"]);
  return processes
    .split("\n")
    .slice(1)
    .filter((line) => words.test(line))
    .map((line) => Number.parseInt(line, 10))
    .filter(Number.isInteger);
}
