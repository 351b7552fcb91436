import { resourceNames } from "../../docker/names";
import { type PgsProvider, Programs } from "../../provider/resources";
import { diskBudget } from "../../tenants/memory";
import type { PlatformArgs, TenantOutputs } from "../platform";
import { Backups } from "./backups";
import { CancelRequests } from "./cancel-requests";
import { Monitoring, monitoringFiles } from "./monitoring";
import { PgTenant } from "./pg-tenant";
import { PostgresImages } from "./postgres-images";
import { PostgresProxy } from "./proxy";

/** The stack on one Docker host: the proxy, what all tenants share, and a server for each. */
export function onDocker(args: PlatformArgs, provider: PgsProvider): TenantOutputs[] {
  const providers = [provider];
  const common = { ...args, names: resourceNames(args.prefix) };
  const proxy = new PostgresProxy("proxy", common, { providers });
  const programs = new Programs(
    "programs",
    {
      host: args.dockerHost,
      stack: args.stack,
      volume: common.names.programs,
      image: proxy.imageId,
      files: {
        // No tenant can write there (provider/server/watch-disk.sh).
        "disk-reserve": `${diskBudget(args.diskReserve) ?? 0}\n`,
        ...monitoringFiles(common),
      },
    },
    { provider, dependsOn: proxy.ready },
  );
  const images = new PostgresImages("images", args);
  new CancelRequests("cancel", { ...common, images, proxy, programs }, { providers });
  const backupImage =
    args.backups.schedule === "off"
      ? undefined
      : new Backups("backups", { ...common, images }, { providers });

  const monitor = Monitoring.asked("monitoring", { ...common, images, proxy, programs }, { providers });

  return args.declared.map(
    (tenant) =>
      new PgTenant(
        tenant.id,
        { ...common, tenant, proxy, programs, images, backupImage, monitor },
        { providers },
      ),
  );
}
