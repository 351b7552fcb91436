import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { Backups } from "./components/docker/backups";
import { CancelRequests } from "./components/docker/cancel-requests";
import { Monitoring, monitoringFiles } from "./components/docker/monitoring";
import { PgTenant } from "./components/docker/pg-tenant";
import { PostgresImages } from "./components/docker/postgres-images";
import { PostgresProxy } from "./components/docker/proxy";
import { LimitedUp } from "./components/limited-up";
import { readDigests, readSettings, readTenantEntries } from "./components/stack-settings";
import { WildcardCertificate } from "./components/wildcard-certificate";
import { resourceNames } from "./docker/names";
import { PgsProvider, Programs } from "./provider/resources";
import { diskBudget } from "./tenants/memory";

const settings = readSettings();
const entries = readTenantEntries(settings);
const digests = readDigests(entries);
const limited = LimitedUp.asked(entries, digests);

const providers = [new PgsProvider("pgs")];
/** The stack's id, the value of the label `pgs.stack` on the Docker host. */
export const stack = new random.RandomId("stack", { byteLength: 6, prefix: `${pulumi.getStack()}-` }).hex;
const common = { ...settings, stack, names: resourceNames(settings.prefix) };
const certificate = new WildcardCertificate("certificate", settings);
const proxy = new PostgresProxy("proxy", { ...common, certificate }, { providers });
const programs = new Programs(
  "programs",
  {
    host: settings.dockerHost,
    stack,
    volume: common.names.programs,
    image: proxy.imageId,
    files: {
      // No tenant can write there (provider/server/watch-disk.sh).
      "disk-reserve": `${diskBudget(settings.diskReserve) ?? 0}
`,
      ...monitoringFiles(common),
    },
  },
  { provider: providers[0], dependsOn: proxy.ready },
);
const images = new PostgresImages("images", settings);
new CancelRequests("cancel", { ...common, images, proxy, programs }, { providers });
const backupImage =
  settings.backups.schedule === "off"
    ? undefined
    : new Backups("backups", { ...common, images, tenants: entries }, { providers });

const monitor = Monitoring.asked("monitoring", { ...common, images, proxy, programs }, { providers });

const servers = (limited?.declared ?? entries).map(
  (tenant) =>
    new PgTenant(
      tenant.id,
      { ...common, tenant, certificate, proxy, programs, images, backupImage, monitor },
      { providers },
    ),
);

function byTenant<Value>(output: string, tell: (server: PgTenant) => pulumi.Input<Value>) {
  const told = Object.fromEntries(servers.map((server) => [server.id, tell(server)]));
  return limited?.completed(output, told) ?? told;
}

/** By tenant id: postgresql://… with the password. */
export const connectionStrings = pulumi.secret(
  byTenant("connectionStrings", ({ connectionString }) => connectionString),
);
/** By tenant id and role: the same of the roles that its entry has. */
export const roleConnectionStrings = pulumi.secret(
  byTenant("roleConnectionStrings", (server) => server.roleConnectionStrings),
);
/** By tenant id: where it is reached, and how it is set. */
export const tenants = byTenant("tenants", ({ summary }) => summary);
const signsNothing =
  (settings.certificate || settings.acme) && entries.every(({ tls }) => tls === "terminate");
/** The stack's own CA, PEM; null when clients meet no certificate that it signed. */
export const caCertificate = signsNothing ? null : certificate.caCertificate;
/** Of what this `up` is made from: an edit of one tenant needs no whole `up` where nothing else differs from it. */
export const digest = pulumi.secret(digests);
