import type { Settings } from "./parts/settings";

/** What is true inside of a server, on each platform. */
export interface ServerContents {
  /** What messages call the server. */
  container: { name: string };
  /** The tenant's id, which is its database's name too. */
  tenant: string;
  /** Of the role that the tenant logs in as; printable ASCII; a secret. */
  password: string;
  /** That role's name: it owns the database, and nobody logs in as a superuser. Undefined: the superuser postgres. */
  user?: string;
  /** Other roles that can log in, by name; undefined without any. */
  roles?: Record<string, RoleInputs>;
  /** Their passwords; printable ASCII; a secret. */
  rolePasswords?: Record<string, string>;
  /** Extensions of the tenant's database by name: their versions, or empty for the newest of the image. */
  extensions?: Record<string, string>;
  /** Where the operator wrote each setting, for messages. */
  positions?: Record<string, string>;
}

/** One tenant's server: its network and container, what is true inside of it, its route and its backups. */
export interface PostgresServerInputs extends ServerContents {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  /** The stack's id. */
  stack: string;
  /** PostgreSQL major version; that of existing data cannot be changed. */
  version: number;
  /** `running`, or `stopped`: then it has no container, and data, network and backups stay. */
  state: string;
  network: {
    name: string;
    /** IPv4 range (CIDR) from which its subnet is taken. */
    pool: string;
    /** Prefix length of that subnet. */
    prefixLength: number;
    /** Id of the proxy's container, which is attached to it. */
    proxy: string;
  };
  container: {
    name: string;
    /** The image's name and tag, and its id; a stopped tenant has none. */
    image?: string;
    imageId?: string;
    /** Name of the volume with the data. */
    volume: string;
    /** Name of the volume with the program that starts the server. */
    programs: string;
    /** Whether the data was made by a server that was not this stack's. */
    adopted: boolean;
  };
  limits: {
    /** Bytes; no swap beside them. */
    memory: number;
    /** Processors, in hundredths. */
    cpus: number;
  };
  /** Server settings by name, by when a change of them counts. */
  settings: {
    /** After a reload. */
    live: Settings;
    /** After a restart, which the change causes. */
    restart: Settings;
    /** When the server starts the next time: no change of them causes a restart. */
    initial: Settings;
  };
  access: {
    /** Whether clients may come in. Closing it ends their sessions. */
    open: boolean;
    /** `all`: the network has no one in it but the proxy; `proxy`: from the proxy's address alone. */
    clients: string;
    /** Addresses and ranges that the proxy lets clients of the tenant come from; undefined: any. */
    allow?: string[];
    /** Whether the role of monitoring may come in, also where no client may; undefined: no. */
    monitored?: boolean;
  };
  /** What clients see whose TLS the proxy passes through; without it the server has no TLS. A secret. */
  tls?: {
    /** PEM, leaf first. */
    chain: string;
    /** PEM. */
    key: string;
  };
  database: {
    /** SQL files on this machine, run once in this order when the database is made; paths from the project's folder. */
    init: string[];
    /** As setlocale knows it, of PostgreSQL's encodings, and as ICU knows it; without one, what the image's cluster has. */
    locale?: string;
    encoding?: string;
    icu?: string;
  };
  /** The proxy's file for the tenant; a closed route is a file without a router. */
  route: {
    /** Name of the proxy's container. */
    proxy: string;
    /** Absolute path in it. */
    path: string;
    content: string;
  };
  /** How it is backed up; without it, it is not. */
  backup?: {
    /** Name of its container and volume. */
    name: string;
    image: string;
    imageId: string;
    /** Time of day of the daily base backup, UTC: `HH:MM`. */
    schedule: string;
    /** For how many days back the tenant can be restored to any second. */
    retention: number;
  };
  /** What pools its clients' connections; without it, there is none. */
  pooler?: {
    /** Name of its container. */
    name: string;
    image: string;
    imageId: string;
    /** What a client holds a connection to the server for: `transaction` or `session`. */
    mode: string;
    /** Connections to the server for each database. */
    size: number;
  };
  /** For the operator when the tenant is removed. */
  deleteMessage: string;
}

/** What is undefined stays as it is in a role that somebody made by hand. */
export interface RoleInputs {
  grants?: "readonly" | "readwrite" | "owner";
  /** How many sessions it may have; -1: no limit. */
  connectionLimit?: number;
  /** Until when it may log in: a time with its zone. */
  validUntil?: string;
  settings: Settings;
  /** Other roles that it is a member of. */
  inRoles: readonly string[];
}

/** The same as the last `up` left it. */
export interface ServerContentsState extends ServerContents {
  state: string;
  /** Extensions that a stopped tenant's database has by earlier entries. */
  leftExtensions?: Record<string, string>;
}

export interface PostgresServerState extends PostgresServerInputs {
  /** Engine's ids of what the last `up` left; a stopped tenant has no container. */
  containerId?: string;
  /** More than one only after an `up` that failed while the server was to get another network. */
  networkIds?: string[];
  backupId?: string;
  /** Extensions that a stopped tenant's database has by earlier entries. */
  leftExtensions?: Record<string, string>;
}
