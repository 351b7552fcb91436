import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Session } from "../../lib/top";
import { bytes, duration, milliseconds, percentage } from "../../lib/units";
import type { Charts, SeriesName, TenantBackupsDetails, TenantDetails, Top } from "../api";
import { Chart, type ChartData, steps } from "./chart";
import { Choices, Command, Copy, Icon, Scrolling, Section, Stale, State, Tile, Waiting } from "./parts";
import { usePolled } from "./poll";
import { snippets } from "./snippets";
import { concerns, moment } from "./text";

export function TenantPage({ id }: { id: string }) {
  const polled = usePolled<TenantDetails>(
    `tenants/${id}`,
    3,
    ({ row }) => row.state === "running" && row.memory.used === null,
  );
  const details = polled.value;
  return (
    <>
      <p class="trail">
        <a href="#/">Tenants</a> <span aria-hidden="true">/</span>
      </p>
      <h1 tabIndex={-1}>
        {id} {details && <State row={details.row} />}
      </h1>
      <Stale polled={polled} />
      {details ? <Details details={details} /> : <Waiting polled={polled} what={id} />}
    </>
  );
}

function Details({ details }: { details: TenantDetails }) {
  const { id, summary, row } = details;
  const isUp = !["stopped", "missing", "restoring", "exited", "dead", "created"].includes(row.state);
  const facts = [
    `PostgreSQL ${summary.version}${summary.image ? ` (${summary.image})` : ""}`,
    `${summary.host}:${summary.port}`,
    ...(row.pooler === null ? [] : [`pooler ${row.pooler}`]),
    row.access ? "access on" : "access off",
    `TLS ${summary.tls === "passthrough" ? "passed through to the server" : "ends at the proxy"}`,
    ...(row.uptime === null ? [] : [`up for ${duration(row.uptime)}`]),
    ...(summary.extensions?.length ? [`extensions: ${summary.extensions.join(", ")}`] : []),
  ];
  return (
    <>
      <ul class="facts">
        {facts.map((fact) => (
          <li key={fact}>{fact}</li>
        ))}
      </ul>
      {concerns(row).map(({ tone, text, command }) => (
        <div class="concern" key={text}>
          <p>
            <Icon tone={tone} /> {text}
          </p>
          <Command text={command} />
        </div>
      ))}
      <dl class="tiles">
        <Tile
          name="CPU"
          value={row.cpu.used === null ? "–" : row.cpu.used.toFixed(2)}
          detail={`of ${row.cpu.limit}`}
          part={(row.cpu.used ?? 0) / row.cpu.limit}
        />
        <Tile
          name="Memory"
          value={row.memory.used === null ? "–" : bytes(row.memory.used)}
          detail={`of ${bytes(row.memory.limit)}`}
          part={(row.memory.used ?? 0) / row.memory.limit}
        />
        <Tile
          name="Connections"
          value={String(row.connections ?? "–")}
          detail={row.maxConnections === null ? "" : `of ${row.maxConnections}`}
          part={row.maxConnections ? (row.connections ?? 0) / row.maxConnections : 0}
        />
        <Tile
          name="Data"
          value={row.size === null ? "–" : bytes(row.size - (row.wal ?? 0))}
          detail={[
            ...(row.wal === null ? [] : [`and ${bytes(row.wal)} of WAL`]),
            ...(row.disk.limit === null ? [] : [`of ${bytes(row.disk.limit)}`]),
          ].join(", ")}
          part={row.disk.limit === null ? null : (row.disk.used ?? 0) / row.disk.limit}
        />
        <Tile
          name="Would be lost now"
          value={
            row.backup == null || row.backup.exposed === null
              ? "–"
              : row.backup.exposed === 0
                ? "nothing"
                : duration(row.backup.exposed)
          }
          detail={row.backup === null ? "no backups known" : (row.backup.pending ?? "")}
        />
      </dl>
      <ChartsSection id={id} details={details} />
      {isUp && <Activity id={id} />}
      <Backups id={id} plan={summary.backup} />
      <Connect details={details} />
      <Operate details={details} isUp={isUp} />
      {isUp && <Log id={id} />}
    </>
  );
}

const hoursOffered = [1, 6, 24];

