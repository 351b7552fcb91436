import { join } from "node:path";
import { stringify } from "yaml";
import { run, succeed } from "./command";

const root = join(__dirname, "..", "..", "..");

/** The small real cluster of the toolchain: a kubelet, an API server, storage and DNS, in namespaces of this machine. */
export class TestCluster {
  private constructor(
    /** Path of its kubeconfig. */
    readonly kubeconfig: string,
    /** CloudNativePG's manifest. */
    readonly operatorManifest: string,
    private readonly kubectlPath: string,
  ) {}

  static async start(): Promise<TestCluster> {
    const said = await succeed(join(root, "toolchain/cluster"), ["up"], { timeout: 900 });
    const of = (name: string) => new RegExp(`^${name}=(.+)$`, "m").exec(said)?.[1] ?? "";
    return new TestCluster(of("KUBECONFIG"), of("CNPG_MANIFEST"), of("KUBECTL"));
  }

  async kubectl(...args: string[]): Promise<string> {
    return succeed(this.kubectlPath, ["--kubeconfig", this.kubeconfig, ...args]);
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

  async remove(): Promise<void> {
    await run(join(root, "toolchain/cluster"), ["down"], { timeout: 120 });
  }
}

/** The kinds of objects that Traefik reads, without the schemas that its own definitions have. */
export function traefikDefinitions(): string {
  const kinds = [
    ...["IngressRoute", "IngressRouteTCP", "IngressRouteUDP", "Middleware", "MiddlewareTCP"],
    ...["ServersTransport", "ServersTransportTCP", "TLSOption", "TLSStore", "TraefikService"],
  ];
  return kinds
    .map((kind) => {
      const [singular, plural] = [kind.toLowerCase(), `${kind.toLowerCase()}s`];
      const schema = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
      return stringify({
        apiVersion: "apiextensions.k8s.io/v1",
        kind: "CustomResourceDefinition",
        metadata: { name: `${plural}.traefik.io` },
        spec: {
          group: "traefik.io",
          scope: "Namespaced",
          names: { kind, listKind: `${kind}List`, plural, singular },
          versions: [{ name: "v1alpha1", served: true, storage: true, schema: { openAPIV3Schema: schema } }],
        },
      });
    })
    .join("---\n");
}
