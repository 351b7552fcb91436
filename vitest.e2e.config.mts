import { defineConfig } from "vitest/config";

/**
 * After the others, one by one: files that run an engine of their own, hold answers to a limit of seconds, or count
 * what clients feel.
 */
const alone = ["hostile", "logins", "neighbours", "reboot"].map((name) => `test/e2e/${name}.test.ts`);

const limits = { testTimeout: 300_000, hookTimeout: 300_000 };

/** Real Pulumi engine, Docker, PostgreSQL, Traefik and clients. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "two at a time",
          include: ["test/e2e/**/*.test.ts"],
          exclude: alone,
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
