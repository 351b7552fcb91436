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

  /** Builds what is missing, which takes a quarter of an hour once. */
  static async start(): Promise<TestCluster> {
    const running = process.env.PGS_TEST_KUBECONFIG;
    if (running) return new TestCluster(running, true);
    if (existsSync(join(cache, "cluster/kubeconfig"))) {
      throw new Error(
        "there is a cluster already, which this test would wipe: ./pgs setup --cluster down --wipe does so, too",
      );
    }
    const said = await succeed(toolchain, ["up", "--nodes", "1"], { timeout: 1800 });
    return new TestCluster(said.trim().split("\n").at(-1) ?? "", false);
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

  /** An object as the API server has it. */
  async get(kind: string, name: string, namespace: string) {
    return JSON.parse(await this.kubectl("--namespace", namespace, "get", kind, name, "--output", "json"));
  }

  /** Address of a node: ports of pods that are ports of their node too answer there. */
  async nodeAddress(): Promise<string> {
    const path = "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}";
    return this.kubectl("get", "nodes", "--output", path);
  }

  /** On a cluster that stays, nothing of a stack may: its tenants' data does after a destroy. */
  async removeStack(stack: Checkout): Promise<void> {
    await stack.pgs(["destroy", "--yes"]);
    const all = (await this.kubectl("get", "namespaces", "-o", "name")).split("\n");
    const own = all.filter((name) => name.startsWith(`namespace/${stack.prefix}-`));
    if (own.length > 0) await this.kubectl("delete", ...own, "--wait=false");
  }

  async remove(): Promise<void> {
    if (this.shared) return;
    await run(toolchain, ["down", "--wipe"], { timeout: 120 });
  }
}
