import type * as pulumi from "@pulumi/pulumi";
import type { PlatformInputs } from "../provider/platform";
import type { Tenant } from "../tenants";
import type { StackSettings } from "./stack-settings";
import type { WildcardCertificate } from "./wildcard-certificate";

/** What a platform makes a stack from. */
export interface PlatformArgs extends Omit<StackSettings, "certificate"> {
  /** The stack's id, which what belongs to it is labelled with. */
  stack: pulumi.Output<string>;
  certificate: WildcardCertificate;
  /** All tenants of the stack. */
  tenants: Tenant[];
  /** Those of them that are declared. */
  declared: Tenant[];
}

/** What cannot change as long as the stack has tenants. */
export function placeOf({ platform, prefix, kubernetes }: StackSettings): PlatformInputs {
  if (platform === "docker") return { platform };
  return { platform, prefix, kubeconfig: kubernetes?.kubeconfig, context: kubernetes?.context };
}

/** What the stack's outputs tell of a tenant, whatever it runs on. */
export interface TenantOutputs {
  readonly id: string;
  /** A secret. */
  readonly connectionString: pulumi.Output<string>;
  /** Those of its other roles, by name; a secret. */
  readonly roleConnectionStrings: pulumi.Output<Record<string, string>>;
  /** Where it is reached, and how it is set. */
  readonly summary: Record<
    string,
    pulumi.Input<string | number | boolean | string[] | Record<string, string>>
  >;
}
