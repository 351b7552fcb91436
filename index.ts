import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { onDocker } from "./components/docker";
import { onKubernetes } from "./components/kubernetes";
import { LimitedUp } from "./components/limited-up";
import { placeOf, type TenantOutputs } from "./components/platform";
import { readDigests, readSettings, readTenantEntries } from "./components/stack-settings";
import { WildcardCertificate } from "./components/wildcard-certificate";
import { PgsProvider, Platform } from "./provider/resources";

const settings = readSettings();
const entries = readTenantEntries(settings);
const digests = readDigests(entries);
const limited = LimitedUp.asked(entries, digests);

const provider = new PgsProvider("pgs");
const platform = new Platform("platform", placeOf(settings), { provider });
/** The stack's id, the value of the label `pgs.stack`. */
export const stack = new random.RandomId(
  "stack",
  { byteLength: 6, prefix: `${pulumi.getStack()}-` },
  { dependsOn: platform },
).hex;
const certificate = new WildcardCertificate("certificate", settings);
const declare = settings.platform === "kubernetes" ? onKubernetes : onDocker;
const servers = declare(
  { ...settings, stack, certificate, tenants: entries, declared: limited?.declared ?? entries },
  provider,
);

function byTenant<Value>(output: string, tell: (server: TenantOutputs) => pulumi.Input<Value>) {
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
