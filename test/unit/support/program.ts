import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import type { MockResourceArgs } from "@pulumi/pulumi/runtime/mocks";
import { MockMonitor } from "@pulumi/pulumi/runtime/mocks";
import { onTestFinished, vi } from "vitest";
import { parse } from "yaml";

const project = join(__dirname, "../../..");

/** A resource as the program asks the engine for it, what it inherits included. */
export interface Registration {
  type: string;
  name: string;
  /** Made by a provider, and no component. */
  custom: boolean;
  /** `TYPE NAME`, or the empty string for the stack itself. */
  parent: string;
  /** As on the wire: secrets are wrapped. */
  inputs: Record<string, unknown>;
  /** `TYPE NAME` of an explicit provider, else the empty string. */
  provider: string;
  /** `TYPE NAME` of those that must be there first. */
  dependencies: string[];
  /** By input, those that its value is from: their replacement replaces the resource too. */
  propertyDependencies: Record<string, string[]>;
  retainOnDelete: boolean;
  ignoreChanges: string[];
  replaceOnChanges: string[];
  /** Undefined: as the provider says. */
  deleteBeforeReplace: boolean | undefined;
  additionalSecretOutputs: string[];
}

export interface Graph {
  resources: Registration[];
  /** The stack's outputs as on the wire: secrets are wrapped. */
  outputs: Record<string, unknown>;
}

const graphs = new Map<string, Promise<Graph>>();

/**
 * What index.ts makes of a tenants.yaml with this text, against mocks; the same is not made twice. Backups, which
 * every tenant's graph would have, are off where the configuration does not say otherwise.
 */
export function runProgram(tenants: string, config: Record<string, string> = {}): Promise<Graph> {
  const key = JSON.stringify([tenants, config]);
  const graph = graphs.get(key) ?? run(tenants, config);
  graphs.set(key, graph);
  return graph;
}

async function run(tenants: string, config: Record<string, string>): Promise<Graph> {
  const tenantsFile = join(temporaryFolder(), "tenants.yaml");
  writeFileSync(tenantsFile, tenants);
  const register = vi.spyOn(MockMonitor.prototype, "registerResource");
  const registerOutputs = vi.spyOn(MockMonitor.prototype, "registerResourceOutputs");
  try {
    await pulumi.runtime.setMocks({ newResource, call }, "pgs", "test");
    configure({ "pgs:tenantsFile": tenantsFile, "pgs:backups": '{"schedule":"off"}', ...config });
    await runIndex();
    const outputs = registerOutputs.mock.calls.map(([request]) => request);
    return {
      resources: register.mock.calls.map(([request]) => registration(request)),
      outputs: outputs
        .find((request) => short(request.getUrn()).startsWith(pulumi.runtime.rootPulumiStackTypeName))
        .getOutputs()
        .toJavaScript(),
    };
  } finally {
    register.mockRestore();
    registerOutputs.mockRestore();
  }
}

/** Loads a fresh copy of index.ts as the stack's program, and waits until the last resource is registered. */
async function runIndex(): Promise<void> {
  vi.resetModules();
  const failures: unknown[] = [];
  await pulumi.runtime.runInPulumiStack(async () => {
    try {
      return { ...(await import("../../../index.js")) };
    } catch (error) {
      // Thrown from here, it would also fail every resource that has the stack for its parent.
      failures.push(error);
      return {};
    }
  });
  await pulumi.runtime.disconnect();
  if (failures.length > 0) throw failures[0];
}

/** Sets the stack's configuration, with Pulumi.yaml's defaults, which otherwise come from the engine. */
function configure(config: Record<string, string>): void {
  const declared: Record<string, { default: unknown }> = parse(
    readFileSync(join(project, "Pulumi.yaml"), "utf8"),
  ).config;
  const defaults = Object.entries(declared).map(([key, { default: value }]) => [
    `pgs:${key}`,
    typeof value === "object" ? JSON.stringify(value) : String(value),
  ]);
  pulumi.runtime.setAllConfig({ ...Object.fromEntries(defaults), ...config }, [
    "pgs:passwords",
    "pgs:acmeCredentials",
    "pgs:backupCredentials",
  ]);
}

/** A folder that goes with the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "pgs-unit-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** What the random provider makes up for a tenant. */
export function generatedPassword(id: string): string {
  return `generated-for-${id}`;
}

/** The stack's id, which its containers are labelled with. */
export const stackId = "test-5f0c9a3e21b4";

/** What the Docker engine calls an image. */
export function imageId(name: string): string {
  return `sha256:id-of-${name}`;
}

/** The parts of what a provider answers that the program goes on with. */
function newResource({ type, name, inputs }: MockResourceArgs) {
  const learnt: Record<string, Record<string, unknown>> = {
    "pgs:index:Container": { containerId: `engine-id-of-${name}` },
    "pgs:index:KubernetesOperator": { apiServer: { cidrs: ["10.0.0.1/32"], ports: [443, 6443] } },
    "random:index/randomId:RandomId": { hex: name === "stack" ? stackId : "0123456789abcdef" },
    "random:index/randomString:RandomString": { result: "3f9c1a" },
    "random:index/randomPassword:RandomPassword": { result: pulumi.secret(generatedPassword(name)) },
    "docker:index/remoteImage:RemoteImage": { imageId: imageId(inputs.name) },
    "tls:index/privateKey:PrivateKey": { privateKeyPem: pulumi.secret(`${name} key\n`) },
    "tls:index/selfSignedCert:SelfSignedCert": {
      certPem: `${name} certificate\n`,
      validityEndTime: "2100-01-01T00:00:00Z",
    },
    "tls:index/certRequest:CertRequest": { certRequestPem: `${name} request\n` },
    "tls:index/locallySignedCert:LocallySignedCert": { certPem: `${name} certificate\n` },
  };
  return { id: `id-of-${name}`, state: { ...inputs, ...learnt[type] } };
}

/** No answer of a provider's functions is needed. */
function call(): never {
  throw new Error("the program calls no function of a provider");
}

// biome-ignore lint/suspicious/noExplicitAny: the SDK declares no type for its requests
function registration(request: any): Registration {
  return {
    type: request.getType(),
    name: request.getName(),
    custom: request.getCustom(),
    parent: short(request.getParent()),
    inputs: request.getObject().toJavaScript(),
    provider: short(request.getProvider()),
    dependencies: request.getDependenciesList().map(short),
    propertyDependencies: Object.fromEntries(
      request
        .getPropertydependenciesMap()
        .getEntryList()
        .map(([input]: [string]) => [
          input,
          request.getPropertydependenciesMap().get(input).getUrnsList().map(short),
        ]),
    ),
    retainOnDelete: request.getRetainondelete(),
    ignoreChanges: request.getIgnorechangesList(),
    replaceOnChanges: request.getReplaceonchangesList(),
    deleteBeforeReplace: request.getDeletebeforereplacedefined()
      ? request.getDeletebeforereplace()
      : undefined,
    additionalSecretOutputs: request.getAdditionalsecretoutputsList(),
  };
}

/** `TYPE NAME` of urn:pulumi:STACK::PROJECT::PARENT$TYPE::NAME, also with ::ID after it. */
function short(urn: string): string {
  const [, , types, name] = urn.split("::");
  return types && name ? `${types.split("$").at(-1)} ${name}` : "";
}
