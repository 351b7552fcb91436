import { defineConfig } from "vitest/config";

/** Real Pulumi engine, Docker, PostgreSQL, Traefik and clients: one file after another, on a small machine. */
export default defineConfig({
  test: {
    include: ["test/e2e/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
