import { z } from "zod";
import { printable } from "../../docker/exec";
import { monitorRole, sessionName } from "../../docker/session-options";
import { type Ask, askDatabase } from "./ask-server";
import { CommandError } from "./pulumi";
import { type Column, table } from "./tenants-table";
import { coloured } from "./terminal";
import { duration, milliseconds, percentage } from "./units";

const text = z.string().max(4000);
const count = z.number();

const sessionSchema = z.object({
  pid: z.int(),
  role: text.nullable(),
  /** As the client calls itself. */
  application: text,
  /** PostgreSQL's: `active`, `idle in transaction`, and so on. */
  state: text.nullable(),
  /** Since the statement began; of one that is idle, since its last one ended. */
  seconds: count.nullable(),
  /** Since the transaction began. */
  transactionSeconds: count.nullable(),
  /** What it waits for, such as `Lock: transactionid`. */
  wait: text.nullable(),
  /** Process ids of those that hold or want the lock before it. */
  blockedBy: z.array(z.int()).max(1000),
  query: text,
});

const statementSchema = z.object({
  role: text.nullable(),
  query: text,
  calls: count,
  totalMilliseconds: count,
  meanMilliseconds: count,
  rows: count,
  /** Blocks that were in shared_buffers, and that were not. */
  blocksHit: count,
  blocksRead: count,
});

const topSchema = z.object({
  /** Those that are not idle, the longest first. */
  sessions: z.array(sessionSchema).max(100),
  /** By total time; null where pg_stat_statements is not there. */
  statements: z.array(statementSchema).max(1000).nullable(),
});

export type Top = z.infer<typeof topSchema>;
export type Session = z.infer<typeof sessionSchema>;
export type Statement = z.infer<typeof statementSchema>;

/**
 * Asks a tenant's server.
 * @param limit how many statements
 * @throws CommandError where it does not answer, or otherwise than PostgreSQL does
 */
export async function readTop(
  ask: Ask,
  tenant: { version: number; database: string; user: string },
  limit: number,
): Promise<Top> {
  const found = parseTop(await askDatabase(ask, tenant, topQuery(limit)));
  if (!found) throw new CommandError(`the server of ${tenant.database} does not answer as PostgreSQL does`);
  return found;
}

/** @returns undefined where it is not what PostgreSQL answers */
export function parseTop(answer: string): Top | undefined {
  try {
    return topSchema.safeParse(JSON.parse(answer)).data;
  } catch {
    return undefined;
  }
}

/** Sessions of clients, also those that come by a pooler, over the server's socket as the sessions of pgs do. Those of pgs and of monitoring are none. */
const clients = `backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND (client_addr IS NOT NULL OR application_name <> '${sessionName}') AND usename IS DISTINCT FROM '${monitorRole}'`;

/** For psql: one line of JSON. Where the extension is, its view is in a schema of the tenant's choosing. */
export function topQuery(limit: number): string {
  const statements = `SELECT json_agg(row_to_json(s)) FROM (
    SELECT pg_get_userbyid(userid) AS role, left(query, 2000) AS query, calls, rows,
      total_exec_time AS "totalMilliseconds", mean_exec_time AS "meanMilliseconds",
      shared_blks_hit AS "blocksHit", shared_blks_read AS "blocksRead"
    FROM %I.pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND pg_get_userbyid(userid) <> '${monitorRole}'
    ORDER BY total_exec_time DESC LIMIT ${limit}) AS s`;
  return `
SELECT coalesce((SELECT format($$${statements}$$, nspname)
    FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_stat_statements'
    AND current_setting('shared_preload_libraries') ~ 'pg_stat_statements'), 'SELECT NULL::json') AS statements,
  EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements')
    AND current_setting('shared_preload_libraries') ~ 'pg_stat_statements' AS there \\gset
SELECT json_build_object(
  'sessions', coalesce((SELECT json_agg(row_to_json(s)) FROM (
    SELECT pid, usename AS role, application_name AS application, state, left(query, 1000) AS query,
      greatest(0, extract(epoch FROM clock_timestamp() - CASE state WHEN 'active' THEN query_start ELSE state_change END)) AS seconds,
      greatest(0, extract(epoch FROM clock_timestamp() - xact_start)) AS "transactionSeconds",
      wait_event_type || ': ' || wait_event AS wait,
      CASE wait_event_type WHEN 'Lock' THEN pg_blocking_pids(pid) ELSE '{}' END AS "blockedBy"
    FROM pg_stat_activity WHERE ${clients} AND state <> 'idle'
    ORDER BY coalesce(xact_start, query_start) LIMIT 50) AS s), '[]'),
  'statements', CASE WHEN :'there' THEN coalesce((:statements), '[]') END);
`;
}

