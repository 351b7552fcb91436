import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FailuresLast } from "../../../provider/failures";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const after = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** When each was told, in milliseconds. */
function watched(failures: FailuresLast) {
  const begun = Date.now();
  const told: Record<string, number> = {};
  const note = (name: string) => () => {
    told[name] = Date.now() - begun;
  };
  return {
    told,
    fails: (name: string, milliseconds: number) =>
      failures
        .change(async () => {
          await after(milliseconds);
          throw new Error(name);
        })
        .catch(note(name)),
    changes: (name: string, milliseconds: number) =>
      failures.change(() => after(milliseconds)).then(note(name)),
    plans: (name: string, milliseconds: number) => failures.plan(() => after(milliseconds)).then(note(name)),
  };
}

test("a failure is told when nothing was under way for a while, with all others", async () => {
  const { told, fails, changes, plans } = watched(new FailuresLast(1000));
  const all = [fails("acme", 10), changes("globex", 5000), fails("initech", 6000)];
  await vi.advanceTimersByTimeAsync(6900);
  all.push(plans("umbrella", 500));
  await vi.runAllTimersAsync();
  await Promise.all(all);
  expect(told).toEqual({ globex: 5000, umbrella: 7400, acme: 8400, initech: 8400 });
});

test("a failure alone costs the pause, and one after it another", async () => {
  const { told, fails } = watched(new FailuresLast(1000));
  const first = fails("acme", 10);
  await vi.runAllTimersAsync();
  const second = fails("globex", 10);
  await vi.runAllTimersAsync();
  await Promise.all([first, second]);
  expect(told).toEqual({ acme: 1010, globex: 2020 });
});

test("what a plan says is told at once, a failure too", async () => {
  const failures = new FailuresLast(1000);
  await expect(failures.plan(() => Promise.reject(new Error("no engine")))).rejects.toThrow("no engine");
  expect(vi.getTimerCount()).toBe(0);
});
