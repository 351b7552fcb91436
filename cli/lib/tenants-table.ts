import { printable } from "../../docker/exec";
import type { JudgedBackups } from "./backup-status";
import type { ClusterBackups } from "./cluster-backups";
import type { ExtensionStatus } from "./tenant-extensions";
import type { TenantStatus } from "./tenant-status";
import { coloured } from "./terminal";
import { bytes, duration } from "./units";

export interface Column<Tenant> {
  title: string;
  cell: (tenant: Tenant) => string;
  /** By what is in the cell. */
  colour?: (text: string) => string;
  /** Numbers stand to the right. */
  right?: boolean;
}

const id: Column<{ id: string }> = { title: "TENANT", cell: ({ id }) => id };
const host: Column<{ host: string }> = { title: "HOST", cell: ({ host }) => host };
const access: Column<{ access: boolean }> = {
  title: "ACCESS",
  cell: ({ access }) => (access ? "on" : "off"),
  colour: (text) => (text.startsWith("off") ? coloured.faint(text) : text),
};
const state: Column<{ state: string }> = {
  title: "STATE",
  cell: ({ state }) => state,
  colour: stateColour,
};

const listed: Column<TenantStatus>[] = [
  id,
  host,
  { title: "POOLER", cell: ({ pooler }) => pooler ?? "-" },
  { title: "PORT", cell: ({ port }) => String(port) },
  access,
  state,
  { title: "SERVERS", cell: ({ servers }) => (servers ? `${servers.ready}/${servers.wanted}` : "-") },
  { title: "VERSION", cell: ({ version }) => String(version), right: true },
  { title: "MEMORY", cell: ({ memory }) => bytes(memory.limit), right: true },
  { title: "CPUS", cell: ({ cpu }) => String(cpu.limit), right: true },
];

const used: Column<TenantStatus>[] = [
  id,
  host,
  access,
  state,
  {
    title: "MEMORY",
    cell: ({ memory }) => `${bytes(memory.used)}/${bytes(memory.limit)}`,
    right: true,
  },
  { title: "CPU", cell: ({ cpu }) => `${cpu.used?.toFixed(2) ?? "-"}/${cpu.limit}`, right: true },
  { title: "SIZE", cell: sizeCell, colour: sizeColour, right: true },
  {
    title: "CONNECTIONS",
    cell: ({ connections, maxConnections }) => `${connections ?? "-"}/${maxConnections ?? "-"}`,
    right: true,
  },
  { title: "UPTIME", cell: ({ uptime }) => duration(uptime), right: true },
];

const atS3 = "AT S3";

const inBucket: Column<ClusterBackups>[] = [
  { title: "TENANT", cell: ({ tenant }) => tenant },
  { title: "BASE BACKUP", cell: ({ base }) => age(base) },
  { title: "WAL", cell: walCell },
];

const backupProblem: Column<ClusterBackups> = {
  title: "PROBLEM",
  cell: ({ problem, pending }) => problem ?? (pending && `(${pending})`) ?? "",
  colour: problemColour,
};

const backups: Column<JudgedBackups>[] = [
  ...inBucket,
  { title: atS3, cell: copyCell },
  { title: "SIZE", cell: ({ size }) => bytes(size), right: true },
  {
    title: "TRIED RESTORE",
    cell: ({ tried }) => (tried?.ok ? `${age(tried.at)}, in ${duration(Math.ceil(tried.seconds))}` : "-"),
  },
  backupProblem,
];

const extensions: Column<ExtensionStatus>[] = [
  { title: "EXTENSION", cell: ({ name }) => printable(name, 63) },
  { title: "INSTALLED", cell: ({ installed }) => printable(installed ?? "-", 30) },
  { title: "NEWEST", cell: ({ newest }) => printable(newest ?? "-", 30) },
  { title: "STATE", cell: ({ state }) => state, colour: extensionColour },
  { title: "COMMENT", cell: ({ comment }) => printable(comment, 80) },
];

function extensionColour(text: string): string {
  if (text.startsWith("installed")) return coloured.good(text);
  return text.startsWith("available") ? coloured.faint(text) : coloured.warning(text);
}

/** With a budget, that and what the volume takes. */
function sizeCell({ size, disk }: TenantStatus): string {
  const figures = disk.limit === null ? bytes(size) : `${bytes(disk.used)}/${bytes(disk.limit)}`;
  return disk.readOnly ? `read-only ${figures}` : figures;
}

