import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { printable } from "../../docker/exec";
import {
  type ClusterAddress,
  ifPresent,
  type KubernetesClient,
  kubernetesClient,
} from "../../kubernetes/client";
import type { PodName } from "../../kubernetes/exec";
import { hardened, plainPod, plainUser } from "../../kubernetes/hardening";
import { backupFolder } from "../../kubernetes/names";
import { otherSource } from "../made-from";
import type { ResourceType } from "../resource-type";

/** What a tenant is restored from: the folder in the bucket that CloudNativePG reads. */
export interface RestoreSourceInputs extends ClusterAddress {
  /** Of the new tenant. */
  namespace: string;
  /** The new tenant's id. */
  tenant: string;
  /** Id of the tenant whose backups are restored. */
  from: string;
  /** Its namespace, if this stack has it. */
  fromNamespace: string;
  /** As of when: ISO 8601 with a time zone. Without one, the end of what was backed up. */
  at?: string;
  /** PostgreSQL's major version, of the new tenant. */
  version: number;
  /** Of its servers, with Python and what Barman's cloud commands need. */
  image: string;
  /** Such as s3://acme-backups/pgs. */
  destination: string;
  /** URL of the S3 server; without it, that of AWS. */
  endpoint?: string;
  /** How the S3 server encrypts. */
  encryption: string;
  /** Name of the Secret with accessKeyId, secretAccessKey and region. */
  credentials: string;
}

export interface RestoreSourceState extends RestoreSourceInputs {
  /** Below the folder of the tenant whose backups they are. */
  folder: string;
}

/** What was copied by a stack on Docker goes through it. */
const seconds = 4 * 3600;

const root = join(__dirname, "..", "..");
const program = join(root, "restore/from-bucket.py");
const library = join(root, "backups/image/pgs_offsite");

export const RestoreSource: ResourceType<RestoreSourceInputs, RestoreSourceState> = {
  updatable: [],
  replacing: ["namespace"],

  check: otherSource,

  async create(inputs) {
    const client = await kubernetesClient(inputs);
    const pod = podOf(inputs);
    try {
      // Of a run that was cut off.
      await remove(client, pod);
      await start(client, pod, inputs);
      const { folder, problem } = await answerOf(client, pod);
      if (folder === undefined) throw new Error(printable(problem ?? "no answer", 1000));
      return { id: `${pod.namespace}/${inputs.from}`, state: { ...inputs, folder } };
    } catch (error) {
      throw new Error(`restore of ${inputs.from} into ${inputs.namespace}: ${(error as Error).message}`);
    } finally {
      await remove(client, pod).catch(() => undefined);
    }
  },

  async read(_id, state) {
    return state;
  },

  async update(_id, state, inputs) {
    return { ...inputs, folder: state.folder };
  },

  async delete() {
    // The bucket's objects stay.
  },
};

/** What a run that was killed has left. */
export async function removeRestoreSource(
  client: KubernetesClient,
  tenant: Pick<RestoreSourceInputs, "namespace" | "tenant">,
): Promise<void> {
  await remove(client, podOf(tenant));
}

function podOf({ namespace, tenant }: Pick<RestoreSourceInputs, "namespace" | "tenant">): PodName {
  return { namespace, name: `${tenant}-restore-source` };
}

/** @throws Error when the pod is not gone after a minute */
async function remove({ core }: KubernetesClient, { namespace, name }: PodName): Promise<void> {
  const deadline = Date.now() + 60_000;
  await ifPresent(core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 0 }));
  await ifPresent(core.deleteNamespacedConfigMap({ namespace, name }));
  while ((await ifPresent(core.readNamespacedPod({ namespace, name }))) !== undefined) {
    if (Date.now() > deadline) throw new Error(`the pod ${name} does not go`);
    await delay(300);
  }
}

async function start({ core }: KubernetesClient, { namespace, name }: PodName, inputs: RestoreSourceInputs) {
  const modules = readdirSync(library).filter((file) => file.endsWith(".py"));
  const data = Object.fromEntries([
    ["main.py", readFileSync(program, "utf8")],
    ...modules.map((file) => [`pgs_offsite.${file}`, readFileSync(join(library, file), "utf8")]),
  ]);
  const items = [
    { key: "main.py", path: "main.py" },
    ...modules.map((file) => ({ key: `pgs_offsite.${file}`, path: `pgs_offsite/${file}` })),
  ];
  const { destination, endpoint, encryption, from, at, version, image, credentials } = inputs;
  const { metadata } = (await ifPresent(core.readNamespace({ name: inputs.fromNamespace }))) ?? {};
  const own = metadata?.uid && backupFolder(metadata.uid);
  const asked = JSON.stringify({ destination, endpoint, encryption, tenant: from, own, at, version });
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name }, data } });
  await core.createNamespacedPod({
    namespace,
    body: {
      metadata: { name },
      spec: {
        ...plainPod,
        activeDeadlineSeconds: seconds,
        securityContext: plainUser,
        containers: [
          {
            name: "restore-source",
            image,
            command: ["python3", "/pgs/program/main.py", asked],
            env: [
              { name: "PYTHONDONTWRITEBYTECODE", value: "1" },
              { name: "HOME", value: "/nonexistent" },
            ],
            resources: { requests: { cpu: "50m", memory: "128Mi" }, limits: { cpu: "1", memory: "512Mi" } },
            securityContext: hardened,
            volumeMounts: [
              { name: "program", mountPath: "/pgs/program", readOnly: true },
              { name: "credentials", mountPath: "/pgs/credentials", readOnly: true },
            ],
          },
        ],
        volumes: [
          { name: "program", configMap: { name, items } },
          { name: "credentials", secret: { secretName: credentials } },
        ],
      },
    },
  });
}

async function answerOf({ core }: KubernetesClient, { namespace, name }: PodName) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const pod = await ifPresent(core.readNamespacedPod({ namespace, name }));
    if (pod === undefined) throw new Error(`the pod ${name} was deleted`);
    const [container] = pod.status?.containerStatuses ?? [];
    const ended = container?.state?.terminated;
    if (ended) return answer(ended.message ?? "", ended.reason ?? "");
    const waiting = container?.state?.waiting;
    if (
      waiting &&
      /InvalidImageName|CreateContainerConfigError|ImagePullBackOff/.test(waiting.reason ?? "")
    ) {
      throw new Error(`${waiting.reason}: ${waiting.message ?? ""}`);
    }
    if (Date.now() > deadline) throw new Error(`no answer after ${seconds} s`);
    await delay(500);
  }
}

/** Of the program, or of what ended it. */
function answer(text: string, reason: string): { folder?: string; problem?: string } {
  try {
    const { folder, problem } = JSON.parse(text);
    if (typeof folder === "string" && /^[A-Za-z0-9-]{1,100}$/.test(folder)) return { folder };
    return { problem: String(problem) };
  } catch {
    return { problem: text || `it ended with ${reason}` };
  }
}
