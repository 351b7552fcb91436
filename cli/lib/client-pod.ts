import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { ifPresent, type KubernetesClient, readable } from "../../kubernetes/client";
import { type PodName, serverContainer } from "../../kubernetes/exec";
import { hardened, plainPod, plainUser } from "../../kubernetes/hardening";
import { clientRole, labels } from "../../kubernetes/names";
import { execStreams } from "../../kubernetes/stream";
import { conninfo } from "./address";
import { type ClientStreams, lines } from "./client-stream";
import { onInterrupt } from "./interrupt";
import { primaryOf } from "./kubernetes";
import { CommandError } from "./pulumi";
import type { TenantLogin } from "./tenant-login";

/** Where the files lie in the pod. */
const inside = { pgpass: "/tmp/pgpass", ca: "/ca/ca.crt" };

/** Seconds until it has to run. */
const startSeconds = 300;

/** Seconds that it is there at most, where the command that made it was killed. */
const lifetime = 24 * 3600;

/** It ends with the program, or where that never came, after its lifetime. */
const wait = "trap 'exit 0' TERM; sleep infinity & wait";

/**
 * Standard input is the password file, whose length is `$1`; then the program's input, in parts of which each has its
 * length in a line before it, and the line `end`. Without that line, as when the connection is cut, the program is ended
 * before it can take a part of its input for the whole. The pod ends a moment later, so that the exit code is still the
 * program's.
 */
const script = `
  trap '(sleep 5; kill 1) </dev/null >/dev/null 2>&1 3>&- &' EXIT
  umask 077
  head -c "$1" >${inside.pgpass}
  shift
  mkfifo /tmp/input
  "$@" </tmp/input &
  program=$!
  exec 3>/tmp/input
  cut=true
  while IFS= read -r length; do
    if [ "$length" = end ]; then cut=false; break; fi
    # A program that has ended reads no more: its exit code says why.
    head -c "$length" >&3 || { cut=false; break; }
  done
  if [ "$cut" = true ]; then kill -KILL "$program"; fi
  exec 3>&-
  wait "$program"`;

export interface PodProgram {
  /** One of PostgreSQL's client programs. */
  program: string;
  /** Its arguments, once it is known how it connects: a connection string of libpq, without the password. */
  args: (connection: string) => string[];
  /** `NAME=VALUE`, nothing secret. */
  env?: string[];
}

/**
 * Runs a client program of the tenant's image in a pod of its own beside its servers, to its end. A script that it reads
 * may be hostile: it finds the tenant's password there and nothing else, and not the server's files.
 * @returns its exit code
 * @throws what `input` or `output` threw; CommandError when a signal came, or the cluster was cut off
 */
export async function runInClientPod(
  { id, tenant, config, pgpass }: TenantLogin,
  { program, args, env = [] }: PodProgram,
  { input, output, line }: ClientStreams,
): Promise<number> {
  const { client, pod: primary } = await primaryOf(id, tenant, config);
  const connection = conninfo({
    // That of the server's certificate.
    host: `${id}-rw.${primary.namespace}.svc`,
    port: "5432",
    dbname: tenant.database,
    user: tenant.user,
    sslmode: "verify-full",
    sslrootcert: inside.ca,
    passfile: inside.pgpass,
  });
  const command = ["sh", "-c", script, "sh", String(Buffer.byteLength(pgpass)), "env", ...env, program];
  const interrupted = new AbortController();
  const off = onInterrupt(() => interrupted.abort());
  const pod = { namespace: primary.namespace, name: `${id}-client-${randomBytes(4).toString("hex")}` };
  try {
    await removeEnded(client, pod.namespace);
    await start(client, pod, id, primary, interrupted.signal);
    let text = "";
    const code = await execStreams(
      client,
      { ...pod, container: "client" },
      [...command, ...args(connection)],
      {
        input: framed(pgpass, input),
        output,
        errors: (chunk) => {
          text = lines(text + chunk.toString("utf8"), line);
        },
        signal: interrupted.signal,
      },
    );
    if (text) line(text);
    return code;
  } catch (error) {
    if (interrupted.signal.aborted) throw new CommandError("interrupted", 130);
    throw error;
  } finally {
    off();
    await remove(client, pod).catch(() => {});
  }
}

