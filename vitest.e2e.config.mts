import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/**
 * After the others, one by one: files that run an engine of their own, hold answers to a limit of seconds, or count
 * what clients feel.
 */
const alone = ["hostile", "logins", "neighbours", "reboot"].map((name) => `test/e2e/${name}.test.ts`);

/** On a cluster of its own, which takes a quarter of an hour to build once: it runs when its file is named. */
const onCluster = ["kubernetes", "kubernetes-backups"].map((name) => `test/e2e/${name}.test.ts`);
const unnamed = onCluster.filter((file) => !process.argv.some((argument) => argument.endsWith(file)));

/** Small files with slow tests go first: left to the end, one of them would run beside nothing. The rest goes by size. */
const slow = /\/(interrupted|docs)\.test\.ts$/;

class SlowFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    return [true, false].flatMap((first) => sorted.filter(({ moduleId }) => slow.test(moduleId) === first));
  }
}

const limits = { testTimeout: 300_000, hookTimeout: 300_000 };

/** Real Pulumi engine, Docker, PostgreSQL, Traefik and clients. */
export default defineConfig({
  test: {
    sequence: { sequencer: SlowFirst },
    projects: [
      {
        test: {
          name: "two at a time",
          include: ["test/e2e/**/*.test.ts"],
          exclude: [...alone, ...unnamed],
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
          ...limits,
        },
      },
      {
        test: {
          name: "alone",
          include: alone,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
          ...limits,
        },
      },
    ],
  },
});
