import type { Client } from "pg";
import type { Checkout } from "./checkout";
import { run, succeed } from "./command";

/** Runs a bash script in a tenant's container, as the user that its server runs as. @returns all that it printed */
export async function inContainer(checkout: Checkout, id: string, script: string): Promise<string> {
  return (await run("docker", ["exec", checkout.name(id), "bash", "-c", script])).output;
}

/** The same as a tenant can do it: as its server's superuser, over the public port, by COPY … FROM PROGRAM. */
export async function bySql(checkout: Checkout, id: string, script: string): Promise<string> {
  const client = await checkout.client(id);
  try {
    return await byProgram(client, script);
  } finally {
    await client.end();
  }
}

/** The same in a session that is open. */
export async function byProgram(client: Client, script: string): Promise<string> {
  // In base64 nothing needs quoting, and the answer is one line.
  const encoded = Buffer.from(script).toString("base64");
  await client.query("CREATE TEMP TABLE IF NOT EXISTS answer (line text); TRUNCATE answer");
  await client.query(`COPY answer FROM PROGRAM 'echo ${encoded} | base64 -d | bash 2>&1 | base64 -w0; echo'`);
  const { rows } = await client.query("SELECT coalesce(string_agg(line, ''), '') AS line FROM answer");
  return Buffer.from(rows[0].line, "base64").toString();
}

/** By `address:port`, whether a TCP connection can be opened from where `shell` runs its script. */
export async function connectTo(
  shell: (script: string) => Promise<string>,
  targets: string[],
): Promise<Record<string, "open" | "closed">> {
  const attempts = targets.map((target) => {
    const path = `/dev/tcp/${target.replace(/:(\d+)$/, "/$1")}`;
    return `(timeout 6 bash -c '<${path}' 2>/dev/null && echo '${target} open' || echo '${target} closed') &`;
  });
  const lines = (await shell(`${attempts.join("\n")}\nwait`)).trim().split("\n");
  return Object.fromEntries(lines.map((line) => line.split(" ")));
}

interface ContainerInfo {
  Id: string;
  Name: string;
  RestartCount: number;
  Image: string;
  Config: { Entrypoint: string[]; Cmd: string[] };
  State: { StartedAt: string; OOMKilled: boolean; Pid: number };
  HostConfig: Record<string, unknown>;
  Mounts: { Type: string; Name?: string; Destination: string; RW: boolean }[];
  NetworkSettings: {
    Ports: Record<string, { HostPort: string }[] | null>;
    Networks: Record<string, { IPAddress: string }>;
  };
}

export async function inspect(name: string): Promise<ContainerInfo> {
  return JSON.parse(await succeed("docker", ["container", "inspect", name]))[0];
}

/** Anonymous volumes of the stack's containers: the engine makes them where an image declares a volume, and keeps them. */
export async function anonymousVolumes({ prefix }: Checkout): Promise<string[]> {
  const names = (await succeed("docker", ["ps", "--all", "--format", "{{.Names}}"])).trim().split("\n");
  const infos = await Promise.all(names.filter((name) => name.startsWith(`${prefix}-`)).map(inspect));
  return infos.flatMap(({ Name, Mounts }) =>
    Mounts.flatMap((mount) =>
      /^[0-9a-f]{64}$/.test(mount.Name ?? "") ? [`${Name}:${mount.Destination}`] : [],
    ),
  );
}

/** A container's address in a network; empty when it is not attached. */
export async function addressOf(container: string, network: string): Promise<string> {
  return (await inspect(container)).NetworkSettings.Networks[network]?.IPAddress ?? "";
}

interface NetworkInfo {
  Internal: boolean;
  Containers: Record<string, { Name: string }>;
  IPAM: { Config: { Subnet: string; Gateway?: string }[] };
}

export async function inspectNetworks(names: string[]): Promise<NetworkInfo[]> {
  return JSON.parse(await succeed("docker", ["network", "inspect", ...names]));
}

/** A neighbour's client: one session that asks all the time, until it is told to stop. */
export async function keepAsking(checkout: Checkout, id: string) {
  const client = await checkout.client(id);
  const found = { queries: 0, failed: 0, slowest: 0 };
  let asking = true;
  const asked = (async () => {
    while (asking) {
      const started = performance.now();
      await client.query("SELECT 1").then(
        () => found.queries++,
        () => found.failed++,
      );
      found.slowest = Math.max(found.slowest, Math.round(performance.now() - started));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await client.end();
    return found;
  })();
  return {
    stop: () => {
      asking = false;
      return asked;
    },
  };
}