function sizeColour(text: string): string {
  return text.includes("read-only") ? coloured.bad(text) : text;
}

function walCell({ state, exposed, behind, left }: ClusterBackups): string {
  if (state === "removed") {
    if (left === null) return "removed";
    return left === 0 ? "removed, expired" : `removed, kept for ${duration(left * 60)}`;
  }
  if (state === "stopped") return "stopped";
  if (behind === null) return "-";
  return exposed === 0 ? "all there" : `${duration(exposed)}, ${bytes(behind)} behind`;
}

function copyCell({ wal, s3 }: JudgedBackups): string {
  if (!s3) return "-";
  if (s3.base === 0) return "no base backup";
  // What came within the same second may not be there yet.
  return s3.waiting === 0 && s3.wal > wal ? "all there" : `until ${age(s3.wal)}`;
}

function age(at: number): string {
  return at === 0 ? "-" : `${duration(Math.max(0, Math.round(Date.now() / 1000 - at)))} ago`;
}

/** Which columns a narrow terminal does without, the first one first. */
const dispensable = [
  "COMMENT",
  "CPUS",
  "VERSION",
  "POOLER",
  "CPU",
  "UPTIME",
  "CONNECTIONS",
  "SIZE",
  "MEMORY",
  "PORT",
  "HOST",
  "ACCESS",
];

/**
 * The tenants, their state and limits.
 * @param width of the terminal, in characters; without one, all columns are there
 */
export function tenantsTable(tenants: TenantStatus[], width?: number): string {
  const optional: Record<string, (tenant: TenantStatus) => unknown> = {
    POOLER: ({ pooler }) => pooler,
    SERVERS: ({ servers }) => servers,
  };
  const shown = listed.filter(({ title }) => {
    const has = optional[title];
    return has === undefined || tenants.some(has);
  });
  return table(shown, tenants, width);
}

/** The tenants and what they use. */
export function usageTable(tenants: TenantStatus[], width?: number): string {
  return table(used, tenants, width);
}

/** How the tenants' backups stand. */
export function backupsTable(tenants: JudgedBackups[], width?: number): string {
  const shown = backups.filter(({ title }) => title !== atS3 || tenants.some(({ s3 }) => s3));
  return table(shown, tenants, width);
}

/** The same of tenants on a cluster. */
export function clusterBackupsTable(tenants: ClusterBackups[], width?: number): string {
  return table([...inBucket, backupProblem], tenants, width);
}

/** The extensions of a tenant's database, and those that it could have. */
export function extensionsTable(all: ExtensionStatus[], width?: number): string {
  return table(extensions, all, width);
}

/** @param width of the terminal: a narrow one gets fewer columns */
export function table<Tenant>(
  columns: Column<Tenant>[],
  tenants: Tenant[],
  width = Number.POSITIVE_INFINITY,
): string {
  const sized = columns.map((column) => ({
    ...column,
    width: Math.max(column.title.length, ...tenants.map((tenant) => column.cell(tenant).length)),
  }));
  const needed = (shown: typeof sized) => shown.reduce((sum, column) => sum + column.width + 2, -2);
  let shown = sized;
  for (const title of dispensable) {
    if (needed(shown) <= width) break;
    shown = shown.filter((column) => column.title !== title);
  }
  const pad = (text: string, column: (typeof sized)[number], last: boolean) =>
    column.right ? text.padStart(column.width) : last ? text : text.padEnd(column.width);
  const line = (cell: (column: (typeof sized)[number], last: boolean) => string) =>
    shown.map((column, index) => cell(column, index === shown.length - 1)).join("  ");
  return [
    line((column, last) => coloured.heading(pad(column.title, column, last))),
    ...tenants.map((tenant) =>
      line((column, last) => (column.colour ?? String)(pad(column.cell(tenant), column, last))).trimEnd(),
    ),
  ].join("\n");
}

function problemColour(text: string): string {
  return text.startsWith("(") ? coloured.faint(text) : coloured.bad(text);
}

function stateColour(text: string): string {
  if (text.startsWith("running")) return coloured.good(text);
  if (text.startsWith("stopped")) return coloured.faint(text);
  return /^(starting|stopping|degraded)/.test(text) ? coloured.warning(text) : coloured.bad(text);
}