function ChartsSection({ id, details: { row } }: { id: string; details: TenantDetails }) {
  const [hours, setHours] = useState(1);
  const polled = usePolled<Charts>(`tenants/${id}/charts?hours=${hours}`, 5);
  const charts = polled.value;
  const count = (value: number | null) => (value === null ? "–" : String(Math.round(value)));
  const cpus = (value: number | null) => (value === null ? "–" : value.toFixed(2));
  const size = (value: number | null) => (value === null ? "–" : bytes(value));
  const shown: [SeriesName, Omit<ChartData, "times" | "values" | "span">][] = [
    ["cpu", { title: "CPU", unit: cpus, limit: row.cpu.limit, steps: steps.parts, least: 0.05 }],
    ["memory", { title: "Memory", unit: size, limit: row.memory.limit, steps: steps.bytes, least: 2 ** 20 }],
    [
      "connections",
      { title: "Connections", unit: count, limit: row.maxConnections, steps: steps.whole, least: 4 },
    ],
    ["size", { title: "Data and WAL", unit: size, limit: null, steps: steps.bytes, least: 2 ** 20 }],
  ];
  const seen = charts ? (charts.times.at(-1) ?? 0) - (charts.times[0] ?? 0) : 0;
  // In steps, so that the axis does not move with each value.
  const span = charts?.source === "monitoring" ? hours * 3600 : seen < 600 ? 600 : 3600;
  const choice = charts?.source === "monitoring" && (
    <Choices
      label="Time shown"
      all={hoursOffered}
      chosen={hours}
      choose={setHours}
      name={(one) => `${one} h`}
    />
  );
  return (
    <Section title="History" aside={choice}>
      {charts ? (
        <>
          <div class="charts">
            {shown.map(([name, chart]) => (
              <Chart key={name} {...chart} span={span} times={charts.times} values={charts.series[name]} />
            ))}
          </div>
          {charts.source === "dashboard" && (
            <p class="faint">
              Since this dashboard began to watch. Monitoring keeps days of it:{" "}
              <code>pulumi config set --path pgs:monitoring.enabled true</code>, then <code>./pgs up</code>.
            </p>
          )}
        </>
      ) : (
        <Waiting polled={polled} what="its history" />
      )}
    </Section>
  );
}

/** A statement is the tenant's text, of any length: one line of it, the whole on request. */
function Statement({ query }: { query: string }) {
  const line = query.replace(/\s+/g, " ").trim();
  if (line.length <= 120) return <code>{line || "–"}</code>;
  return (
    <details class="statement">
      <summary>
        <code>{line.slice(0, 120)}…</code>
      </summary>
      <pre>{query}</pre>
    </details>
  );
}

function sessionState({ state, blockedBy, wait }: Session): string {
  if (blockedBy.length > 0) return `waits for ${blockedBy.slice(0, 3).join(", ")}`;
  return [state ?? "–", wait && state === "active" ? `(${wait})` : ""].filter(Boolean).join(" ");
}

