import { isDeepStrictEqual } from "node:util";
import { log } from "@pulumi/pulumi";
import type * as pulumi from "@pulumi/pulumi/provider";
import { clearCache } from "../docker/cache";
import { version } from "../package.json";
import { AcmeCertificate } from "./acme-certificate";
import { Attachment } from "./attachment";
import { BackupDestination } from "./backup-destination";
import { FormerBackup } from "./former-backup";
import { Network } from "./network";
import { PostgresServer } from "./postgres-server";
import { IncompleteError, type ResourceType } from "./resource-type";
import { Restore } from "./restore";
import { demandParts } from "./stack-container";
import { takeStock } from "./stock";
import { TraefikFile } from "./traefik-file";
import { isUnknown, secretsIn, unwrap, wrap } from "./wire";

/** A resource's fields as they come over the wire: the type's own module knows which they are. */
type Fields = Record<string, unknown>;

const types: Record<string, ResourceType<Fields>> = {
  "pgs:index:AcmeCertificate": AcmeCertificate as unknown as ResourceType<Fields>,
  "pgs:index:Attachment": Attachment as unknown as ResourceType<Fields>,
  "pgs:index:Backup": FormerBackup as unknown as ResourceType<Fields>,
  "pgs:index:BackupDestination": BackupDestination as unknown as ResourceType<Fields>,
  "pgs:index:Network": Network as unknown as ResourceType<Fields>,
  "pgs:index:PostgresServer": PostgresServer as unknown as ResourceType<Fields>,
  "pgs:index:Restore": Restore as unknown as ResourceType<Fields>,
  "pgs:index:TraefikFile": TraefikFile as unknown as ResourceType<Fields>,
};

/** What a program can ask, and have done, before there is a resource. */
const questions: Record<string, (inputs: never) => Promise<object>> = {
  "pgs:index:takeStock": takeStock,
  "pgs:index:demandParts": demandParts,
};

/** Translates between Pulumi's protocol and the resource types. */
export class Provider implements pulumi.Provider {
  readonly version = version;

  async check(urn: string, olds: unknown, news: unknown): Promise<pulumi.CheckResult> {
    const type = typeOf(urn);
    const wanted = known(news);
    const inputs = { ...(news as Fields), ...type.derived?.(wanted) };
    return { inputs, failures: (await type.check?.(wanted, known(olds))) ?? [] };
  }

  /** Compares with what is really there: so each plan sees what was changed by hand, without a refresh. */
  async diff(id: string, urn: string, olds: unknown, news: unknown): Promise<pulumi.DiffResult> {
    const type = typeOf(urn);
    const before = unwrap(olds) as Fields;
    const after = unwrap(news) as Fields;
    const replaces = type.replacing.filter((key) => !isDeepStrictEqual(before[key], after[key]));
    if (replaces.length > 0) return { changes: true, replaces, deleteBeforeReplace: true };
    const differing = (fields: Fields) =>
      type.updatable.filter((key) => !isDeepStrictEqual(fields[key], after[key]));
    let changes = differing(before).length > 0;
    if (!changes) {
      const present = await (type.look ?? type.read)(id, before);
      const byHand = present && differing(present);
      changes = byHand?.length !== 0;
      if (changes) {
        const what = `${urn.split(/[$:]/).at(-3)} ${urn.split("::").at(-1)}`;
        const how = byHand ? `was changed by hand (${byHand.join(", ")})` : "is gone";
        await log.info(`${what} ${how}: an up puts it right`);
      }
    }
    const remark = await type.remark?.(before, known(news));
    if (remark) await log.warn(remark);
    return { changes, replaces, deleteBeforeReplace: true };
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

  async invoke(token: string, inputs: unknown): Promise<pulumi.InvokeResult> {
    const question = questions[token];
    if (!question) throw new Error(`the pgs provider has no function ${token}`);
    return { outputs: wrap(await question(unwrap(inputs) as never), []) };
  }

  async delete(id: string, urn: string, props: unknown): Promise<void> {
    await changing(() => typeOf(urn).delete(id, unwrap(props) as Fields));
  }
}

/** What was learnt of the engine before it or during it says nothing of the time after it. */
async function changing<T>(change: () => Promise<T>): Promise<T> {
  clearCache();
  try {
    return await change();
  } finally {
    clearCache();
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
