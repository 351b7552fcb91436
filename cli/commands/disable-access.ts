import { accessCommand } from "../lib/setting-commands";

export const disableAccess = accessCommand(
  "disable-access",
  "close the routes of tenants and end their sessions",
  false,
);
