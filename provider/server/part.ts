import type Docker from "dockerode";
import type {
  PostgresServerInputs,
  PostgresServerState,
  ServerContents,
  ServerContentsState,
} from "./inputs";
import type { Inside } from "./inside";
import type { Session, SqlSession } from "./session";

type MaybePromise<T> = T | Promise<T>;

/** What can be seen of a server. */
export interface Sight {
  /** Its container; undefined when it is gone. */
  info: Docker.ContainerInspectInfo | undefined;
  /** The server's own answers; undefined where it was not asked, or cannot be. */
  inside: Inside | undefined;
}

/** A server that answers, and what is to be applied to it. */
export interface RunningServer {
  inputs: PostgresServerInputs;
  /** What the last `up` left; empty for a new tenant. */
  before: Partial<PostgresServerState>;
  container: Docker.Container;
  session: Session;
  inside: Inside;
}

/** What is to be true inside of a server that answers, on each platform. */
export interface OpenServer {
  inputs: ServerContents;
  /** What the last `up` left; empty for a new tenant. */
  before: Partial<ServerContentsState>;
  session: SqlSession;
  inside: Inside;
}

/** A concern inside of a server. */
export interface ContentsPart {
  readonly name: string;
  /** As {@link Part} has it. */
  differs(wanted: ServerContents, sight: Pick<Sight, "inside">): MaybePromise<boolean>;
  apply(server: OpenServer): Promise<void>;
}

/** One concern of a server. Each is planned and applied by itself. */
export interface Part {
  /** As in the inputs: the word for it in plans and messages. */
  readonly name: string;
  /** Whether what is seen is not what `wanted` says. What cannot be seen does not differ. */
  differs(wanted: PostgresServerInputs, sight: Sight): MaybePromise<boolean>;
}
