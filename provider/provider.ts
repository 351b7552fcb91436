import { isDeepStrictEqual } from "node:util";
import { log } from "@pulumi/pulumi";
import type * as pulumi from "@pulumi/pulumi/provider";
import { AcmeCertificate } from "./acme-certificate";
import { Attachment } from "./attachment";
import { Backup } from "./backup";
import { BackupDestination } from "./backup-destination";
import { forgetAnswers } from "./engine";
import { Network } from "./network";
import { PostgresServer } from "./postgres-server";
import { IncompleteError, type ResourceType } from "./resource-type";
import { Restore } from "./restore";
import { TraefikFile } from "./traefik-file";
import { isUnknown, secretsIn, unwrap, wrap } from "./wire";

/** A resource's fields as they come over the wire: the type's own module knows which they are. */
type Fields = Record<string, unknown>;

const types: Record<string, ResourceType<Fields>> = {
  "pgs:index:AcmeCertificate": AcmeCertificate as unknown as ResourceType<Fields>,
  "pgs:index:Attachment": Attachment as unknown as ResourceType<Fields>,
  "pgs:index:Backup": Backup as unknown as ResourceType<Fields>,
  "pgs:index:BackupDestination": BackupDestination as unknown as ResourceType<Fields>,
  "pgs:index:Network": Network as unknown as ResourceType<Fields>,
  "pgs:index:PostgresServer": PostgresServer as unknown as ResourceType<Fields>,
  "pgs:index:Restore": Restore as unknown as ResourceType<Fields>,
  "pgs:index:TraefikFile": TraefikFile as unknown as ResourceType<Fields>,
};

/** Translates between Pulumi's protocol and the resource types. */
export class Provider implements pulumi.Provider {
  readonly version = "0.1.0";

  async check(urn: string, olds: unknown, news: unknown): Promise<pulumi.CheckResult> {
    return { failures: (await typeOf(urn).check?.(known(news), known(olds))) ?? [] };
  }

  async diff(_id: string, urn: string, olds: unknown, news: unknown): Promise<pulumi.DiffResult> {
    const type = typeOf(urn);
    const before = unwrap(olds) as Fields;
    const after = unwrap(news) as Fields;
    const differs = (key: string) => !isDeepStrictEqual(before[key], after[key]);
    const replaces = type.replacing.filter(differs);
    const remark = replaces.length === 0 && type.remark?.(before, known(news));
    if (remark) await log.warn(remark);
    return {
      changes: replaces.length > 0 || type.updatable.some(differs),
      replaces,
      deleteBeforeReplace: true,
    };
  }

  async create(urn: string, inputs: unknown): Promise<pulumi.CreateResult> {
    const { id, state } = await changing(() =>
      hidingSecrets(inputs, () => typeOf(urn).create(unwrap(inputs) as Fields)),
    );
    return { id, outs: wrap(state, secretsIn(inputs)) };
  }

  async read(id: string, urn: string, props: unknown): Promise<pulumi.ReadResult> {
    const state = await typeOf(urn).read(id, unwrap(props) as Fields);
    return state ? { id, props: wrap(state, secretsIn(props)) } : { id: "", props: {} };
  }

  async update(id: string, urn: string, olds: unknown, news: unknown): Promise<pulumi.UpdateResult> {
    const state = await changing(() =>
      hidingSecrets(news, () => typeOf(urn).update(id, unwrap(olds) as Fields, unwrap(news) as Fields)),
    );
    return { outs: wrap(state, secretsIn(news)) };
  }

  async delete(id: string, urn: string, props: unknown): Promise<void> {
    await changing(() => typeOf(urn).delete(id, unwrap(props) as Fields));
  }
}

/** What was learnt of the engine before it or during it says nothing of the time after it. */
async function changing<T>(change: () => Promise<T>): Promise<T> {
  forgetAnswers();
  try {
    return await change();
  } finally {
    forgetAnswers();
  }
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
