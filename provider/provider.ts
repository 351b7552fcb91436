import { isDeepStrictEqual } from "node:util";
import { log } from "@pulumi/pulumi";
import type * as pulumi from "@pulumi/pulumi/provider";
import { clearCache } from "../docker/cache";
import { version } from "../package.json";
import { AcmeCertificate } from "./acme-certificate";
import { BackupDestination } from "./backup-destination";
import { Container } from "./container";
import { FailuresLast } from "./failures";
import { ClientAddresses } from "./kubernetes/client-addresses";
import { ClusterRollout } from "./kubernetes/cluster-rollout";
import { TenantDatabase } from "./kubernetes/database";
import { KubernetesOperator } from "./kubernetes/operator";
import { RestoreSource } from "./kubernetes/restore-source";
import { TenantData } from "./kubernetes/tenant-data";
import { Platform } from "./platform";
import { Programs } from "./programs";
import { IncompleteError, type ResourceType } from "./resource-type";
import { Restore } from "./restore";
import { PostgresServer } from "./server";
import { TraefikFile } from "./traefik-file";
import { isUnknown, secretsIn, unwrap, wrap } from "./wire";

/** A resource's fields as they come over the wire: the type's own module knows which they are. */
type Fields = Record<string, unknown>;

const types: Record<string, ResourceType<Fields>> = {
  "pgs:index:AcmeCertificate": AcmeCertificate as unknown as ResourceType<Fields>,
  "pgs:index:BackupDestination": BackupDestination as unknown as ResourceType<Fields>,
  "pgs:index:ClusterRollout": ClusterRollout as unknown as ResourceType<Fields>,
  "pgs:index:Container": Container as unknown as ResourceType<Fields>,
  "pgs:index:KubernetesOperator": KubernetesOperator as unknown as ResourceType<Fields>,
  "pgs:index:Platform": Platform as unknown as ResourceType<Fields>,
  "pgs:index:PostgresServer": PostgresServer as unknown as ResourceType<Fields>,
  "pgs:index:Programs": Programs as unknown as ResourceType<Fields>,
  "pgs:index:Restore": Restore as unknown as ResourceType<Fields>,
  "pgs:index:RestoreSource": RestoreSource as unknown as ResourceType<Fields>,
  "pgs:index:TenantData": TenantData as unknown as ResourceType<Fields>,
  "pgs:index:ClientAddresses": ClientAddresses as unknown as ResourceType<Fields>,
  "pgs:index:TenantDatabase": TenantDatabase as unknown as ResourceType<Fields>,
  "pgs:index:TraefikFile": TraefikFile as unknown as ResourceType<Fields>,
};

/** Translates between Pulumi's protocol and the resource types. */
export class Provider implements pulumi.Provider {
  readonly version = version;
  private readonly failures: FailuresLast;

  /** @param pause as FailuresLast has it */
  constructor(pause?: number) {
    this.failures = new FailuresLast(pause);
  }

  check(urn: string, olds: unknown, news: unknown): Promise<pulumi.CheckResult> {
    return this.failures.plan(async () => {
      const type = typeOf(urn);
      const before = known(olds);
      const failures = (await type.check?.(known(news), before)) ?? [];
      const isNew = Object.keys(before).length === 0;
      const warnings =
        isNew && failures.length === 0 ? await type.creationWarnings?.(known(news)) : undefined;
      for (const warning of warnings ?? []) await log.warn(warning);
      return { inputs: news, failures };
    });
  }

  /** Compares with what is really there: so each plan sees what was changed by hand, without a refresh. */
  diff(id: string, urn: string, olds: unknown, news: unknown): Promise<pulumi.DiffResult> {
    return this.failures.plan(() => differences(id, urn, olds, news));
  }

  async create(urn: string, inputs: unknown): Promise<pulumi.CreateResult> {
    const { id, state } = await this.changing(() =>
      hidingSecrets(inputs, () => typeOf(urn).create(unwrap(inputs) as Fields)),
    );
    return { id, outs: wrap(state, secretsIn(inputs)) };
  }

  async read(id: string, urn: string, props: unknown): Promise<pulumi.ReadResult> {
    const state = await this.failures.plan(() => typeOf(urn).read(id, unwrap(props) as Fields));
    return state ? { id, props: wrap(state, secretsIn(props)) } : { id: "", props: {} };
  }

  async update(id: string, urn: string, olds: unknown, news: unknown): Promise<pulumi.UpdateResult> {
    const state = await this.changing(() =>
      hidingSecrets(news, () => typeOf(urn).update(id, unwrap(olds) as Fields, unwrap(news) as Fields)),
    );
    return { outs: wrap(state, secretsIn(news)) };
  }

  async delete(id: string, urn: string, props: unknown): Promise<void> {
    await this.changing(() => typeOf(urn).delete(id, unwrap(props) as Fields));
  }

  /** Clears the engine cache around each mutation. */
  private changing<T>(change: () => Promise<T>): Promise<T> {
    return this.failures.change(async () => {
      clearCache();
      try {
        return await change();
      } finally {
        clearCache();
      }
    });
  }
}

async function differences(
  id: string,
  urn: string,
  olds: unknown,
  news: unknown,
): Promise<pulumi.DiffResult> {
  const type = typeOf(urn);
  const before = unwrap(olds) as Fields;
  const after = unwrap(news) as Fields;
  const refusal = await type.refusal?.(before, after);
  if (refusal) throw new Error(refusal);
  const differing = (keys: readonly string[], fields: Fields) =>
    keys.filter((key) => !isDeepStrictEqual(fields[key], after[key]));
  const replaces = differing(type.replacing, before);
  if (replaces.length > 0) return { changes: true, replaces, deleteBeforeReplace: true };
  let changes = differing(type.updatable, before).length > 0;
  if (!changes) {
    const byHand = await driftOf(type, id, before, (present) => differing(type.updatable, present));
    changes = byHand?.length !== 0;
    if (changes) {
      const what = `${urn.split(/[$:]/).at(-3)} ${urn.split("::").at(-1)}`;
      const how = byHand ? `was changed by hand (${byHand.join(", ")})` : "is missing";
      await log.info(`${what} ${how}; \`pulumi up\` restores it`);
    }
  }
  // A part that is not known yet is taken to stay as it is.
  const expected = Object.entries(after).map(([key, value]) => [key, isUnknown(value) ? before[key] : value]);
  const warnings = (await type.planWarnings?.(before, Object.fromEntries(expected))) ?? [];
  for (const warning of warnings) await log.warn(warning);
  return { changes, replaces, deleteBeforeReplace: true };
}

/** What was changed by hand; undefined when the resource is gone. */
async function driftOf(
  type: ResourceType<Fields>,
  id: string,
  state: Fields,
  differing: (present: Fields) => string[],
): Promise<string[] | undefined> {
  if (type.drift) return type.drift(id, state);
  const present = await type.read(id, state);
  return present && differing(present);
}

function known(fields: unknown): Fields {
  const all = Object.entries((unwrap(fields) ?? {}) as Fields);
  return Object.fromEntries(all.filter(([, value]) => !isUnknown(value)));
}

function typeOf(urn: string): ResourceType<Fields> {
  // urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME
  const name = urn.split("::")[2]?.split("$").at(-1) ?? "";
  const type = types[name];
  if (!type) throw new Error(`the pgs provider has no resource type ${name}`);
  return type;
}

/** What was secret among the inputs stays so in the state, also in that of a half-made resource. */
async function hidingSecrets<T>(inputs: unknown, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof IncompleteError)) throw error;
    throw new IncompleteError(error.id, wrap(error.properties, secretsIn(inputs)), error);
  }
}
