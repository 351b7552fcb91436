import type { Command } from "commander";
import { alerts } from "./alerts";
import { backups } from "./backups";
import { cancel } from "./cancel";
import { completion } from "./completion";
import { connect } from "./connect";
import { create } from "./create";
import { dashboard } from "./dashboard";
import { destroy } from "./destroy";
import { disableAccess } from "./disable-access";
import { doctor } from "./doctor";
import { dump } from "./dump";
import { enableAccess } from "./enable-access";
import { extensions } from "./extensions";
import { importFile } from "./import";
import { list } from "./list";
import { load } from "./load";
import { logs } from "./logs";
import { metrics } from "./metrics";
import { password } from "./password";
import { preview } from "./preview";
import { refresh } from "./refresh";
import { remove } from "./remove";
import { restore } from "./restore";
import { rotatePassword } from "./rotate-password";
import { set } from "./set";
import { env, setup } from "./shell";
import { start } from "./start";
import { stop } from "./stop";
import { top } from "./top";
import { tryRestores } from "./try-restores";
import { up } from "./up";
import { url } from "./url";

/** The commands as the help groups them. Everything that lists commands reads this. */
export const groups: Record<string, Command[]> = {
  "The whole stack": [up, preview, refresh, destroy, cancel],
  "Look at tenants": [
    list,
    dashboard,
    connect,
    top,
    logs,
    url,
    password,
    extensions,
    backups,
    tryRestores,
    alerts,
    metrics,
    doctor,
  ],
  "Databases in and out": [dump, load],
  "Edit tenants.yaml and apply the edit": [
    create,
    remove,
    set,
    start,
    stop,
    enableAccess,
    disableAccess,
    rotatePassword,
    restore,
    importFile,
  ],
  "This machine": [setup, env, completion],
};
