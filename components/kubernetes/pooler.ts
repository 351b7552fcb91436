import type * as pulumi from "@pulumi/pulumi";
import { poolerName } from "../../kubernetes/names";
import type { Tenant } from "../../tenants";
import { pgbouncerSettings, poolerMemory } from "../../tenants/pooler";
import { Manifest } from "./manifest";

const memory = `${poolerMemory}Mi`;

/**
 * A tenant's PgBouncer, by CloudNativePG: it asks the server who may log in. One that is stopped or closed has none.
 * https://cloudnative-pg.io/documentation/1.28/connection_pooling/
 */
export function createPooler(
  name: string,
  { tenant, namespace, image }: { tenant: Tenant; namespace: pulumi.Output<string>; image: string },
  opts: pulumi.CustomResourceOptions,
): Manifest | undefined {
  const { id, pooler, access, state } = tenant;
  if (!pooler || !access || state === "stopped") return undefined;
  // CloudNativePG sets it itself.
  const { ignore_startup_parameters: _, ...parameters } = pgbouncerSettings(pooler);
  return new Manifest(
    name,
    {
      apiVersion: "postgresql.cnpg.io/v1",
      kind: "Pooler",
      metadata: {
        name: poolerName(id),
        namespace,
        // While a Pooler waits for its Deployment to go, CloudNativePG 1.28 makes that again and again.
        annotations: { "pulumi.com/deletionPropagationPolicy": "background" },
      },
      spec: {
        cluster: { name: id },
        instances: 1,
        type: "rw",
        pgbouncer: {
          poolMode: pooler.mode,
          parameters,
        },
        // The new one is there before the old one goes.
        deploymentStrategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
        template: {
          metadata: {},
          spec: {
            containers: [
              {
                name: "pgbouncer",
                image,
                resources: { requests: { cpu: "50m", memory }, limits: { memory } },
              },
            ],
          },
        },
      },
    },
    opts,
  );
}
