import { useEffect, useState } from "preact/hooks";
import type { Answer } from "../api";

/** What is said under a path, and whether the command still answers. */
export interface Polled<T> extends Answer<T> {
  lost: boolean;
}

const nothing = { value: null, at: null, problem: null, lost: false };

/**
 * Asks again and again while the page is shown.
 * @param seconds between an answer and the next question; until there is a value, and while `hurried`, it is half a second
 */
export function usePolled<T>(
  path: string,
  seconds: number,
  hurried: (value: T) => boolean = () => false,
): Polled<T> {
  const [polled, setPolled] = useState<{ path: string; answer: Polled<T> }>({ path, answer: nothing });
  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let last: Polled<T> = nothing;
    const ask = async () => {
      timer = undefined;
      try {
        const response = await fetch(`/api/${path}`, { signal: stop.signal });
        // Without the cookie: another run of the command has the port.
        if (response.status === 403) throw new Error("another run");
        last = { ...((await response.json()) as Answer<T>), lost: false };
      } catch {
        if (stop.signal.aborted) return;
        last = { ...last, lost: true };
      }
      setPolled({ path, answer: last });
      plan();
    };
    const plan = () => {
      const isQuick = !last.lost && (last.value === null ? !last.problem : hurried(last.value));
      if (!document.hidden && !stop.signal.aborted) timer = setTimeout(ask, isQuick ? 500 : seconds * 1000);
    };
    const shown = () => {
      if (!document.hidden && timer === undefined) void ask();
    };
    document.addEventListener("visibilitychange", shown);
    void ask();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, [path, seconds]);
  // Of another path than before, nothing is known yet.
  return polled.path === path ? polled.answer : nothing;
}
