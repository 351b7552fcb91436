import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

/** Tests without an engine, a Docker host or a network. */
export default defineConfig({
  test: {
    include: ["test/unit/**/*.test.ts"],
    testTimeout: 60_000,
    // Vitest itself would leave one processor to its own process, which hardly uses it.
    maxWorkers: availableParallelism(),
  },
});
