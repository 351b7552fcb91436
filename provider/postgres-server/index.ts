import type Docker from "dockerode";
import { engine, ifPresent } from "../engine";
import { IncompleteError, type ResourceType } from "../resource-type";
import { createDatabase } from "./database";
import { limitsOf, setLimits } from "./limits";
import { matches, scramVerifier } from "./password";
import { literal, NotReadyError, psql, readyTimeout } from "./psql";
import { endSessions } from "./sessions";
import { applySettings, asWritten, type Settings } from "./settings";

/** What is true of one running server and can be changed while it runs. */
export interface PostgresServerInputs {
  /** The Docker host; without one, the provider's default. */
  host?: string;
  /** Name of the server's container. */
  container: string;
  /** Its id: a container made anew needs its limits again. */
  containerId: string;
  /** The database to make; its init scripts run in it. */
  database: string;
  /** Of the role postgres; printable ASCII. */
  password: string;
  /** Absolute paths of SQL files on this machine, run once in this order when the database is first made. */
  init?: string[];
  /** Bytes, without swap. */
  memory?: number;
  /** Processors. */
  cpus?: number;
  settings?: Settings;
  /** Whether the tenant's route is open. Closing it ends the sessions that came by it. */
  access: boolean;
}

export const PostgresServer: ResourceType<PostgresServerInputs> = {
  updatable: ["containerId", "database", "password", "memory", "cpus", "settings", "access"],
  replacing: ["host", "container"],

  check({ password }) {
    if (password === undefined || /^[ -~]{1,256}$/.test(password)) return [];
    return [{ property: "password", reason: "a password is 1 to 256 printable ASCII characters" }];
  },

  async create(inputs) {
    await bringAbout(inputs, {});
    return { id: inputs.container, state: inputs };
  },

  async read(_id, state) {
    const container = engine(state.host).getContainer(state.container);
    const info = await ifPresent(container.inspect());
    if (!info) return undefined;
    // Whatever cannot be seen now is brought about again by the next `up`.
    if (!info.State.Running) return { ...state, containerId: "" };
    try {
      const present = await observe(container, 15);
      const { memory, cpus } = limitsOf(info);
      return {
        ...state,
        containerId: info.Id,
        memory: state.memory && memory,
        cpus: state.cpus && cpus,
        database: present.databases.includes(state.database) && !present.creating ? state.database : "",
        password: matches(present.verifier, state.password) ? state.password : "",
        settings: state.settings && asWritten(state.settings, present.settings),
      };
    } catch {
      return { ...state, containerId: "" };
    }
  },

  async update(_id, state, inputs) {
    await bringAbout(inputs, state.settings ?? {});
    return inputs;
  },

  async delete() {
    // All that it set goes with the container or stays with the data.
  },
};

async function bringAbout(inputs: PostgresServerInputs, previousSettings: Settings): Promise<void> {
  const container = engine(inputs.host).getContainer(inputs.container);
  try {
    const info = await container.inspect();
    await setLimits(container, info, inputs);
    const present = await observe(container, readyTimeout);
    await createDatabase(container, inputs.database, inputs.init ?? [], present);
    await setSettings(container, inputs.settings ?? {}, previousSettings, present.settings);
    await setPassword(container, inputs.password, present.verifier);
    if (!inputs.access) await endSessions(container);
  } catch (error) {
    throw new IncompleteError(
      inputs.container,
      { ...inputs, containerId: "" },
      await explain(error, container, inputs),
    );
  }
}

interface Observed {
  verifier: string | null;
  databases: string[];
  /** A database is being made, or a run that made one was cut off. */
  creating: boolean;
  /** Contents of postgresql.auto.conf. */
  settings: Settings;
}

async function observe(container: Docker.Container, timeout: number): Promise<Observed> {
  const answer = await psql(
    container,
    `SELECT json_build_object(
       'verifier', (SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'),
       'databases', (SELECT json_agg(datname) FROM pg_database),
       'creating', current_setting('pgs.creating', true) <> '' IS TRUE,
       'settings', (SELECT coalesce(json_object_agg(name, setting), '{}') FROM pg_file_settings
                    WHERE sourcefile LIKE '%/postgresql.auto.conf'))`,
    { timeout },
  );
  return JSON.parse(answer);
}

async function setSettings(
  container: Docker.Container,
  wanted: Settings,
  previous: Settings,
  present: Settings,
): Promise<void> {
  const pending = await applySettings(container, wanted, previous, present);
  if (pending.length === 0) return;
  // The stop signal asks PostgreSQL for a clean shutdown; seconds until the engine kills it.
  await container.restart({ t: 120 });
  await psql(container, "");
}

async function setPassword(
  container: Docker.Container,
  password: string,
  stored: string | null,
): Promise<void> {
  if (matches(stored, password)) return;
  await psql(container, `ALTER ROLE postgres PASSWORD ${literal(scramVerifier(password))}`);
}

/** Says which server it is about, and of one that does not come up what its log says. */
async function explain(
  error: unknown,
  container: Docker.Container,
  inputs: PostgresServerInputs,
): Promise<Error> {
  const message = (error as Error).message;
  const info = await ifPresent(container.inspect()).catch(() => undefined);
  if (info && !(error instanceof NotReadyError) && info.State.Running) {
    return new Error(`${inputs.container}: ${message}`);
  }
  const state = !info ? "is gone" : info.State.Running ? "runs" : `is ${info.State.Status}`;
  return new Error(
    `${inputs.container}: ${message} (the container ${state}); \`docker logs --tail 20 ${inputs.container}\` says why`,
  );
}
