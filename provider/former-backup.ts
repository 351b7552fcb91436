import { type Backup, endBackup, isHeldByServer } from "./postgres-server/backup";
import type { ResourceType } from "./resource-type";

/**
 * What a state has that was written before PostgresServer had the backup as a part of it. The next `up` deletes it, when
 * the server has taken the backup over, or when the tenant was removed as well.
 */
export const FormerBackup: ResourceType<Backup> = {
  updatable: [],
  replacing: [],

  async create() {
    throw new Error("a Backup is a part of its PostgresServer");
  },

  async read(_id, state) {
    return state;
  },

  async update(_id, state) {
    return state;
  },

  async delete(_id, state) {
    if (!(await isHeldByServer(state))) await endBackup(state);
  },
};