async function* framed(pgpass: string, input: AsyncIterable<Buffer> = none()): AsyncGenerator<Buffer> {
  yield Buffer.from(pgpass);
  for await (const chunk of input) {
    if (chunk.length > 0) yield Buffer.concat([Buffer.from(`${chunk.length}\n`), chunk]);
  }
  yield Buffer.from("end\n");
}

async function* none(): AsyncGenerator<Buffer> {}

async function start(
  client: KubernetesClient,
  pod: PodName,
  id: string,
  primary: PodName,
  signal: AbortSignal,
): Promise<void> {
  const { spec } = await client.core.readNamespacedPod(primary).catch((error) => {
    throw new CommandError(readable(error).message);
  });
  const server = spec?.containers.find(({ name }) => name === serverContainer);
  await client.core
    .createNamespacedPod({
      namespace: pod.namespace,
      body: {
        metadata: { name: pod.name, labels: { [labels.tenant]: id, [labels.role]: clientRole } },
        spec: {
          ...plainPod,
          activeDeadlineSeconds: lifetime,
          terminationGracePeriodSeconds: 0,
          securityContext: { ...plainUser, runAsGroup: 26, fsGroup: 26 },
          containers: [
            {
              name: "client",
              image: server?.image,
              command: ["sh", "-c", wait],
              env: [
                { name: "HOME", value: "/tmp" },
                { name: "LANG", value: "C.UTF-8" },
                { name: "PSQL_HISTORY", value: "/dev/null" },
              ],
              resources: { requests: { cpu: "50m", memory: "64Mi" }, limits: { memory: "1Gi" } },
              securityContext: hardened,
              volumeMounts: [
                { name: "tmp", mountPath: "/tmp" },
                { name: "ca", mountPath: "/ca", readOnly: true },
              ],
            },
          ],
          volumes: [
            { name: "tmp", emptyDir: { medium: "Memory", sizeLimit: "64Mi" } },
            // Its key stays where it is.
            { name: "ca", secret: { secretName: `${id}-ca`, items: [{ key: "ca.crt", path: "ca.crt" }] } },
          ],
        },
      },
    })
    .catch((error) => {
      throw new CommandError(readable(error).message);
    });
  const deadline = Date.now() + startSeconds * 1000;
  for (;;) {
    const { status } = await client.core.readNamespacedPod(pod);
    if (status?.phase === "Running") return;
    if (signal.aborted) throw new CommandError("interrupted", 130);
    if (Date.now() > deadline || status?.phase === "Failed") {
      const { waiting } = status?.containerStatuses?.[0]?.state ?? {};
      const why = [
        ...(status?.conditions ?? []).map(({ message }) => message),
        waiting?.reason,
        waiting?.message,
      ];
      throw new CommandError(
        `the pod for it does not start: ${why.filter(Boolean).join("; ") || status?.phase}`,
      );
    }
    await delay(200);
  }
}

/** What commands that were killed have left. */
async function removeEnded(client: KubernetesClient, namespace: string): Promise<void> {
  const labelSelector = `${labels.role}=${clientRole}`;
  const { items } = await client.core.listNamespacedPod({ namespace, labelSelector }).catch((error) => {
    throw new CommandError(readable(error).message);
  });
  for (const { metadata, status } of items) {
    const ended = status?.phase === "Succeeded" || status?.phase === "Failed";
    if (ended && metadata?.name) await remove(client, { namespace, name: metadata.name });
  }
}

async function remove({ core }: KubernetesClient, { namespace, name }: PodName): Promise<void> {
  await ifPresent(core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 0 }));
}
