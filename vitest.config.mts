import { defineConfig } from "vitest/config";

/** Tests without an engine, a Docker host or a network. */
export default defineConfig({
  test: { include: ["test/unit/**/*.test.ts"], testTimeout: 30_000 },
});