function Activity({ id }: { id: string }) {
  const polled = usePolled<Top>(`tenants/${id}/top`, 3);
  const top = polled.value;
  if (!top)
    return (
      <Section title="Sessions">
        <Waiting polled={polled} what="its sessions and statements" />
      </Section>
    );
  return (
    <>
      <Section
        title="Sessions"
        aside={<span class="faint">those that work, wait or idle in a transaction</span>}
      >
        <Stale polled={polled} />
        {top.sessions.length === 0 ? (
          <p class="faint">No session is active, waits, or is idle in a transaction.</p>
        ) : (
          <Scrolling label="Sessions">
            <table>
              <thead>
                <tr>
                  <th scope="col" class="right">
                    PID
                  </th>
                  <th scope="col" class="rank1">
                    Role
                  </th>
                  <th scope="col">State</th>
                  <th scope="col" class="right">
                    For
                  </th>
                  <th scope="col" class="right rank1">
                    Transaction
                  </th>
                  <th scope="col">Statement</th>
                  <th scope="col">End it</th>
                </tr>
              </thead>
              <tbody>
                {top.sessions.map((session) => {
                  const command = `./pgs top ${id} ${session.state === "active" ? "--cancel" : "--terminate"} ${session.pid}`;
                  return (
                    <tr key={session.pid}>
                      <td class="right">{session.pid}</td>
                      <td class="rank1 narrow">
                        {session.role ?? "–"} <span class="faint">{session.application}</span>
                      </td>
                      <td>
                        <span class="state">
                          <Icon
                            tone={
                              session.blockedBy.length > 0 || session.state?.startsWith("idle in")
                                ? "warning"
                                : "good"
                            }
                          />
                          {sessionState(session)}
                        </span>
                      </td>
                      <td class="right">{duration(session.seconds)}</td>
                      <td class="right rank1">{duration(session.transactionSeconds)}</td>
                      <td class="wide">
                        <Statement query={session.query} />
                      </td>
                      <td>
                        <Copy text={command} />
                      </td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </Scrolling>
        )}
      </Section>
      <Section
        title="Top statements"
        aside={<span class="faint">by total time since the statistics began</span>}
      >
        {top.statements === null ? (
          <Command text={`./pgs set ${id} extensions '[pg_stat_statements]'`}>
            Statements are not counted: the database has no pg_stat_statements. This adds it:
          </Command>
        ) : top.statements.length === 0 ? (
          <p class="faint">No statement was counted yet.</p>
        ) : (
          <Scrolling label="Top statements">
            <table>
              <thead>
                <tr>
                  <th scope="col" class="right">
                    Total
                  </th>
                  <th scope="col" class="right rank1">
                    Calls
                  </th>
                  <th scope="col" class="right">
                    Mean
                  </th>
                  <th scope="col" class="right rank1">
                    Rows
                  </th>
                  <th scope="col" class="right rank1">
                    Cache hits
                  </th>
                  <th scope="col" class="rank1">
                    Role
                  </th>
                  <th scope="col">Statement</th>
                </tr>
              </thead>
              <tbody>
                {top.statements.map((one, index) => (
                  <tr key={index}>
                    <td class="right">{milliseconds(one.totalMilliseconds)}</td>
                    <td class="right rank1">{one.calls}</td>
                    <td class="right">{milliseconds(one.meanMilliseconds)}</td>
                    <td class="right rank1">{one.rows}</td>
                    <td class="right rank1">{percentage(one.blocksHit, one.blocksHit + one.blocksRead)}</td>
                    <td class="rank1 narrow">{one.role ?? "–"}</td>
                    <td class="wide">
                      <Statement query={one.query} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Scrolling>
        )}
      </Section>
    </>
  );
}

function Backups({ id, plan }: { id: string; plan: TenantDetails["summary"]["backup"] }) {
  const polled = usePolled<TenantBackupsDetails>(`tenants/${id}/backups`, 10);
  const [at, setAt] = useState<string | null>(null);
  const found = polled.value;
  const aside = plan && plan.schedule !== "off" && (
    <span class="faint">
      base backup daily at {plan.schedule} UTC, kept for {plan.retention}
    </span>
  );
  if (!found)
    return (
      <Section title="Backups" aside={aside}>
        <Waiting polled={polled} what="its backups" />
      </Section>
    );
  const { judged, bases } = found;
  const first = bases[0];
  if (!first)
    return (
      <Section title="Backups" aside={aside}>
        {plan?.schedule === "off" ? (
          <Command text={`./pgs set ${id} backup.schedule 02:30`}>
            Backups are off for this tenant, or for the stack (<code>pgs:backups.schedule</code>). This turns
            them on for the tenant:
          </Command>
        ) : (
          <p class="faint">There is no base backup yet. The first is made soon after the first up.</p>
        )}
      </Section>
    );
  const until = Date.now() - 1000 * (judged?.exposed ?? 0);
  const chosen = at ?? new Date(Math.max(first.complete, until - 3_600_000)).toISOString().slice(0, 19);
  const time = `${chosen.length === 16 ? `${chosen}:00` : chosen}Z`;
  const inRange = Date.parse(time) >= first.complete && Date.parse(time) <= Date.now();
  return (
    <Section title="Backups" aside={aside}>
      <Stale polled={polled} />
      {judged?.problem && (
        <p class="notice">
          <Icon tone="bad" /> {judged.problem}
        </p>
      )}
      <p>
        Any second from <strong>{moment(first.complete)}</strong> to <strong>{moment(until)}</strong> UTC can
        be restored
        {judged?.tried?.ok &&
          ` (last tried ${moment(judged.tried.at * 1000)}, in ${duration(Math.ceil(judged.tried.seconds))})`}
        .
      </p>
      <p>
        <label for="restore-at">Time to restore (UTC)</label>
        <input
          id="restore-at"
          type="datetime-local"
          step="1"
          min={new Date(first.complete).toISOString().slice(0, 19)}
          max={new Date().toISOString().slice(0, 19)}
          value={chosen}
          onInput={(event) => setAt(event.currentTarget.value)}
          aria-describedby="restore-range"
        />
        <span id="restore-range" class="notice-inline">
          {!inRange && "That is outside of what can be restored."}
        </span>
      </p>
      {inRange && (
        <div class="commands long">
          <Command text={`./pgs restore ${id} --at ${time} --as ${id}-copy`}>
            As a new tenant; this one goes on:
          </Command>
          <Command text={`./pgs restore ${id} --at ${time}`}>
            In place; the data of now is kept in a volume:
          </Command>
        </div>
      )}
      <details>
        <summary>
          {bases.length} base backup{bases.length === 1 ? "" : "s"}
          {judged && `, ${bytes(judged.size)} with WAL`}
        </summary>
        <ul class="plain">
          {bases.toReversed().map((base) => (
            <li key={base.id}>
              {moment(base.complete)} UTC{" "}
              <span class="faint">
                {base.id}, PostgreSQL {base.version}
              </span>
            </li>
          ))}
        </ul>
      </details>
    </Section>
  );
}

function Connect({ details: { id, connection, ownCa, summary } }: { details: TenantDetails }) {
  const [name, setName] = useState("psql");
  const all = snippets(id, connection, ownCa);
  const chosen = all.find((one) => one.name === name);
  return (
    <Section
      title="Connect"
      aside={<Choices label="Client" all={all.map((one) => one.name)} chosen={name} choose={setName} />}
    >
      {!summary.access && (
        <Command text={`./pgs enable-access ${id}`}>
          Clients cannot come in: access is off. This opens the route:
        </Command>
      )}
      {chosen && <Command text={chosen.code}>{chosen.note}</Command>}
      <div class="commands">
        <Command text={`./pgs password ${id}`}>The password, which this page does not show:</Command>
        {ownCa && (
          <Command text='eval "$(./pgs env)"; pulumi stack output caCertificate > ca.pem'>
            The CA that clients verify by, once:
          </Command>
        )}
      </div>
    </Section>
  );
}

function Operate({ details: { id, summary, row }, isUp }: { details: TenantDetails; isUp: boolean }) {
  const commands: [string, string][] = isUp
    ? [
        ["A psql session", `./pgs connect ${id}`],
        ["The database as a file", `./pgs dump ${id} > ${id}.dump`],
        ["Its log, as it is written", `./pgs logs ${id} -f`],
        ["Twice the memory, live", `./pgs set ${id} memory ${bytes(row.memory.limit * 2)}`],
        summary.access
          ? ["Close its route, and end its sessions", `./pgs disable-access ${id}`]
          : ["Open its route", `./pgs enable-access ${id}`],
        ["A new password", `./pgs rotate-password ${id}`],
        ["Stop it; its data stays", `./pgs stop ${id}`],
      ]
    : [["Start it", row.state === "stopped" ? `./pgs start ${id}` : "./pgs up"]];
  return (
    <Section
      title="Operate"
      aside={<span class="faint">those that change something edit tenants.yaml, and ask</span>}
    >
      <div class="commands">
        {commands.map(([what, text]) => (
          <Command key={text} text={text}>
            {what}:
          </Command>
        ))}
      </div>
    </Section>
  );
}

function Log({ id }: { id: string }) {
  const polled = usePolled<string[]>(`tenants/${id}/log`, 3);
  const text = polled.value?.join("\n");
  const place = useRef<HTMLPreElement>(null);
  const atEnd = useRef(true);
  useLayoutEffect(() => {
    const scroller = place.current?.parentElement;
    if (!scroller) return;
    // It follows what is written, unless somebody reads further up.
    if (atEnd.current) scroller.scrollTop = scroller.scrollHeight;
    const scrolled = () => {
      atEnd.current = scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - 30;
    };
    scroller.addEventListener("scroll", scrolled);
    return () => scroller.removeEventListener("scroll", scrolled);
  }, [text]);
  return (
    <Section title="Log" aside={<span class="faint">its last lines</span>}>
      <Stale polled={polled} />
      {text !== undefined ? (
        <Scrolling label="Last lines of the log">
          <pre class="log" ref={place}>
            {text}
          </pre>
        </Scrolling>
      ) : (
        <Waiting polled={polled} what="its log" />
      )}
    </Section>
  );
}
