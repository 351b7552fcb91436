import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { checkedSettings } from "../../../config";
import type { Checkout } from "./checkout";
import { run, succeed } from "./command";

const toolchain = join(__dirname, "..", "..", "..", "toolchain/cluster");
const cache = process.env.PGS_CACHE_DIR ?? join(homedir(), ".cache/pgs");

/** As toolchain/cluster makes it. */
const poolerImage = checkedSettings({}).poolerImage.replace("pgs-", "pgs-cnpg-");

/** The small real cluster of the toolchain: a kubelet, an API server, storage and DNS, in namespaces of this machine. */
export class TestCluster {
  /** The kinds of objects that Traefik reads, relative to a checkout. */
  private readonly proxyManifest = "toolchain/kubernetes/traefik-crds.yaml";
  /** CloudNativePG's manifest. */
  private readonly operatorManifest = join(cache, "artifacts/cnpg-1.28.0.yaml");

  private constructor(
    /** Path of its kubeconfig. */
    readonly kubeconfig: string,
    /** Whether it stays for others. */
    private readonly shared: boolean,
  ) {}

  /**
   * Builds what is missing, which takes a quarter of an hour once.
   * @param nodes how many; one that runs already, named by PGS_TEST_KUBECONFIG, gets as many
   */
  static async start(nodes = 1): Promise<TestCluster> {
    const running = process.env.PGS_TEST_KUBECONFIG;
    if (running && nodes === 1) return new TestCluster(running, true);
    if (!running && existsSync(join(cache, "cluster/kubeconfig"))) {
      throw new Error(
        "there is a cluster already, which this test would wipe: ./pgs setup --cluster down --wipe does so, too",
      );
    }
    const said = await succeed(toolchain, ["up", "--nodes", String(nodes)], { timeout: 1800 });
    return new TestCluster(said.trim().split("\n").at(-1) ?? "", running !== undefined);
  }

  /** For `Checkout.create`: a stack on it, for a machine with one node. */
  get config(): Record<string, string> {
    return {
      platform: "kubernetes",
      "kubernetes.kubeconfig": this.kubeconfig,
      "kubernetes.operatorManifest": this.operatorManifest,
      "kubernetes.proxyManifest": this.proxyManifest,
      "kubernetes.exposure": "hostPort",
      "kubernetes.proxyReplicas": "1",
      "kubernetes.images.pooler": poolerImage,
    };
  }

  /** For a line of a shell. */
  get shellKubectl(): string {
    return `${join(cache, "cluster/bin/kubectl")} --kubeconfig ${this.kubeconfig}`;
  }

  async kubectl(...args: string[]): Promise<string> {
    return succeed(join(cache, "cluster/bin/kubectl"), ["--kubeconfig", this.kubeconfig, ...args]);
  }

  /** Makes objects, or changes them. */
  async apply(...items: object[]): Promise<void> {
    const stdin = JSON.stringify({ apiVersion: "v1", kind: "List", items });
    await succeed(join(cache, "cluster/bin/kubectl"), ["--kubeconfig", this.kubeconfig, "apply", "-f", "-"], {
      stdin,
    });
  }

  /** An object as the API server has it. */
  async get(kind: string, name: string, namespace: string) {
    return JSON.parse(await this.kubectl("--namespace", namespace, "get", kind, name, "--output", "json"));
  }

  /** Cuts a node off the network, or brings it back. */
  async network(node: string, to: "connect" | "disconnect"): Promise<void> {
    await succeed(toolchain, [to, node]);
  }

  /** Address of a node: ports of pods that are ports of their node too answer there. */
  async nodeAddress(): Promise<string> {
    const path = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}";
    return this.kubectl("get", "nodes", "--output", path);
  }

  /** @param stack on it: a cluster that stays keeps nothing of it */
  async remove(stack: Pick<Checkout, "prefix"> | undefined): Promise<void> {
    if (this.shared) {
      if (!stack) return;
      const all = (await this.kubectl("get", "namespaces", "-o", "name")).split("\n");
      const own = all.filter((name) => name.startsWith(`namespace/${stack.prefix}-`));
      if (own.length > 0) await this.kubectl("delete", ...own, "--wait=false");
      return;
    }
    await run(toolchain, ["down", "--wipe"], { timeout: 120 });
  }
}
