import { answerSeconds, type SessionKind } from "../../docker/session-options";
import type { KubernetesClient } from "../../kubernetes/client";
import { readCluster } from "../../kubernetes/clusters";
import { askServer, type Output, type PodName } from "../../kubernetes/exec";
import { type SqlSession, scriptSeconds, wholeScript } from "../server/session";

/** The server of a tenant that is its primary now, asked in its pod. */
export class PrimarySession implements SqlSession {
  private constructor(
    private readonly client: KubernetesClient,
    private readonly pod: PodName,
    private readonly version: number,
    readonly tenant: string,
  ) {}

  /** @throws Error where there is none */
  static async open(
    client: KubernetesClient,
    { namespace, tenant, version }: { namespace: string; tenant: string; version: number },
  ): Promise<PrimarySession> {
    const { currentPrimary } = (await readCluster(client, namespace, tenant))?.status ?? {};
    if (!currentPrimary) throw new Error(`${namespace}/${tenant} has no primary`);
    return new PrimarySession(client, { namespace, name: currentPrimary }, version, tenant);
  }

  async run(sql: string, options: { database?: string; seconds?: number } = {}): Promise<string> {
    return (await this.ask("change", sql, options)).stdout.trim();
  }

  async read(sql: string, options: { database?: string; seconds?: number } = {}): Promise<string> {
    return (await this.ask("read", sql, options)).stdout.trim();
  }

  script(sql: string, database: string): Promise<void> {
    const options = { database, seconds: scriptSeconds };
    return wholeScript(sql, async (text) => (await this.ask("script", text, options)).stderr);
  }

  private ask(
    kind: SessionKind,
    sql: string,
    { database, seconds = answerSeconds }: { database?: string; seconds?: number },
  ): Promise<Output> {
    return askServer(this.client, this.pod, { version: this.version, kind, sql, database, seconds });
  }
}
