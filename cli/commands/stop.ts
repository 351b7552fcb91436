import { stateCommand } from "../lib/setting-commands";

export const stop = stateCommand("stop", "shut down the servers of tenants; their data stays", "stopped");
