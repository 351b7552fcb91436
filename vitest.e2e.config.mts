import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** After the others, one by one: files that hold answers to a limit of seconds. */
const alone = ["hostile", "logins"].map((name) => `test/e2e/${name}.test.ts`);

/** On a cluster of its own, which takes a quarter of an hour to build once: it runs when its file is named. */
const onCluster = ["kubernetes", "kubernetes-backups", "kubernetes-faults"].map((name) => `test/e2e/${name}.test.ts`);
const unnamed = onCluster.filter((file) => !process.argv.some((argument) => argument.endsWith(file)));

/** Those that take longest go first: left to the end, one of them would run beside nothing. The rest goes by size. */
const slowest = [
  ...["offsite", "backup-container", "docs", "interrupted", "limited-up", "monitoring", "backup-faults"],
  ...["edits", "commands", "live-changes", "operator", "backups", "restore", "drift", "roles", "stop-start"],
  ...["neighbours", "reboot"],
];

class SlowestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const found = slowest.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
      return found < 0 ? slowest.length : found;
    };
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b));
  }
}

const limits = { testTimeout: 300_000, hookTimeout: 300_000 };

/** Real Pulumi engine, Docker, PostgreSQL, Traefik and clients. */
export default defineConfig({
  test: {
    sequence: { sequencer: SlowestFirst },
    projects: [
      {
        test: {
          name: "three at a time",
          include: ["test/e2e/**/*.test.ts"],
          exclude: [...alone, ...unnamed],
          // More than there may be processors: half of the time, a file waits for its servers.
          maxWorkers: 3,
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
