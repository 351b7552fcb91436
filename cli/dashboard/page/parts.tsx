import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { FleetRow } from "../api";
import type { Polled } from "./poll";
import { clock, type Tone, toneOf } from "./text";

const shapes: Record<Tone, string> = {
  good: "M3.5 8.5l3 3 6-7",
  quiet: "M4 8h8",
  busy: "M8 4v4l2.5 2.5",
  warning: "M8 3.5v5.5M8 12v.5",
  bad: "M4.5 4.5l7 7M11.5 4.5l-7 7",
};

/** Means nothing without the word beside it. */
export function Icon({ tone }: { tone: Tone }) {
  return (
    <svg class={`icon ${tone}`} viewBox="0 0 16 16" aria-hidden="true">
      {tone === "busy" && <circle cx="8" cy="8" r="6" />}
      <path d={shapes[tone]} />
    </svg>
  );
}

/** What a server that runs is besides that, where it is something. */
export function State({
  row: { state, disk, restartPending },
}: {
  row: Pick<FleetRow, "state"> & Partial<FleetRow>;
}) {
  const more = disk?.readOnly ? "read-only" : restartPending ? "restart pending" : undefined;
  const shown = (state === "running" && more) || state;
  return (
    <span class="state">
      <Icon tone={shown === more ? "warning" : toneOf(state)} />
      {shown}
    </span>
  );
}

/** A figure of its limit. */
export function Meter({ part, children }: { part: number; children?: ComponentChildren }) {
  const share = Math.min(1, Math.max(0, part));
  return (
    <span class="meter">
      {children && <span class="figure">{children}</span>}
      <span class="bar" aria-hidden="true">
        <span class={share > 0.9 ? "full" : share > 0.8 ? "high" : ""} style={{ width: `${share * 100}%` }} />
      </span>
    </span>
  );
}

export function Sparkline({ values, most }: { values: number[]; most: number }) {
  if (values.length < 2) return <svg class="spark" viewBox="0 0 80 20" aria-hidden="true" />;
  const top = Math.max(most, ...values, 1e-9);
  const points = values.map(
    (value, index) =>
      `${((80 * index) / (values.length - 1)).toFixed(1)},${(19 - (18 * value) / top).toFixed(1)}`,
  );
  return (
    <svg class="spark" viewBox="0 0 80 20" preserveAspectRatio="none" aria-hidden="true">
      <path class="under" d={`M0,20L${points.join("L")}L80,20Z`} />
      <path d={`M${points.join("L")}`} />
    </svg>
  );
}

export function Copy({ text, what }: { text: string; what?: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <button type="button" class="copy" onClick={copy} title={text} aria-label={`Copy ${what ?? text}`}>
      <span aria-live="polite">{copied ? "Copied" : "Copy"}</span>
    </button>
  );
}

/** One of some, all of them in sight. */
export function Choices<T extends string | number>({
  label,
  all,
  chosen,
  choose,
  name = String,
}: {
  label: string;
  all: readonly T[];
  chosen: T;
  choose: (one: T) => void;
  name?: (one: T) => ComponentChildren;
}) {
  return (
    <fieldset class="choices">
      <legend class="unseen">{label}</legend>
      {all.map((one) => (
        <button key={one} type="button" aria-pressed={one === chosen} onClick={() => choose(one)}>
          {name(one)}
        </button>
      ))}
    </fieldset>
  );
}

/** A command, or an edit, for the operator to run. */
export function Command({ text, children }: { text: string; children?: ComponentChildren }) {
  return (
    <div class="command">
      {children && <p>{children}</p>}
      <div class="code">
        <pre>
          <code>{text}</code>
        </pre>
        <Copy text={text} what={text.includes("\n") ? "this text" : undefined} />
      </div>
    </div>
  );
}

export function Section({
  title,
  aside,
  children,
}: {
  title: string;
  aside?: ComponentChildren;
  children: ComponentChildren;
}) {
  const id = `section-${title.toLowerCase().replace(/\W+/g, "-")}`;
  return (
    <section aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {aside && <div class="aside">{aside}</div>}
      </header>
      {children}
    </section>
  );
}

export function Tile({
  name,
  value,
  detail,
  part,
}: {
  name: string;
  value: string;
  detail?: string;
  part?: number | null;
}) {
  return (
    <div class="tile">
      <dt>{name}</dt>
      <dd>
        <strong>{value}</strong> {detail && <span class="faint">{detail}</span>}
        {part != null && <Meter part={part} />}
      </dd>
    </div>
  );
}

/** A table that scrolls within itself where the page is narrow. */
export function Scrolling({ label, children }: { label: string; children: ComponentChildren }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, and by the keyboard too
    <section class="scrolling" aria-label={label} tabIndex={0}>
      {children}
    </section>
  );
}

/** What is shown before there is anything, or where there is a problem. */
export function Waiting({ polled, what }: { polled: Polled<unknown>; what: string }) {
  if (polled.problem)
    return (
      <p class="notice">
        <Icon tone="warning" /> {polled.problem}
      </p>
    );
  return <p class="faint">Asking for {what} …</p>;
}

/** That what is shown is not new any more. */
export function Stale({ polled }: { polled: Polled<unknown> }) {
  if (!polled.problem || polled.value === null || polled.at === null) return null;
  return (
    <p class="notice">
      <Icon tone="warning" /> {polled.problem}. Shown is what was known at {clock(polled.at)}.
    </p>
  );
}
