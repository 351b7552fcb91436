import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { askedOnce, clearCache } from "../../../docker/cache";

describe("a question to the engine", () => {
  let asked = 0;
  const ask = () => askedOnce("networks", async () => ++asked);

  beforeEach(() => {
    vi.useFakeTimers();
    asked = 0;
  });
  afterEach(() => {
    clearCache();
    vi.useRealTimers();
  });

  it("is asked once for all that want to know it at the same time", async () => {
    expect(await Promise.all([ask(), ask(), ask()])).toEqual([1, 1, 1]);
    vi.advanceTimersByTime(2900);
    expect(await ask()).toBe(1);
  });

  it("is asked again after three seconds, and after a change", async () => {
    await ask();
    vi.advanceTimersByTime(3000);
    expect(await ask()).toBe(2);
    clearCache();
    expect(await ask()).toBe(3);
  });

  it("that failed is asked again after a change", async () => {
    const fail = () => askedOnce("files", () => Promise.reject(new Error("no engine")));
    await expect(fail()).rejects.toThrow("no engine");
    clearCache();
    expect(await askedOnce("files", async () => "there")).toBe("there");
  });
});
