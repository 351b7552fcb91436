import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { bytes, duration } from "../../lib/units";
import type { Fleet, FleetRow } from "../api";
import { Choices, Command, Icon, Meter, Sparkline, Stale, State, Waiting } from "./parts";
import { usePolled } from "./poll";
import { concerns } from "./text";

const names = { all: "All", attention: "Needs attention", running: "Running", stopped: "Stopped" };
type Filter = keyof typeof names;
const filters = Object.keys(names) as Filter[];

interface Column {
  title: string;
  /** Hidden on narrower pages: 2 goes before 1. */
  rank?: 1 | 2 | 3;
  right?: boolean;
  by: (row: FleetRow) => string | number;
  cell: (row: FleetRow) => preact.ComponentChild;
}

const columns: Column[] = [
  {
    title: "State",
    by: (row) => `${concerns(row).length > 0 ? 0 : 1}${row.state}`,
    cell: (row) => <State row={row} />,
  },
  {
    title: "CPU",
    by: ({ cpu }) => cpu.used ?? -1,
    cell: ({ cpu, cpuHistory }) => (
      <span class="cpu">
        <Sparkline values={cpuHistory} most={cpu.limit / 4} />
        <span class="figure">
          {cpu.used === null ? "–" : cpu.used.toFixed(2)} <span class="faint">/ {cpu.limit}</span>
        </span>
      </span>
    ),
  },
  {
    title: "Memory",
    by: ({ memory }) => (memory.used ?? -1) / memory.limit,
    cell: ({ memory: { used, limit } }) =>
      used === null ? (
        <span class="faint">{bytes(limit)}</span>
      ) : (
        <Meter part={used / limit}>
          {bytes(used)} <span class="faint">/ {bytes(limit)}</span>
        </Meter>
      ),
  },
  {
    title: "Data",
    rank: 2,
    right: true,
    by: ({ size, wal }) => (size ?? -1) - (wal ?? 0),
    cell: ({ size, wal }) => (size === null ? "–" : bytes(size - (wal ?? 0))),
  },
  {
    title: "WAL",
    rank: 3,
    right: true,
    by: ({ wal }) => wal ?? -1,
    cell: ({ wal }) => (wal === null ? "–" : bytes(wal)),
  },
  {
    title: "Connections",
    rank: 1,
    right: true,
    by: ({ connections }) => connections ?? -1,
    cell: ({ connections, maxConnections }) =>
      connections === null ? (
        "–"
      ) : (
        <>
          {connections} <span class="faint">/ {maxConnections}</span>
        </>
      ),
  },
  {
    title: "Would be lost",
    rank: 1,
    by: ({ backup }) => (backup?.problem ? 1e12 : (backup?.exposed ?? -1)),
    cell: ({ backup }) => <Exposure backup={backup} />,
  },
  {
    title: "Up for",
    rank: 3,
    right: true,
    by: ({ uptime }) => uptime ?? -1,
    cell: ({ uptime }) => (uptime === null ? "–" : duration(uptime)),
  },
];

function Exposure({ backup }: Pick<FleetRow, "backup">) {
  if (!backup) return <span class="faint">–</span>;
  if (backup.problem)
    return (
      <span class="state" title={backup.problem}>
        <Icon tone="bad" /> problem
      </span>
    );
  if (backup.pending) return <span class="faint">first base backup</span>;
  if (backup.exposed === null) return <span class="faint">–</span>;
  return (
    <span class="state">
      <Icon tone="good" /> {backup.exposed === 0 ? "nothing" : duration(backup.exposed)}
    </span>
  );
}

export function FleetPage() {
  const polled = usePolled<Fleet>("fleet", 3, ({ tenants }) =>
    tenants.some(({ state, memory }) => state === "running" && memory.used === null),
  );
  const [filter, setFilter] = useState<Filter>("all");
  const [search, setSearch] = useState("");
  const [sort, setSort] = useState({ title: "Tenant", down: false });
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const slash = (event: KeyboardEvent) => {
      if (event.key !== "/" || event.target instanceof HTMLInputElement) return;
      event.preventDefault();
      input.current?.focus();
    };
    addEventListener("keydown", slash);
    return () => removeEventListener("keydown", slash);
  }, []);

  const all = polled.value?.tenants;
  const groups = useMemo(() => {
    const rows = all ?? [];
    return {
      all: rows,
      attention: rows.filter((row) => concerns(row).length > 0),
      running: rows.filter(({ state }) => state === "running"),
      stopped: rows.filter(({ state }) => state === "stopped"),
    };
  }, [all]);
  if (!all || !polled.value) return <Waiting polled={polled} what="the tenants" />;
  const by = columns.find(({ title }) => title === sort.title)?.by ?? (({ id }: FleetRow) => id);
  const shown = groups[filter]
    .filter(
      ({ id, host }) =>
        id.includes(search.trim().toLowerCase()) || host.includes(search.trim().toLowerCase()),
    )
    .sort((one, other) => compare(by(one), by(other)) * (sort.down ? -1 : 1) || compare(one.id, other.id));
  const heading = (title: string, right?: boolean, rank?: number) => (
    <th
      scope="col"
      class={`${right ? "right" : ""} ${rank ? `rank${rank}` : ""}`}
      aria-sort={sort.title === title ? (sort.down ? "descending" : "ascending") : undefined}
    >
      <button
        type="button"
        onClick={() =>
          setSort({
            title,
            down: sort.title === title ? !sort.down : title !== "Tenant" && title !== "State",
          })
        }
      >
        {title}
      </button>
    </th>
  );

  return (
    <>
      <h1 tabIndex={-1}>Tenants</h1>
      <Stale polled={polled} />
      {polled.value.running && (
        <p class="notice" role="status">
          <Icon tone="busy" /> <code>{polled.value.running}</code> is at work.
        </p>
      )}
      {all.length === 0 ? (
        <Command text="./pgs create acme">There are no tenants yet. This makes the first one:</Command>
      ) : (
        <>
          <div class="filters">
            <Choices
              label="Which tenants"
              all={filters}
              chosen={filter}
              choose={setFilter}
              name={(one) => (
                <>
                  {names[one]} <span class="count">{groups[one].length}</span>
                </>
              )}
            />
            <input
              ref={input}
              type="search"
              placeholder="Find a tenant  ( / )"
              aria-label="Find a tenant"
              value={search}
              onInput={(event) => setSearch(event.currentTarget.value)}
            />
          </div>
          <div class="panel">
            <table class="fleet">
              <thead>
                <tr>
                  {heading("Tenant")}
                  {columns.map(({ title, right, rank }) => heading(title, right, rank))}
                </tr>
              </thead>
              <tbody>
                {shown.map((row) => (
                  <tr key={row.id}>
                    <th scope="row">
                      <a href={`#/tenants/${row.id}`}>{row.id}</a>
                    </th>
                    {columns.map(({ title, right, rank, cell }) => (
                      <td key={title} class={`${right ? "right" : ""} ${rank ? `rank${rank}` : ""}`}>
                        {cell(row)}
                      </td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
            {shown.length === 0 && <p class="faint empty">No tenant is like that.</p>}
          </div>
        </>
      )}
    </>
  );
}

function compare(one: string | number, other: string | number): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
