import { defineConfig } from "vitest/config";

/**
 * Files that stop engines and processes, count what the whole host has, or compare times: after the others, one by one.
 */
const alone = ["many-networks", "reboot", "neighbours", "interrupted"].map((name) => `test/e2e/${name}.test.ts`);

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