/** For psql: ends a session's statement, or the session. Prints its state; nothing where it is no client's session. */
export function endQuery(pid: number, end: "statement" | "session"): string {
  const [which, signal] = {
    statement: ["AND state = 'active'", "pg_cancel_backend"],
    session: ["", "pg_terminate_backend"],
  }[end];
  return `SELECT state FROM (SELECT state, CASE WHEN true ${which} THEN ${signal}(pid) END AS done
    FROM pg_stat_activity WHERE pid = ${pid} AND ${clients} OFFSET 0) AS s WHERE done OR done IS NULL;`;
}

const sessionColumns: Column<Session>[] = [
  { title: "PID", cell: ({ pid }) => String(pid), right: true },
  { title: "ROLE", cell: ({ role }) => printable(role ?? "-", 30) },
  { title: "CLIENT", cell: ({ application }) => printable(application, 30) || "-" },
  {
    title: "STATE",
    cell: ({ state, blockedBy }) =>
      blockedBy.length > 0 ? `waits for ${blockedBy.slice(0, 3).join(", ")}` : printable(state ?? "-", 30),
    colour: (cell) => (/^(waits|idle in)/.test(cell) ? coloured.warning(cell) : cell),
  },
  { title: "FOR", cell: ({ seconds }) => duration(seconds), right: true },
  { title: "TRANSACTION", cell: ({ transactionSeconds }) => duration(transactionSeconds), right: true },
];

const statementColumns: Column<Statement>[] = [
  { title: "TOTAL", cell: ({ totalMilliseconds }) => milliseconds(totalMilliseconds), right: true },
  { title: "CALLS", cell: ({ calls }) => String(calls), right: true },
  { title: "MEAN", cell: ({ meanMilliseconds }) => milliseconds(meanMilliseconds), right: true },
  { title: "ROWS", cell: ({ rows }) => String(rows), right: true },
  {
    title: "CACHE HITS",
    cell: ({ blocksHit, blocksRead }) => percentage(blocksHit, blocksHit + blocksRead),
    right: true,
  },
  { title: "ROLE", cell: ({ role }) => printable(role ?? "-", 30) },
];

/** How to get statements that are not counted. */
export const withoutStatements = (id: string) =>
  `Statements are not counted: pg_stat_statements is not there. Write extensions: [pg_stat_statements] into the entry of ${id}, then ./pgs up.`;

/** @param width of the terminal, in characters; without one, statements are cut after 200 */
export function topText(id: string, { sessions, statements }: Top, width?: number): string {
  const parts = [
    sessions.length > 0
      ? withQueries(sessionColumns, sessions, width)
      : "No session is active, waits, or is idle in a transaction.",
    statements === null
      ? withoutStatements(id)
      : statements.length > 0
        ? withQueries(statementColumns, statements, width)
        : "No statement was counted yet.",
  ];
  return parts.join("\n\n");
}

/** The statement takes what the other columns leave of the line, and at least as much as tells one from another. */
function withQueries<Row extends { query: string }>(
  columns: Column<Row>[],
  rows: Row[],
  width?: number,
): string {
  const used = columns.reduce(
    (sum, { cell, title }) => sum + 2 + Math.max(title.length, ...rows.map((row) => cell(row).length)),
    0,
  );
  const most = width === undefined ? 200 : Math.max(30, width - used - 1);
  const query: Column<Row> = {
    title: "STATEMENT",
    cell: (row) => printable(row.query.replace(/\s+/g, " "), most),
  };
  return table([...columns, query], rows);
}
