import type { JudgedBackups } from "../lib/backup-status";
import type { PastRun } from "../lib/limited-up";
import type { TenantSummary } from "../lib/stack";
import type { UsableBackup } from "../lib/tenant-backups";
import type { TenantStatus } from "../lib/tenant-status";
import type { Top } from "../lib/top";

/** What server and page of the dashboard say to each other: types alone, as the page has nothing of Node.js. */

/** Something that takes time to find out. */
export interface Answer<T> {
  /** The last that was found; null before. */
  value: T | null;
  /** When that was, in milliseconds since 1970. */
  at: number | null;
  /** Why the last try failed, or that it still goes on. */
  problem: string | null;
}

/** A tenant's status, with `restoring` as one more state. */
export interface FleetRow extends TenantStatus {
  /** The stack's backups of it, where they are on and known. */
  backup: Pick<JudgedBackups, "exposed" | "problem" | "pending"> | null;
  /** CPUs used in the last hours, the oldest first. */
  cpuHistory: number[];
}

export interface Fleet {
  tenants: FleetRow[];
  /** The command that changes the stack at this moment, such as `./pgs up`. */
  running: string | null;
}

export interface Overview {
  /** The stack's name with its id, such as `dev-5f0c9a3e21b47d68`. */
  stack: string;
}

/** A container that is no tenant's. */
export interface Service {
  name: string;
  role: string;
  /** The engine's word, and its sentence. */
  state: string;
  status: string;
}

export interface Certificate {
  names: string;
  issuer: string;
  /** Milliseconds since 1970. */
  notAfter: number;
  /** Why a client with the right CA would refuse it. */
  untrusted: string | null;
}

export interface Host {
  engine: { address: string; version: string; cpus: number; memory: number };
  /** Bytes that tenants may take at most, and what they take; CPUs alike. */
  memory: { promised: number; used: number };
  cpus: { promised: number; used: number };
  /** Bytes of the file system that the volumes are on; null where it cannot be read from here. */
  disk: { size: number; free: number } | null;
  port: number;
  /** Clients' connections that the proxy has open; null where the stack is not watched. */
  connections: number | null;
  services: Service[];
  certificate: Answer<Certificate>;
}

export interface TenantDetails {
  id: string;
  summary: TenantSummary;
  row: FleetRow;
  /** libpq's keywords. */
  connection: Record<string, string>;
  /** Whether clients verify by the stack's own CA. */
  ownCa: boolean;
}

export interface TenantBackupsDetails {
  judged: JudgedBackups | null;
  /** The oldest first. */
  bases: UsableBackup[];
}

/** Unit by series: bytes, CPUs, sessions. */
export const seriesNames = ["cpu", "memory", "connections", "size"] as const;
export type SeriesName = (typeof seriesNames)[number];

/** Seconds since 1970, and the values of each series at these times; null where one is not known. */
export interface Charts {
  /** The stack's monitoring, or what this command saw while a page was open. */
  source: "monitoring" | "dashboard";
  times: number[];
  series: Record<SeriesName, (number | null)[]>;
}

/** One run of Pulumi that is over. */
export interface Change
  extends Pick<PastRun, "kind" | "result" | "message" | "startTime" | "endTime" | "resourceChanges"> {
  /** Ids of those that it changed, where `./pgs` noted them: of an edit, and of an `up` that was planned before. */
  tenants: string | null;
}

export type { Top };

/** All that the page asks for, by what is below /api/. */
export interface Source {
  overview(): Promise<Answer<Overview>>;
  fleet(): Promise<Answer<Fleet>>;
  host(): Promise<Answer<Host>>;
  changes(): Promise<Answer<Change[]>>;
  /** Of one tenant; undefined where there is none of that id. */
  tenant(id: string): Promise<Answer<TenantDetails> | undefined>;
  charts(id: string, hours: number): Promise<Answer<Charts> | undefined>;
  top(id: string): Promise<Answer<Top> | undefined>;
  backups(id: string): Promise<Answer<TenantBackupsDetails> | undefined>;
  log(id: string): Promise<Answer<string[]> | undefined>;
}
