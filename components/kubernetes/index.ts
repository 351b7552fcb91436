import type { KubernetesSettings } from "../../config";
import { objectNames } from "../../kubernetes/names";
import type { PgsProvider } from "../../provider/resources";
import type { PlatformArgs, TenantOutputs } from "../platform";
import { KubernetesProvider } from "./manifest";
import { Operator } from "./operator";
import { PgTenant } from "./pg-tenant";
import { KubernetesProxy } from "./proxy";

/** The stack on a cluster: the operator, the proxy, and a namespace with a server for each tenant. */
export function onKubernetes(args: PlatformArgs, provider: PgsProvider): TenantOutputs[] {
  const kubernetes = args.kubernetes as KubernetesSettings;
  const { kubeconfig, context } = kubernetes;
  const providers = [provider, new KubernetesProvider("kubernetes", { kubeconfig, context })];
  const common = { ...args, kubernetes, names: objectNames(args.prefix) };
  const operator = new Operator("operator", common, { providers });
  const proxy = new KubernetesProxy("proxy", { ...common, operator }, { providers });
  return args.declared.map(
    (tenant) => new PgTenant(tenant.id, { ...common, tenant, operator, proxy }, { providers }),
  );
}
