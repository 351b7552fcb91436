import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

const filesOf = (...names: string[]) => names.map((name) => `test/e2e/${name}.test.ts`);

/**
 * At the end, two at a time: servers attack, and their neighbours must not notice, which two files more would make hard. It
 * mostly waits, so light files run beside it, one after another.
 */
const besideAttacks = filesOf(
  ...["hostile", "import", "init", "configuration", "remote-host", "upgrade", "tenants-file"],
);

/** On a cluster of its own, which takes a quarter of an hour to build once: it runs when its file is named. */
const onCluster = filesOf(
  ...["kubernetes", "kubernetes-backups", "kubernetes-commands", "kubernetes-faults"],
);
const unnamed = onCluster.filter((file) => !process.argv.some((argument) => argument.endsWith(file)));

/** Those that take longest go first: left to the end, one of them would run beside nothing. The rest goes by size. */
const slowest = [
  ...["offsite", "backup-container", "docs", "interrupted", "limited-up", "monitoring", "backup-faults"],
  ...["edits", "commands", "live-changes", "operator", "backups", "restore", "drift", "roles", "stop-start"],
  ...["neighbours", "reboot", "logins", "hostile"],
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

/** Of no claim: a machine may be slow, and busy. */
const limits = { testTimeout: 900_000, hookTimeout: 900_000, expect: { poll: { timeout: 60_000 } } };

/** Real Pulumi engine, Docker, PostgreSQL, Traefik and clients. */
export default defineConfig({
  test: {
    sequence: { sequencer: SlowestFirst },
    projects: [
      {
        test: {
          name: "three at a time",
          include: ["test/e2e/**/*.test.ts"],
          exclude: [...besideAttacks, ...unnamed],
          // More than there may be processors: half of the time, a file waits for its servers.
          maxWorkers: 3,
          sequence: { groupOrder: 0 },
          ...limits,
        },
      },
      {
        test: {
          name: "two at a time",
          include: besideAttacks,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          ...limits,
        },
      },
    ],
  },
});
