import * as pulumi from "@pulumi/pulumi";
import { Backups } from "./components/backups";
import { LimitedUp } from "./components/limited-up";
import { PgTenant } from "./components/pg-tenant";
import { PostgresImages } from "./components/postgres-images";
import { PostgresProxy } from "./components/proxy";
import { StackMark } from "./components/stack-mark";
import { readDigests, readSettings, readTenantEntries } from "./components/stack-settings";
import { TenantNetworks } from "./components/tenant-networks";
import { WildcardCertificate } from "./components/wildcard-certificate";
import { PgsProvider } from "./provider/resources";

const settings = readSettings();
const entries = readTenantEntries(settings);
const digests = readDigests(entries);
const limited = LimitedUp.asked(entries, digests);

const providers = [new PgsProvider("pgs")];
const certificate = new WildcardCertificate("certificate", settings);
const mark = new StackMark("stack", settings, { providers });
const proxy = new PostgresProxy("proxy", { ...settings, certificate, mark }, { providers });
const networks = new TenantNetworks("networks", { ...settings, proxy }, { providers });
const images = new PostgresImages("images", settings);
const barman =
  settings.backups.schedule === "off"
    ? undefined
    : new Backups("backups", { ...settings, mark }, { providers });

const servers = (limited?.declared ?? entries).map(
  (tenant) =>
    new PgTenant(
      tenant.id,
      { ...settings, tenant, certificate, proxy, networks, images, mark, barman },
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
/** By tenant id: where it is reached, and how it is set. */
export const tenants = byTenant("tenants", ({ summary }) => summary);
const signsNothing =
  (settings.certificate || settings.acme) && entries.every(({ tls }) => tls === "terminate");
/** The stack's own CA, PEM; null when clients meet no certificate that it signed. */
export const caCertificate = signsNothing ? null : certificate.caCertificate;
/** Of what this `up` is made from: an edit of one tenant needs no whole `up` where nothing else differs from it. */
export const digest = pulumi.secret(digests);
