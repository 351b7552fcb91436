import { stateCommand } from "../lib/setting-commands";

export const start = stateCommand("start", "start the servers of tenants", "running");
