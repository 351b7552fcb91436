import { accessCommand } from "../lib/setting-commands";

export const enableAccess = accessCommand("enable-access", "open the routes of tenants", true);
